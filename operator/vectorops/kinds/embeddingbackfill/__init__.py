"""EmbeddingBackfill: embeddings for the rows that have none, within a budget, and every row paid for once.

Run to completion. The truth is in the database: `embedding IS NULL` says what is left, the schema vectorops what was
paid and what cannot be embedded. Nothing outside has to be undone when the object goes, so it holds no finalizer.
"""

from __future__ import annotations

from vectorops.kinds.embeddingbackfill.act import act, stop
from vectorops.kinds.embeddingbackfill.figures import figures
from vectorops.kinds.embeddingbackfill.observe import observe
from vectorops.kinds.embeddingbackfill.plan import CHECKS
from vectorops.kinds.embeddingbackfill.resource import COLUMNS, Reason, Spec, Status
from vectorops.runtime.kind import Family, Grant, Kind, Names

KIND = Kind(
    names=Names("EmbeddingBackfill", "embeddingbackfills", "embeddingbackfill", "vfill"),
    family=Family.RUN_TO_COMPLETION,
    room="vectorops.kinds.embeddingbackfill",
    spec=Spec,
    status=Status,
    reasons=Reason,
    columns=COLUMNS,
    observe=observe,
    checks=CHECKS,
    act=act,
    figures=figures,
    grants=(
        Grant(
            "vectorops.dev",
            ("embeddingbackfills",),
            ("delete",),
            "spec.ttlSecondsAfterFinished of an EmbeddingBackfill",
        ),
        Grant(
            "",
            ("namespaces",),
            ("get",),
            "the uid of kube-system says which cluster a request is of that must not run twice",
            names=("kube-system",),
            cluster_wide=True,
        ),
    ),
    stop=stop,
)
