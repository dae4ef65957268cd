"""The VectorIndex as a person sees it: spec, status, columns.

Says what may be written and what is shown, and checks what the API server can check. Refuses knowledge of the
database: what needs a look at the table is decided in `plan.py`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.kinds.vectorindex.parts import Build, Hnsw, Ivfflat, Probe, Rebuild
from vectorops.runtime.api import (
    ApiModel,
    CommonSpec,
    CommonStatus,
    HistoryEntry,
    Identifier,
    Progress,
    Rule,
    ShortText,
    Token,
    immutable,
)
from vectorops.runtime.approval import Approval, PlanHash, PlanStatus
from vectorops.runtime.kind import Column
from vectorops.runtime.where import Conditions

Name = Annotated[str, Field(max_length=253)]
Words = Annotated[str, Field(max_length=64)]


class Metric(StrEnum):
    """How the service's queries measure distance; chooses the operator class."""

    COSINE = "Cosine"  # <=>
    L2 = "L2"  # <->
    INNER_PRODUCT = "InnerProduct"  # <#>
    L1 = "L1"  # <+>


class Storage(StrEnum):
    """What the index stores of a vector."""

    VECTOR = "Vector"  # 4 bytes a dimension
    HALFVEC = "HalfVec"  # 2 bytes a dimension
    BIT = "Bit"  # 1 bit a dimension: its sign


class Method(StrEnum):
    """The access method: `USING hnsw` or `USING ivfflat`."""

    HNSW = "HNSW"
    IVFFLAT = "IVFFlat"


class ManagementPolicy(StrEnum):
    """How much may be done to the index."""

    MANAGE = "Manage"
    ADOPT = "Adopt"
    OBSERVE = "Observe"


class DeletionPolicy(StrEnum):
    """What becomes of the index when this object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class VectorIndexSpec(CommonSpec):
    """The index you want: runbook, Rebuild HNSW Index."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *immutable(
            "storeRef",
            "schema",
            "table",
            "column",
            "metric",
            "storage",
            "where",
            "indexName",
            why="another index serves other queries, so it is a second VectorIndex.",
        ),
        Rule(rule="self.method != 'IVFFlat' || !has(self.hnsw)", message="hnsw is for method HNSW; remove it."),
        Rule(rule="self.method != 'HNSW' || !has(self.ivfflat)", message="ivfflat is for method IVFFlat; remove it."),
        Rule(
            rule="self.method != 'IVFFlat' || self.metric != 'L1' || (has(self.storage) && self.storage == 'Bit')",
            message="pgvector has no IVFFlat for metric L1; use method HNSW.",
        ),
        Rule(
            rule="has(self.indexName) || self.method == oldSelf.method",
            message="method is immutable while indexName is derived, for it is in the name; "
            "create a second VectorIndex.",
        ),
    )

    schema_name: Identifier = Field(
        default="public", alias="schema", description="Schema of the table, and so of the index."
    )
    table: Identifier = Field(description="ON <table>: an ordinary table; for a partitioned one, name a partition.")
    column: Identifier = Field(description="The column of type vector(n), halfvec(n) or bit(n) to be searched.")
    metric: Metric = Field(
        description="Operator class: Cosine <=>, L2 <->, InnerProduct <#>, L1 <+>, as in the service's queries."
    )
    storage: Storage = Field(
        default=Storage.VECTOR,
        description="Vector indexes the column as it is. HalfVec on a vector column indexes (column::halfvec(n)): half "
        "the size, and used only by queries written with that cast. Bit indexes binary_quantize(column)::bit(n) by "
        "Hamming distance whatever the metric: a thirtieth of the size, for queries that order its answer again.",
    )
    where: Conditions | None = Field(
        default=None,
        description="Partial index: only rows that meet all conditions, used by queries that have the same ones.",
    )
    index_name: Identifier | None = Field(
        default=None,
        description="Name of the index. Absent: idx_<table>_<column>_<method>, cut to 63 bytes; with _bit for storage "
        "Bit and a hash for `where`.",
    )
    method: Method = Field(default=Method.HNSW, description="USING hnsw or ivfflat.")
    hnsw: Hnsw | None = Field(
        default=None, description="WITH clause of an HNSW index. Absent: m 24, efConstruction 100."
    )
    ivfflat: Ivfflat | None = Field(default=None, description="WITH clause of an IVFFlat index.")
    build: Build = Field(default_factory=Build, description="How a build may use the server.")
    management_policy: ManagementPolicy = Field(
        default=ManagementPolicy.MANAGE,
        description="Manage builds, rebuilds and (with deletionPolicy Delete) drops. Adopt claims an index that must "
        "be there and never changes it. Observe writes nothing to the database at all.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN,
        description="Delete drops the index concurrently when this object is deleted; Retain leaves it.",
    )
    deletion_timeout_seconds: int = Field(
        default=600,
        ge=0,
        le=86400,
        description="How long a deletion tries to reach its database before it lets go, from the first try on.",
    )
    rebuild: Rebuild = Field(default_factory=Rebuild, description="What causes a rebuild.")
    probe: Probe = Field(default_factory=Probe, description="Whether and how the recall is measured.")
    approval: Approval = Field(
        default=Approval.AUTO, description="Manual: a build that is due waits until its plan is approved."
    )
    approved_plan: PlanHash | None = Field(default=None, description="status.plan.hash of the plan that may be done.")
    run_token: Token | None = Field(
        default=None,
        description="A new value rebuilds the index once, online. The value seen at the first adoption is only noted.",
    )


class Blocker(ApiModel):
    """The session that a build waits for."""

    pid: int = Field(description="Process id, as in pg_stat_activity.")
    age_seconds: int | None = Field(default=None, description="Age of its transaction.")
    application: Name | None = Field(default=None, description="Its application_name.")


class IndexStatus(ApiModel):
    """The index that bears the name."""

    oid: int = Field(description="Object id, as in pg_class: a rebuild gives a new one.")
    name: Name = Field(description="Name of the index.")
    managed: bool = Field(default=False, description="Whether this object has claimed this very index.")
    definition: ShortText | None = Field(default=None, description="What it is, as pg_get_indexdef says it.")
    size_bytes: int | None = Field(default=None, description="pg_relation_size.")
    size: Words | None = Field(default=None, description="The size as text, e.g. 781 MB.")
    rows: int | None = Field(default=None, description="Rows of the table, as the planner estimates them.")
    scans: int | None = Field(
        default=None, description="Index scans since statistics were reset, without the operator's own."
    )
    own_scans: int | None = Field(
        default=None, description="Scans that proved or measured the index; left out of scans."
    )
    bytes_per_row: int | None = Field(default=None, description="sizeBytes / rows: grows with bloat.")


class BuildStatus(ApiModel):
    """The work in progress, or what is left of it."""

    step: Words = Field(description="The reason that names the step, e.g. Building or DroppingOld.")
    phase: Words | None = Field(default=None, description="The server's phase, as in pg_stat_progress_create_index.")
    name: Name | None = Field(default=None, description="The name under which it is built.")
    blocked_by: Blocker | None = Field(default=None, description="Whom the server waits for.")
    memory: Words | None = Field(default=None, description="maintenance_work_mem of the build.")
    parallel_workers: int | None = Field(default=None, description="max_parallel_maintenance_workers of the build.")
    note: ShortText | None = Field(
        default=None, description="What was decided on the way, e.g. why the build is serial."
    )
    start_time: datetime | None = Field(default=None, description="When the statement began.")


class Recall(ApiModel):
    """Measured recall of the index that bears the name."""

    percent: int = Field(description="Share of the true neighbours found, rounded down.")
    lower_bound_percent: int | None = Field(default=None, description="At least this, with a confidence of 95 %.")
    upper_bound_percent: int | None = Field(default=None, description="At most this, with a confidence of 95 %.")
    sampled: int = Field(default=0, description="Searches.")
    ef_search: int | None = Field(default=None, description="hnsw.ef_search of these searches.")
    index_oid: int = Field(description="The index that was measured: another one is measured anew.")
    at: datetime | None = Field(default=None, description="When.")


class VectorIndexStatus(CommonStatus):
    """What is there and what goes on."""

    index: IndexStatus | None = Field(
        default=None, description="The index that bears the name; absent while there is none."
    )
    build: BuildStatus | None = Field(
        default=None, description="Present while something is built, swapped, dropped or failed."
    )
    progress: Progress | None = Field(default=None, description="Present while a build runs.")
    recall: Recall | None = Field(default=None, description="What the probe measured last.")
    plan: PlanStatus | None = Field(default=None, description="What would be done; present while it is due.")
    run_token: Token | None = Field(default=None, description="The runToken last obeyed, or noted at adoption.")
    history: Annotated[list[HistoryEntry], Field(max_length=10)] = Field(
        default_factory=list, description="What was done, newest first, at most ten entries."
    )


COLUMNS = (
    Column("READY", '.status.conditions[?(@.type=="Ready")].status'),
    Column("TABLE", ".spec.table"),
    Column("METHOD", ".spec.method"),
    Column("SIZE", ".status.index.size"),
    Column("RECALL", ".status.recall.percent", type="integer"),
    Column("PROGRESS", ".status.progress.summary"),
    Column("ETA", ".status.progress.eta"),
    Column("REASON", '.status.conditions[?(@.type=="Ready")].reason'),
    Column("AGE", ".metadata.creationTimestamp", type="date"),
)
