"""The VectorStore's status and columns. Its spec is in `vectorops.runtime.store_spec`, for every other room reads it.

Figures are rounded: sizes to two significant digits, shares to whole percents rounded down, rows exact below 10,000.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.runtime.api import ApiModel, CommonStatus
from vectorops.runtime.kind import Column

Word = Annotated[str, Field(max_length=64)]
Name = Annotated[str, Field(max_length=63)]


class TableStatus(ApiModel):
    """One entry of spec.tables."""

    name: Name = Field(description="Its name in spec.tables.")
    rows: int | None = Field(default=None, description="Rows of the table; exact below 10,000, else two digits.")
    embeddable: int | None = Field(default=None, description="Rows with a text; all rows where no template is given.")
    missing: int | None = Field(default=None, description="Rows whose embedding IS NULL.")
    size_bytes: int | None = Field(default=None, description="pg_total_relation_size: with TOAST and indexes.")
    coverage_percent: int | None = Field(default=None, description="Embedded rows of all rows, as the runbook counts.")
    embeddable_coverage_percent: int | None = Field(default=None, description="Embedded rows of those with a text.")
    exact: bool | None = Field(default=None, description="Whether rows were counted; else a sample was scaled up.")


class IndexStatus(ApiModel):
    """One hnsw or ivfflat index of the database, found by its operator class."""

    schema_name: Name = Field(alias="schema", description="Its schema.")
    name: Name = Field(description="Its name.")
    table: Name = Field(description="Its table.")
    method: Word = Field(description="hnsw or ivfflat.")
    valid: bool = Field(description="pg_index.indisvalid: an invalid one is never searched, but costs every write.")
    size_bytes: int | None = Field(default=None, description="pg_relation_size.")


class Observed(ApiModel):
    """The figures of the runbook's health checks, as last seen. Absent: not known, never zero."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {"tables": ("name",), "indexes": ("schema", "name")}

    postgres_version: Word | None = Field(default=None, description="server_version.")
    pgvector_version: Word | None = Field(default=None, description="pg_extension.extversion of vector.")
    tables: Annotated[list[TableStatus], Field(max_length=32)] | None = Field(
        default=None, description="The tables of spec.tables that were found."
    )
    coverage_percent: int | None = Field(default=None, description="The worst table's embeddableCoveragePercent.")
    indexes: Annotated[list[IndexStatus], Field(max_length=64)] | None = Field(
        default=None, description="Vector indexes of the database, in order of name; at most 64."
    )
    p95_latency_milliseconds: int | None = Field(default=None, description="p95 of searches; from the search service.")
    error_rate_percent: int | None = Field(default=None, description="Failed searches; from the search service.")
    cache_hit_rate_percent: int | None = Field(default=None, description="Cache hits; from the search service.")
    pool_utilization_percent: int | None = Field(default=None, description="Pool in use; from the search service.")


class SearchStatus(ApiModel):
    """Settings of pgvector that new sessions of the role that searches get in this database."""

    role: Name = Field(description="The role.")
    ef_search: int | None = Field(default=None, description="hnsw.ef_search. Absent: not set for the role here.")
    iterative_scan: Word | None = Field(default=None, description="hnsw.iterative_scan. Absent: not set.")
    max_scan_tuples: int | None = Field(default=None, description="hnsw.max_scan_tuples. Absent: not set.")
    set_time: datetime | None = Field(default=None, description="When we last set one of them.")
    oldest_session: datetime | None = Field(
        default=None, description="When the role's oldest session began: before setTime, it has the former values."
    )


class VectorStoreStatus(CommonStatus):
    """What is so, as last seen."""

    coverage: Word | None = Field(default=None, description="observed.coveragePercent as text, e.g. 96%.")
    search: SearchStatus | None = Field(default=None, description="What sessions that search get; with spec.search.")
    observed: Observed | None = Field(default=None, description="Figures; absent while the database is not reached.")


COLUMNS = (
    Column("READY", '.status.conditions[?(@.type=="Ready")].status'),
    Column("LATENCY", ".status.observed.p95LatencyMilliseconds", type="integer", description="p95, milliseconds"),
    Column("ERRORS", ".status.observed.errorRatePercent", type="integer", description="percent of searches"),
    Column("COVERAGE", ".status.coverage", description="embedded rows of those with a text, worst table"),
    Column("CACHE", ".status.observed.cacheHitRatePercent", type="integer", description="hit rate, percent"),
    Column("POOL", ".status.observed.poolUtilizationPercent", type="integer", description="in use, percent"),
    Column("REASON", '.status.conditions[?(@.type=="Ready")].reason'),
    Column("AGE", ".metadata.creationTimestamp", type="date"),
)
