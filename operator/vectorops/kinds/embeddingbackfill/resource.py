"""EmbeddingBackfill as the user sees it: spec, status, reasons and columns.

A request, not a standing wish: it embeds the rows that lack an embedding and ends. What identifies it cannot be
changed, as with a Job; what steers it (suspend, budget, rate limits) can, and a new `runToken` runs it again.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.errors import Reasons
from vectorops.runtime.api import ApiModel, CommonSpec, CommonStatus, Decimal, Progress, Rule, Token, immutable
from vectorops.runtime.kind import Column

Word = Annotated[str, Field(max_length=32)]  # a number as text, as a person reads it
Count = Annotated[int, Field(ge=0)]


class Select(StrEnum):
    """Which rows are embedded."""

    Missing = "Missing"  # those whose embedding is NULL


class RateLimits(ApiModel):
    """Limits of this request alone, on top of the store's: the lower one holds."""

    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Most requests a minute that are sent to the provider."
    )
    tokens_per_minute: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = Field(
        default=None, description="Most tokens a minute that are sent to the provider."
    )


class Budget(ApiModel):
    """What may be spent. Reserved before each call, so it is not exceeded by what is in flight."""

    max_cost_usd: Decimal | None = Field(
        default=None,
        alias="maxCostUSD",
        description="Most US dollars, at the store's spec.embeddings.priceUSDPerMillionTokens, which must be set.",
    )
    max_tokens: Annotated[int, Field(ge=0, le=10**15)] | None = Field(
        default=None, description="Most tokens, as the provider bills them."
    )


class Spec(CommonSpec):
    """The runbook's "Backfill Missing Embeddings", as a request that ends."""

    rules: ClassVar[tuple[Rule, ...]] = immutable(
        "storeRef", "tableName", "select", "limit", "batchSize", "concurrency", "maxFailedRows",
        why="a request stays what it was; create another one",
    )  # fmt: skip

    table_name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of an entry of spec.tables of the VectorStore; its textTemplate says what is embedded."
    )
    select: Select = Field(default=Select.Missing, description="Missing: rows whose embedding is NULL.")
    limit: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="Embed at most so many rows, in the order of the key. Default: all."
    )
    batch_size: Annotated[int, Field(ge=1, le=2048)] | None = Field(
        default=None,
        description="Texts in one request to the provider. Default: grows and shrinks with how fast it answers.",
    )
    concurrency: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="Requests in flight at a time. Default: 4."
    )
    rate_limits: RateLimits | None = Field(default=None, description="Limits of this request, on top of the store's.")
    budget: Budget | None = Field(
        default=None, description="What may be spent. When it is used up the request is Suspended with BudgetExhausted."
    )
    max_failed_rows: Annotated[int, Field(ge=0, le=10**12)] | None = Field(
        default=None,
        description="More rows that cannot be embedded than this: the request fails. Default: any number is recorded.",
    )
    run_token: Token | None = Field(
        default=None, description="A new value runs the request again, also for rows that could not be embedded before."
    )


class Rows(ApiModel):
    """Rows of this request. total = done + skipped + failed + remaining, but for what others write meanwhile."""

    total: Count | None = Field(default=None, description="Rows without an embedding when it began, or the limit.")
    done: Count = Field(default=0, description="Rows that this request embedded.")
    skipped: Count = Field(default=0, description="Rows without any text: there is nothing to embed.")
    failed: Count = Field(default=0, description="Rows that the provider refuses, recorded in vectorops.failure.")
    remaining: Count | None = Field(default=None, description="Rows still to embed.")
    truncated: Count = Field(
        default=0, description="Rows whose text was cut to the model's context, as seen by this process."
    )


class Cost(ApiModel):
    """Money and tokens of this request."""

    tokens: Count = Field(default=0, description="Tokens as billed by the provider.")
    usd: Word | None = Field(default=None, description="The same in US dollars, if the store states a price.")
    summary: Word | None = Field(default=None, description="Dollars, or tokens without a price, as printed in COST.")
    estimated_tokens: Count | None = Field(default=None, description="Tokens in all, estimated from the texts' bytes.")
    estimated_usd: Word | None = Field(
        default=None, alias="estimatedUSD", description="The same in US dollars, if the store states a price."
    )
    at_risk_tokens: Count = Field(
        default=0, description="Tokens reserved for requests in flight or never answered: they may have been billed."
    )


class Failure(ApiModel):
    """A row that could not be embedded. Its text is never shown."""

    key_hash: Annotated[str, Field(max_length=64)] = Field(
        description="First 12 hex digits of the SHA-256 of the row's key; the key itself is in vectorops.failure."
    )
    reason: Annotated[str, Field(max_length=128)] = Field(description="Why, in one word.")
    attempts: Count = Field(description="How often the row was tried.")


class Status(CommonStatus):
    """How far the request is, what it costs, and what did not work."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {**CommonStatus.map_lists, "failures": ("keyHash",)}

    run_token: Token | None = Field(default=None, description="The runToken that these figures speak of.")
    rows: Rows | None = Field(default=None, description="Rows of this request.")
    coverage_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Rows of the table that have an embedding, in whole percent."
    )
    coverage: Word | None = Field(default=None, description="The same as text, e.g. 98%.")
    rate: Word | None = Field(default=None, description="Rows a second, as text, e.g. 63/s.")
    cost: Cost | None = Field(default=None, description="What it has cost and will cost.")
    progress: Progress | None = Field(default=None, description="How far it is, in rows.")
    start_time: datetime | None = Field(default=None, description="When this run began.")
    completion_time: datetime | None = Field(default=None, description="When this run ended.")
    failures: Annotated[list[Failure], Field(max_length=10)] = Field(
        default_factory=list, description="The latest ten rows that could not be embedded."
    )


class Reason(Reasons):
    """Reasons of this kind; those of its neighbours (database, provider, store) stand in `vectorops.errors.Reason`."""

    # ended
    Succeeded = "Succeeded", "Nothing: every selected row has an embedding or no text."
    CompletedWithFailures = (
        "CompletedWithFailures",
        "Look at status.failures and vectorops.failure; mend these rows and set a new runToken.",
    )
    LimitReached = "LimitReached", "Nothing: as many rows as spec.limit were embedded; create another request for more."
    TooManyFailedRows = (
        "TooManyFailedRows",
        "Look at status.failures, mend the rows or the template, and set a new runToken.",
    )
    # at work, or waiting without a person
    Embedding = "Embedding", "Nothing: it works; see status.progress."
    WaitingForIndexBuild = "WaitingForIndexBuild", "Nothing: it goes on when the index build on its table has ended."
    WaitingForTableLock = (
        "WaitingForTableLock",
        "Nothing: another vectorops operation works on the table; this one goes next.",
    )
    # stopped on purpose
    Suspended = "Suspended", "Set spec.suspend to false to go on."
    BudgetExhausted = "BudgetExhausted", "Raise spec.budget to go on; nothing that was paid for is lost."
    # a person must act
    PriceMissing = (
        "PriceMissing",
        "Set spec.embeddings.priceUSDPerMillionTokens of the VectorStore, or use budget.maxTokens.",
    )
    NoEmbeddings = "NoEmbeddings", "Declare spec.embeddings in the VectorStore."
    TableNotDeclared = (
        "TableNotDeclared",
        "Name an entry of spec.tables of the VectorStore in spec.tableName of a new request.",
    )
    NoTextTemplate = "NoTextTemplate", "Set textTemplate of that table in the VectorStore."
    TemplateInvalid = (
        "TemplateInvalid",
        "Correct textTemplate of that table in the VectorStore; the message names the mistake.",
    )
    TableNotFound = "TableNotFound", "Create the table, or correct schema and table in the VectorStore."
    ColumnNotFound = "ColumnNotFound", "Create the column, or correct embeddingColumn or keyColumns in the VectorStore."
    NotAVectorColumn = "NotAVectorColumn", "Make the embedding column one of type vector or halfvec."
    DimensionMismatch = "DimensionMismatch", "Make spec.embeddings.dimensions and the column's type agree."
    NoPrimaryKey = "NoPrimaryKey", "Give the table a primary key, or name unique NOT NULL columns in keyColumns."
    KeyNotSupported = "KeyNotSupported", "Name unique columns of built-in types in keyColumns of the VectorStore."
    UpdateRightMissing = "UpdateRightMissing", "Have an administrator run the GRANT that the message names."
    WritesDiscarded = (
        "WritesDiscarded",
        "Look for a trigger or a row security policy of the table that discards updates.",
    )


COLUMNS = (
    Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="Reason of Ready."),
    Column("Done", ".status.rows.done", "integer", "Rows embedded by this request."),
    Column("Total", ".status.rows.total", "integer", "Rows of this request."),
    Column("Failed", ".status.rows.failed", "integer", "Rows that could not be embedded."),
    Column("Coverage", ".status.coverage", description="Rows of the table that have an embedding."),
    Column("Rate", ".status.rate", description="Rows a second."),
    Column("Cost", ".status.cost.summary", description="What was billed so far."),
    Column("ETA", ".status.progress.eta", description="What remains at the present rate."),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
