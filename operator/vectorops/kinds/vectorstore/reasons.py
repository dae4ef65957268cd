"""Every reason a VectorStore can show by itself, with what a person reading it should do.

Reasons that come from a neighbour (the database, a Secret) are in `vectorops.errors`.
"""

from __future__ import annotations

from vectorops.errors import Means, Reasons


class Why(Reasons):
    """Why Ready, or another condition of a VectorStore, is as it is."""

    # Ready
    StoreReady = "StoreReady", "Nothing: database, pgvector and declared tables were found.", Means.GOOD
    DimensionMismatch = (
        "DimensionMismatch",
        "Correct spec.embeddings.dimensions, or the column; vectors of two sizes never mix.",
        Means.WRONG,
    )
    # DatabaseReachable, ExtensionReady
    Reached = "Reached", "Nothing: the database answered.", Means.ASIDE
    Installed = "Installed", "Nothing: the extension vector is in the database.", Means.ASIDE
    # figures
    Healthy = "Healthy", "Nothing: the figure is on the good side of both thresholds.", Means.ASIDE
    Warning = (
        "Warning",
        "Mend it in office hours: for coverage create an EmbeddingBackfill with select Missing.",
        Means.ASIDE,
    )
    Critical = "Critical", "Mend it now: for coverage create an EmbeddingBackfill with select Missing.", Means.ASIDE
    NoFigures = "NoFigures", "The message says why there is no figure, and what would give one.", Means.ASIDE
    # SearchSettingsApplied
    SearchSettingsInPlace = (
        "SearchSettingsInPlace",
        "Nothing: new sessions of the role get what is declared.",
        Means.ASIDE,
    )
    SearchSettingsDiffer = "SearchSettingsDiffer", "Nothing: they are set in this moment.", Means.ASIDE
    SearchSettingsUnsupported = (
        "SearchSettingsUnsupported",
        "Update pgvector to 0.8 or newer, or remove the fields from spec.search; the others are set.",
        Means.ASIDE,
    )
    SearchSettingsConflict = (
        "SearchSettingsConflict",
        "Declare them in one VectorStore only; until then neither sets anything.",
        Means.ASIDE,
    )
    SearchRoleNotFound = "SearchRoleNotFound", "Correct spec.search.role, or create the role.", Means.ASIDE
    SearchRightMissing = (
        "SearchRightMissing",
        "Have an administrator run the GRANT that the message names.",
        Means.ASIDE,
    )
    SearchSettingsSet = (
        "SearchSettingsSet",
        "Nothing: word of an event; settings of the role were put right.",
        Means.ASIDE,
    )
    # VersionAdvisory
    UnsafeParallelBuild = (
        "UnsafeParallelBuild",
        "Update pgvector to 0.8.3 or newer; until then indexes are built without parallel workers.",
        Means.ASIDE,
    )
    VacuumCorruption = (
        "VacuumCorruption",
        "Update pgvector to 0.8.3 or newer, run ALTER EXTENSION vector UPDATE, then rebuild the HNSW indexes.",
        Means.ASIDE,
    )
