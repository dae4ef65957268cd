"""EmbeddingBackfill's status: rows, money, progress, plan, failures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.runtime.api import ApiModel, CommonStatus, HistoryEntry, Progress, ShortText, Token
from vectorops.runtime.approval import PlanHash

Word = Annotated[str, Field(max_length=32)]  # a number as text, as a person reads it
Count = Annotated[int, Field(ge=0)]


class Rows(ApiModel):
    """Rows of this request. total = done + skipped + failed + remaining, but for what others write meanwhile."""

    total: Count | None = Field(
        default=None, description="Rows that it is about: done, skipped, failed and remaining ones."
    )
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
    estimated_tokens: Count | None = Field(
        default=None,
        description="Tokens in all: those billed, and of what is left by the plan, else by the texts' bytes.",
    )
    estimated_usd: Word | None = Field(
        default=None, alias="estimatedUSD", description="The same in US dollars, if the store states a price."
    )
    at_risk_tokens: Count = Field(
        default=0, description="Tokens reserved for requests in flight or never answered: they may have been billed."
    )


class Plan(ApiModel):
    """What would be done, before it is."""

    hash: PlanHash = Field(description="Approve it by this, in spec.approvedPlan or the annotation.")
    why: ShortText = Field(description="What it does, in a sentence.")
    statements: Annotated[list[ShortText], Field(max_length=8)] = Field(
        default_factory=list, description="The statements that read and write the table."
    )
    rows: Count | None = Field(default=None, description="Rows to embed, three digits.")
    unknown_rows: Count | None = Field(
        default=None, description="With select Stale: rows whose vectors others have written, two digits."
    )
    texts: Count | None = Field(default=None, description="Different texts among them, estimated, three digits.")
    tokens: Count | None = Field(default=None, description="Tokens, from a sample of the texts, three digits.")
    tokens_error_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="How far that may be off: by sampling, and by counting where no tokenizer is known."
    )
    most_tokens: Count | None = Field(
        default=None,
        description="Tokens that approving it allows at most, billed or at risk: with that error, or one text more, "
        "and within the budget. Then it waits for a new approval.",
    )
    cost_usd: Word | None = Field(
        default=None, alias="costUSD", description="US dollars at the store's price; half of it in mode Batch."
    )
    duration_seconds: Count | None = Field(
        default=None, description="At the lowest of the rate limits; a day at most for each batch in mode Batch."
    )
    duration: Word | None = Field(default=None, description="The same as text, e.g. 2h5m.")
    advice: ShortText | None = Field(
        default=None, description="What would make it cheaper, e.g. to build the vector index afterwards."
    )


class Approved(ApiModel):
    """What a person has approved, as it is kept in vectorops.approval."""

    hash: PlanHash = Field(description="Hash of the plan.")
    time: datetime | None = Field(default=None, description="When work began under it.")
    rows: Count | None = Field(default=None, description="Rows of that plan.")
    tokens: Count | None = Field(default=None, description="Tokens of that plan.")
    tokens_error_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="How far that might be off."
    )
    cost_usd: Word | None = Field(default=None, alias="costUSD", description="US dollars of that plan.")
    ceiling_tokens: Count | None = Field(
        default=None, description="Tokens, billed and at risk, at which this run waits for a new approval."
    )


class Batch(ApiModel):
    """One batch at the provider (mode Batch)."""

    id: Annotated[str, Field(max_length=128)] = Field(description="The provider's id of the batch.")
    state: Annotated[str, Field(max_length=32)] = Field(
        description="As the provider says: validating, in_progress, ..."
    )
    texts: Count = Field(default=0, description="Different texts in it.")
    done: Count = Field(default=0, description="Texts that the provider has done.")
    failed: Count = Field(default=0, description="Texts that it refused.")
    created: datetime | None = Field(default=None, description="When it was sent.")


class Failure(ApiModel):
    """A row that could not be embedded. Its text is never shown."""

    key_hash: Annotated[str, Field(max_length=64)] = Field(
        description="First 12 hex digits of the SHA-256 of the row's key; the key itself is in vectorops.failure."
    )
    reason: Annotated[str, Field(max_length=128)] = Field(description="Why, in one word.")
    attempts: Count = Field(description="How often the row was tried.")


class Status(CommonStatus):
    """How far the request is, what it costs, and what did not work."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {
        **CommonStatus.map_lists,
        "failures": ("keyHash",),
        "batches": ("id",),
    }

    run_token: Token | None = Field(default=None, description="The runToken that these figures speak of.")
    rows: Rows | None = Field(default=None, description="Rows of this request.")
    coverage_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="Selected rows (without ids and where: all of the table) that have an embedding, in percent.",
    )
    coverage: Word | None = Field(default=None, description="The same as text, e.g. 98%.")
    rate: Word | None = Field(default=None, description="Rows a second, as text, e.g. 63/s.")
    cost: Cost | None = Field(default=None, description="What it has cost and will cost.")
    progress: Progress | None = Field(default=None, description="How far it is, in rows.")
    start_time: datetime | None = Field(default=None, description="When this run began.")
    completion_time: datetime | None = Field(default=None, description="When this run ended.")
    plan: Plan | None = Field(default=None, description="What is to be done, before anything is sent.")
    approved: Approved | None = Field(default=None, description="The approval that it works under, or did last.")
    batches: Annotated[list[Batch], Field(max_length=10)] = Field(
        default_factory=list, description="Batches at the provider that have not been written, at most ten."
    )
    history: Annotated[list[HistoryEntry], Field(max_length=10)] = Field(
        default_factory=list, description="How its latest runs ended, newest first."
    )
    failures: Annotated[list[Failure], Field(max_length=10)] = Field(
        default_factory=list, description="The latest ten rows that could not be embedded."
    )
