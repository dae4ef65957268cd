"""Parts of a VectorIndex's spec: the parameters of a graph or of lists, how it is built, when it is built anew."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from vectorops.runtime.api import ApiModel, Quantity, Rule


class OnShutdown(StrEnum):
    """What becomes of a running build when the operator stops."""

    DETACH = "Detach"
    ABORT = "Abort"


class Hnsw(ApiModel):
    """Parameters of an HNSW graph."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.efConstruction >= 2 * self.m",
            message="efConstruction must be at least twice m, as pgvector demands.",
        ),
    )
    m: int = Field(
        default=24, ge=2, le=100, description="WITH (m = ...): links of a graph node. The runbook's value is 24."
    )
    ef_construction: int = Field(
        default=100,
        ge=4,
        le=1000,
        description="WITH (ef_construction = ...): candidates looked at for a new node. The runbook's is 100.",
    )


class Ivfflat(ApiModel):
    """Parameters of an IVFFlat index."""

    lists: int | None = Field(
        default=None,
        ge=1,
        le=32768,
        description="WITH (lists = ...). Absent: rows / 1000 up to a million rows, then the square root; "
        "an index that is there is then taken with any number of lists.",
    )


class Build(ApiModel):
    """How a build may use the server. A change is used by the next build and does not cause one."""

    maintenance_memory: Quantity = Field(
        default="Auto",
        description="SET maintenance_work_mem for the build. Auto: what the graph needs, at most the largest of the "
        "server's own maintenance_work_mem, shared_buffers and a quarter of effective_cache_size.",
    )
    parallel_workers: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="SET max_parallel_maintenance_workers for the build. Absent: the server's own limit, but 0 where "
        "pgvector is older than 0.8.2 or /dev/shm is too small.",
    )
    max_duration_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31536000,
        description="A build that takes longer is cancelled and cleaned up (BuildTimedOut).",
    )
    max_lock_wait_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31536000,
        description="A build that waits longer for other transactions is cancelled and cleaned up (LockWaitExceeded).",
    )
    max_replica_lag_seconds: int | None = Field(
        default=None,
        ge=1,
        le=86400,
        description="No build begins while a standby is further behind (WaitingForReplica); a running one goes on.",
    )
    on_shutdown: OnShutdown = Field(
        default=OnShutdown.DETACH,
        description="When the operator stops: Detach lets the server build on and takes it up later; Abort cancels.",
    )


class Rebuild(ApiModel):
    """What causes a rebuild, besides runToken."""

    recall_below_percent: int | None = Field(
        default=None, ge=1, le=99, description="Rebuild when the probe is sure that the recall is below this."
    )
    bytes_per_row_growth_percent: int | None = Field(
        default=None,
        ge=10,
        le=10000,
        description="Rebuild when the index has grown by so much a row since it was built.",
    )
    dead_tuple_percent: int | None = Field(
        default=None,
        ge=5,
        le=95,
        description="Rebuild when so many of the table's rows are dead and not vacuumed yet, more than when the index "
        "was built: where autovacuum keeps up, that is its threshold (20 percent) at most.",
    )
    after_extension_upgrade: bool = Field(
        default=False, description="Rebuild when pgvector is another version than the one that built the index."
    )
    on_parameter_change: bool = Field(
        default=True,
        description="Rebuild online when the index differs from method, hnsw or ivfflat (managementPolicy Manage).",
    )


class Probe(ApiModel):
    """The recall, measured now and then. Off by default: it reads all vectors, on a standby if there is one."""

    enabled: bool = Field(default=False, description="Measure the recall.")
    k: int = Field(default=10, ge=1, le=100, description="Neighbours that a search asks for.")
    sample_size: int = Field(default=256, ge=32, le=2048, description="Rows that are searched for, drawn at random.")
    recall_target_percent: int = Field(default=95, ge=1, le=99, description="RecallMet says whether it is reached.")
    period_seconds: int = Field(default=86400, ge=60, le=31536000, description="From one measurement to the next.")
    max_bytes: Quantity = Field(
        default="16Gi", description="Nothing is measured where the vectors of the table are more (ProbeTooLarge)."
    )
