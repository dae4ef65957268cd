"""CacheWarmup as the user sees it: spec, status, reasons and columns.

A request that ends. What it asks for cannot be changed, as with a Job; how gently it works and what it must reach can.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.errors import Means, Reasons
from vectorops.kinds.cachewarmup.queries import Queries
from vectorops.runtime.api import (
    ApiModel,
    CommonSpec,
    CommonStatus,
    Progress,
    Rule,
    Token,
    immutable,
)
from vectorops.runtime.kind import Column

Count = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=0, le=100)]
Word = Annotated[str, Field(max_length=32)]


class Invalidate(StrEnum):
    """What is removed from the cache before anything is warmed."""

    NONE = "None"
    EXPIRED = "Expired"
    ALL = "All"


class Method(StrEnum):
    """How the service takes a search."""

    POST = "POST"
    GET = "GET"


class RequestSpec(ApiModel):
    """How the service is asked. Only this path is used, with the store's token."""

    method: Method = Field(default=Method.POST, description="POST with a JSON body, or GET with query parameters.")
    path: Annotated[str, Field(max_length=512, pattern=names.URL_PATH)] = Field(
        default="/api/vectors/search", description="Path of the search."
    )
    query_field: Annotated[str, Field(max_length=63, pattern=names.FIELD)] = Field(
        default="query", description="Field of the body, or parameter, that holds the query."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10, description="Sent as `limit`; many caches keep one answer a limit, so send what people send."
    )


class Target(ApiModel):
    """What must be reached: success is not that requests were sent."""

    cache_hit_rate_percent: Percent = Field(
        default=50, description="Hit rate on queries drawn as the log draws them. 0: that they were sent is enough."
    )
    timeout_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=60, description="So long after the last query is looked again whether it is reached."
    )


class Spec(CommonSpec):
    """The runbook's "Clear Cache" and "Warm Cache with Popular Queries", as a request that ends."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *immutable(
            "storeRef", "invalidate", "queries", "request", why="a request stays what it was; create another one"
        ),
        Rule(
            rule="has(self.queries) || self.invalidate != 'None'",
            message="ask for something: set queries, or invalidate to Expired or All",
        ),
    )

    invalidate: Invalidate = Field(
        default=Invalidate.NONE,
        description="First remove from the cache what has Expired, or All of it. Without queries that is everything.",
    )
    queries: Queries | None = Field(default=None, description="What to warm the cache with.")
    request: RequestSpec = Field(default_factory=RequestSpec, description="How the service is asked.")
    requests_per_second: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5, description="Most requests a second; fewer while the service suffers."
    )
    concurrency: Annotated[int, Field(ge=1, le=32)] = Field(
        default=2, description="Most requests at a time; fewer where maxPoolSharePercent says so."
    )
    max_pool_share_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=20, description="Most of the service's connections that the warm-up may occupy."
    )
    target: Target = Field(default_factory=Target, description="What must be reached.")
    run_token: Token | None = Field(default=None, description="A new value runs the request again.")
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = Field(
        default=1, description="How often a run that missed its target is tried again before the request is Failed."
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        default=None, description="Failed when it has not ended so many seconds after it began. Default: no limit."
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        default=None, description="Delete the object so many seconds after its end. Default: it stays."
    )


class QueryCounts(ApiModel):
    """Queries of this run. selected = warmed + failed when it has ended."""

    selected: Count = Field(default=0, description="Queries to be sent.")
    warmed: Count = Field(default=0, description="Queries that the service answered.")
    failed: Count = Field(default=0, description="Queries that it refused, or did not answer in three tries.")
    ignored: Count = Field(
        default=0, description="Rows or lines that are no query: empty, over 2,000 characters, control characters."
    )
    covered_percent: Percent | None = Field(
        default=None, description="Share of the logged searches that the selected queries make up."
    )


class Bookmark(ApiModel):
    """Where a killed operator goes on. It holds if the list is still the same; losing it costs repeated searches."""

    list_hash: Annotated[str, Field(max_length=64)] = Field(description="Of the ordered list of queries.")
    position: Count = Field(description="So many from its beginning are done.")


class Measured(ApiModel):
    """What a sample of searches, drawn as the log draws them, has met."""

    cache_hit_rate_percent: Percent | None = Field(default=None, description="Of the sample, found in the cache.")
    p95_milliseconds: Count | None = Field(default=None, description="Latency as the operator saw it.")
    sampled: Count = Field(default=0, description="Searches in the sample.")
    source: Word | None = Field(
        default=None, description="Answers: each answer said whether it was cached. Service: the service's own figure."
    )


class Prewarmed(ApiModel):
    """pg_prewarm: indexes and tables that were read into the database's memory."""

    relations: Count = Field(default=0, description="Indexes and tables that were read.")
    size_bytes: Count = Field(default=0, description="Their size.")
    skipped: Annotated[str, Field(max_length=256)] | None = Field(default=None, description="What was left, and why.")


class WarmupFailure(ApiModel):
    """Queries that failed, by reason. Their text is never shown."""

    reason: Annotated[str, Field(max_length=64)] = Field(description="e.g. HTTP 400, ServiceTimeout.")
    count: Count = Field(description="Queries.")


class Status(CommonStatus):
    """What was sent, and what it has brought."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {**CommonStatus.map_lists, "failures": ("reason",)}

    run_token: Token | None = Field(default=None, description="The runToken that these figures speak of.")
    attempts: Count = Field(default=0, description="How often this run was begun.")
    queries: QueryCounts | None = Field(default=None, description="Queries of this run.")
    removed: Count | None = Field(default=None, description="Entries removed from the cache, where the service told.")
    invalidated: bool | None = Field(default=None, description="Whether the cache has been cleared in this run.")
    before: Measured | None = Field(default=None, description="Before anything was done.")
    after: Measured | None = Field(default=None, description="After the last query.")
    hit_rate: Word | None = Field(default=None, description="Hit rate as text, e.g. 31% -> 78%.")
    prewarmed: Prewarmed | None = Field(default=None, description="What pg_prewarm has read.")
    bookmark: Bookmark | None = Field(default=None, description="Where a killed operator goes on.")
    progress: Progress | None = Field(default=None, description="How far it is, in queries.")
    start_time: datetime | None = Field(default=None, description="When this run began.")
    completion_time: datetime | None = Field(default=None, description="When this run ended.")
    failures: Annotated[list[WarmupFailure], Field(max_length=10)] = Field(
        default_factory=list, description="Queries that failed, by reason."
    )


class Reason(Reasons):
    """Reasons of this kind; those of its neighbours (database, service, store) stand in `vectorops.errors.Reason`."""

    # ended
    Succeeded = "Succeeded", "Nothing: the target is reached, or the cache is cleared as asked.", Means.GOOD
    CompletedWithFailures = (
        "CompletedWithFailures",
        "Nothing, if status.failures is as expected: the target is reached, but some queries failed.",
        Means.GOOD,
    )
    TargetNotReached = (
        "TargetNotReached",
        "Raise queries.fromTable.top if queries.coveredPercent is below the target, or lower the target; "
        "then set a new runToken.",
        Means.FAILED,
    )
    HitRateUnknown = (
        "HitRateUnknown",
        "Have the service say `cached` in its answers or offer /api/performance/cache/stats, "
        "or set target.cacheHitRatePercent to 0.",
        Means.FAILED,
    )
    NoQueries = (
        "NoQueries",
        "Widen queries.fromTable.windowSeconds, or look whether searches are logged at all.",
        Means.FAILED,
    )
    NothingWarmed = (
        "NothingWarmed",
        "Look at status.failures: the service refused every query; correct spec.request.",
        Means.FAILED,
    )
    DeadlineExceeded = (
        "DeadlineExceeded",
        "Raise activeDeadlineSeconds or requestsPerSecond, and set a new runToken.",
        Means.FAILED,
    )
    # at work, or waiting without a person
    Selecting = "Selecting", "Nothing: the most searched queries are read.", Means.WORK
    Measuring = "Measuring", "Nothing: a sample is searched to know the hit rate.", Means.WORK
    Clearing = "Clearing", "Nothing: the cache is cleared.", Means.WORK
    Prewarming = "Prewarming", "Nothing: the database reads indexes and tables into memory.", Means.WORK
    Warming = "Warming", "Nothing: it works; see status.progress.", Means.WORK
    Verifying = "Verifying", "Nothing: it is looked whether the target is reached.", Means.WORK
    WaitingForPool = "WaitingForPool", "Nothing: it goes on when the service's connections are less in use.", Means.WORK
    WaitingForService = (
        "WaitingForService",
        "Nothing: the service suffers; it is asked more slowly, then again.",
        Means.WORK,
    )
    WaitingForWarmup = (
        "WaitingForWarmup",
        "Nothing: another CacheWarmup works on the same service; this one goes next.",
        Means.WORK,
    )
    WaitingForEmbeddings = (
        "WaitingForEmbeddings",
        "It begins when half of the rows have one or the backfill is over: approve it, or delete it if it is unwanted.",
        Means.WORK,
    )
    # a person must act
    ConfigMapNotFound = (
        "ConfigMapNotFound",
        "Create the ConfigMap that spec.queries names, with that key.",
        Means.AWAITED,
    )
    TableNotDeclared = (
        "TableNotDeclared",
        "Add the table to spec.watchedTables of the VectorStore, or name an entry of its spec.tables in a new request.",
        Means.AWAITED,
    )
    LogNotFound = "LogNotFound", "Create the table, or name it correctly in a new request.", Means.AWAITED
    LogColumnNotFound = (
        "LogColumnNotFound",
        "Name the columns correctly in a new request; the message says which.",
        Means.AWAITED,
    )
    LogColumnType = "LogColumnType", "Name columns of the type that the message asks for in a new request.", Means.WRONG
    LogTooLarge = (
        "LogTooLarge",
        "Set queries.fromTable.windowSeconds in a new request, and have an index on timeColumn.",
        Means.WRONG,
    )
    LogRightMissing = "LogRightMissing", "Have an administrator run the GRANT that the message names.", Means.AWAITED


COLUMNS = (
    Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="Reason of Ready."),
    Column("Warmed", ".status.queries.warmed", "integer", "Queries that the service answered."),
    Column("Failed", ".status.queries.failed", "integer", "Queries that failed."),
    Column("HitRate", ".status.hitRate", description="The cache's hit rate before and after."),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
