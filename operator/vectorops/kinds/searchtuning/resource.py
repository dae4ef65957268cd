"""SearchTuning as the user sees it: spec, status, reasons and columns.

A request that ends: what it asks for cannot be changed, as with a Job. What it must reach can, with a new runToken.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.kinds.searchtuning.queries import Queries
from vectorops.runtime.api import (
    ApiModel,
    CommonSpec,
    CommonStatus,
    Identifier,
    LocalRef,
    Progress,
    Rule,
    ShortText,
    Token,
    immutable,
)
from vectorops.runtime.kind import Column

Count = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=0, le=100)]
Width = Annotated[int, Field(ge=1, le=1000)]  # of hnsw.ef_search, as pgvector allows
Word = Annotated[str, Field(max_length=64)]


class Strategy(StrEnum):
    """Which values are tried."""

    BISECTION = "Bisection"
    SWEEP = "Sweep"


class Runner(StrEnum):
    """Who searches."""

    OPERATOR = "Operator"
    SERVICE = "Service"


class Apply(StrEnum):
    """What becomes of the choice."""

    NONE = "None"
    ROLE = "Role"


class Storage(StrEnum):
    """What a candidate index stores of a vector."""

    VECTOR = "Vector"
    HALFVEC = "HalfVec"
    BIT = "Bit"


class Range(ApiModel):
    """Values of hnsw.ef_search to choose from."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule(rule="self.min <= self.max", message="min must not be larger than max"),)

    min: Width = Field(default=40, description="The smallest value that is tried.")
    max: Width = Field(default=200, description="The largest value that is tried.")
    step: Width = Field(default=20, description="Sweep: from one value to the next. Bisection has steps of its own.")


class CandidateHnsw(ApiModel):
    """Parameters of a candidate's graph."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(rule="self.efConstruction >= 2 * self.m", message="efConstruction must be at least twice m"),
    )

    m: int = Field(default=24, ge=2, le=100, description="WITH (m = ...).")
    ef_construction: int = Field(default=100, ge=4, le=1000, description="WITH (ef_construction = ...).")


class Candidate(ApiModel):
    """Another index to compare with: built on a copy of the column, measured, and dropped."""

    hnsw: CandidateHnsw = Field(default_factory=CandidateHnsw, description="Parameters of the graph.")
    storage: Storage = Field(default=Storage.VECTOR, description="What it stores of a vector.")


class Spec(CommonSpec):
    """The runbook's "Tune HNSW ef_search", as a request that ends."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *immutable(
            "storeRef", "indexRef", "queries", "runner", "compare",
            why="a request stays what it was; create another one",
        ),
        Rule(
            rule="self.runner != 'Service' || (!has(self.compare) && !has(self.queries))",
            message="runner Service chooses the queries by itself and compares nothing: remove queries and compare",
        ),
        Rule(rule="!has(self.role) || self.apply == 'Role'", message="role is for apply: Role"),
    )  # fmt: skip

    index_ref: LocalRef = Field(description="The VectorIndex (same namespace) that is searched.")
    k: Annotated[int, Field(ge=1, le=100)] = Field(default=10, description="Neighbours that a search asks for.")
    recall_target_percent: Annotated[int, Field(ge=1, le=99)] = Field(
        default=95, description="Share of the true neighbours that must be found, with a confidence of 95 percent."
    )
    p95_budget_milliseconds: Annotated[int, Field(ge=1, le=600_000)] | None = Field(
        default=None, description="Most that the chosen value's p95 may be, as this database connection sees it."
    )
    strategy: Strategy = Field(
        default=Strategy.BISECTION,
        description="Bisection halves a grid of growing steps. Sweep tries min, min + step, ..., max.",
    )
    range: Range = Field(default_factory=Range, description="Values to choose from.")
    queries: Queries | None = Field(default=None, description="What is searched for. Default: 1024 held out rows.")
    runner: Runner = Field(
        default=Runner.OPERATOR,
        description="Operator searches by itself. Service asks POST /api/performance/tune-ef-search of the service.",
    )
    apply: Apply = Field(
        default=Apply.NONE,
        description="Role: ALTER ROLE ... IN DATABASE ... SET hnsw.ef_search, unless the VectorStore declares it.",
    )
    role: Identifier | None = Field(
        default=None, description="The role that searches. Default: spec.search.role of the VectorStore."
    )
    compare: Annotated[list[Candidate], Field(max_length=4)] | None = Field(
        default=None, description="Other indexes to compare with."
    )
    run_token: Token | None = Field(default=None, description="A new value runs the request again.")
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        default=None, description="Failed when it has not ended so many seconds after it began. Default: no limit."
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        default=None, description="Delete the object so many seconds after its end. Default: it stays."
    )


class Point(ApiModel):
    """What searches with one value of hnsw.ef_search have shown."""

    ef_search: Width = Field(description="The value.")
    recall_percent: Percent = Field(description="True neighbours found, rounded down.")
    lower_bound_percent: Percent | None = Field(
        default=None, description="The recall is at least this, with a confidence of 95 percent."
    )
    p95_milliseconds: Count = Field(description="95th percentile of a search, rounded up.")
    buffers: Count | None = Field(default=None, description="Blocks of the index that one search reads.")
    sampled: Count | None = Field(default=None, description="Searches.")


class Compared(ApiModel):
    """One index of the comparison, at the smallest value that meets the target."""

    name: Word = Field(description="Current, or what the candidate is, e.g. HalfVec m=16 efConstruction=64.")
    size: Word | None = Field(default=None, description="Size of the index as text.")
    size_bytes: Count | None = Field(default=None, description="Size of the index.")
    build_seconds: Count | None = Field(default=None, description="A plain build on a copy of the column.")
    ef_search: Width | None = Field(default=None, description="Absent: no value of the range met the target.")
    recall_percent: Percent = Field(description="At that value, else at the largest.")
    lower_bound_percent: Percent | None = Field(default=None, description="With a confidence of 95 percent.")
    p95_milliseconds: Count = Field(description="95th percentile of a search, rounded up.")
    buffers: Count | None = Field(default=None, description="Blocks of the index that one search reads.")


class Applied(ApiModel):
    """What was set."""

    role: Identifier = Field(description="The role.")
    ef_search: Width = Field(description="hnsw.ef_search of its new sessions in this database.")
    before: Word | None = Field(default=None, description="What was set before; absent: nothing.")


class Status(CommonStatus):
    """What was measured and chosen."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {
        **CommonStatus.map_lists, "curve": ("efSearch",), "comparison": ("name",),
    }  # fmt: skip

    run_token: Token | None = Field(default=None, description="The runToken that these figures speak of.")
    index_name: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="The index searched.")
    rows: Count | None = Field(default=None, description="Rows that the searches were compared with.")
    curve: Annotated[list[Point], Field(max_length=64)] = Field(
        default_factory=list, description="Recall and cost by value, smallest first."
    )
    chosen: Point | None = Field(default=None, description="The cheapest value that meets the target.")
    current: Point | None = Field(default=None, description="The value that the role's sessions have today.")
    gain: ShortText | None = Field(default=None, description="What the choice brings, in words.")
    comparison: Annotated[list[Compared], Field(max_length=5)] = Field(
        default_factory=list, description="The index and the candidates, each at the value that meets the target."
    )
    applied: Applied | None = Field(default=None, description="What was set for the role.")
    progress: Progress | None = Field(default=None, description="How far it is, in searches.")
    start_time: datetime | None = Field(default=None, description="When this run began.")
    completion_time: datetime | None = Field(default=None, description="When this run ended.")


COLUMNS = (
    Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="Reason of Ready."),
    Column("Chosen", ".status.chosen.efSearch", "integer", "The cheapest hnsw.ef_search that meets the target."),
    Column("Recall", ".status.chosen.recallPercent", "integer", "True neighbours found with it, in percent."),
    Column("P95", ".status.chosen.p95Milliseconds", "integer", "Milliseconds of a search with it."),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
