"""Every reason a VectorStore can show by itself, with what a person reading it should do.

Reasons that come from a neighbour (the database, a Secret) are in `vectorops.errors`.
"""

from __future__ import annotations

from vectorops.errors import Reasons


class Why(Reasons):
    """Why Ready, or another condition of a VectorStore, is as it is."""

    # Ready
    StoreReady = "StoreReady", "Nothing: database, pgvector and declared tables were found."
    DimensionMismatch = (
        "DimensionMismatch",
        "Correct spec.embeddings.dimensions, or the column; vectors of two sizes never mix.",
    )
    # DatabaseReachable, ExtensionReady
    Reached = "Reached", "Nothing: the database answered."
    Installed = "Installed", "Nothing: the extension vector is in the database."
    # figures
    Healthy = "Healthy", "Nothing: the figure is on the good side of both thresholds."
    Warning = "Warning", "Mend it in office hours: for coverage create an EmbeddingBackfill with select Missing."
    Critical = "Critical", "Mend it now: for coverage create an EmbeddingBackfill with select Missing."
    NoFigures = "NoFigures", "The message says why there is no figure, and what would give one."
    # VersionAdvisory
    UnsafeParallelBuild = (
        "UnsafeParallelBuild",
        "Update pgvector to 0.8.3 or newer; until then indexes are built without parallel workers.",
    )
    VacuumCorruption = (
        "VacuumCorruption",
        "Update pgvector to 0.8.3 or newer, run ALTER EXTENSION vector UPDATE, then rebuild the HNSW indexes.",
    )
