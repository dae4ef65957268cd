"""EmbeddingBackfill as the user sees it: spec and columns; the status is in `status.py`, the reasons in `reasons.py`.

A request, not a standing wish: it embeds rows and ends. What identifies it cannot be changed, as with a Job; what
steers it (suspend, budget, rate limits, approval, ttl) can, and a new `runToken` runs it again.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.kinds.embeddingbackfill.parts import (
    Budget,
    Mode,
    RateLimits,
    Select,
    Throttle,
    UnknownProvenance,
    Window,
)
from vectorops.kinds.embeddingbackfill.reasons import Reason
from vectorops.kinds.embeddingbackfill.status import Status
from vectorops.runtime.api import CommonSpec, Label, Rule, Token, immutable
from vectorops.runtime.approval import Approval, PlanHash
from vectorops.runtime.kind import Column
from vectorops.runtime.where import Conditions

Id = Annotated[str, Field(min_length=1, max_length=1024, pattern=names.TEXT)]


class Spec(CommonSpec):
    """The runbook's backfill and "Regenerate" procedures, as a request that ends."""

    rules: ClassVar[tuple[Rule, ...]] = immutable(
        "storeRef", "tableName", "select", "ids", "where", "limit", "unknownProvenance", "mode", "batchSize",
        "concurrency", "throttle", "window", "maxFailedRows", "backoffLimit", "activeDeadlineSeconds",
        why="a request stays what it was; create another one",
    )  # fmt: skip

    table_name: Label = Field(
        description="Name of an entry of spec.tables of the VectorStore; its textTemplate says what is embedded."
    )
    select: Select = Field(
        default=Select.MISSING,
        description="Missing: rows whose embedding is NULL. Stale: also those whose embedding was made from another "
        "text, template, model or dimensions. All: every row, the runbook's force.",
    )
    ids: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="Only rows with these keys, as text; of a key of several columns a JSON array of texts. "
        "With select All this is the runbook's regeneration of a product.",
    )
    where: Conditions | None = Field(default=None, description="Only rows that meet all of these conditions.")
    limit: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="Embed at most so many rows, in the order of the key. Default: all."
    )
    unknown_provenance: UnknownProvenance = Field(
        default=UnknownProvenance.ADOPT,
        description="With select Stale, of vectors that others have written: Adopt records the hash of today's text "
        "as theirs, Embed buys them again. status.plan shows how many there are.",
    )
    mode: Mode = Field(
        default=Mode.ONLINE,
        description="Online: request by request. Batch: the provider's batch interface, half the price, up to a day.",
    )
    batch_size: Annotated[int, Field(ge=1, le=2048)] | None = Field(
        default=None,
        description="Most texts in one request to the provider. Default: what its limits allow, fewer where slow.",
    )
    concurrency: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None,
        description="Most requests in flight at a time. Default: as many as help, adapted to the provider, at most 8.",
    )
    rate_limits: RateLimits | None = Field(default=None, description="Limits of this request, on top of the store's.")
    budget: Budget | None = Field(
        default=None, description="What may be spent. When it is used up the request is Suspended with BudgetExhausted."
    )
    throttle: Throttle | None = Field(default=None, description="What must not suffer from it.")
    window: Window | None = Field(default=None, description="When it may work. Default: always.")
    max_failed_rows: Annotated[int, Field(ge=0, le=10**12)] | None = Field(
        default=None,
        description="More rows that cannot be embedded than this: the request fails. Default: any number is recorded.",
    )
    approval: Approval = Field(
        default=Approval.AUTO,
        description="Manual: nothing is sent before status.plan is approved by its hash.",
    )
    approved_plan: PlanHash | None = Field(default=None, description="Hash of the plan that a person approved.")
    run_token: Token | None = Field(
        default=None, description="A new value runs the request again, also for rows that could not be embedded before."
    )
    backoff_limit: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=6,
        description="Failed after so many attempts more that ended in an error without having got any further. "
        "Rows that are refused, rate limits and what a person must mend are no attempts.",
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        default=None,
        description="Failed when it has worked or waited for longer; suspended time does not count. Default: no limit.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        default=None, description="Delete the object so many seconds after its end. Default: it stays."
    )


COLUMNS = (
    Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="Reason of Ready."),
    Column("Done", ".status.rows.done", "integer", "Rows embedded by this request."),
    Column("Total", ".status.rows.total", "integer", "Rows of this request."),
    Column("Failed", ".status.rows.failed", "integer", "Rows that could not be embedded."),
    Column("Coverage", ".status.coverage", description="Selected rows that have an embedding."),
    Column("Rate", ".status.rate", description="Rows a second."),
    Column("Cost", ".status.cost.summary", description="What was billed so far."),
    Column("ETA", ".status.progress.eta", description="What remains at the present rate."),
    Column("Age", ".metadata.creationTimestamp", "date"),
)

__all__ = [
    "COLUMNS",
    "Budget",
    "Mode",
    "RateLimits",
    "Reason",
    "Select",
    "Spec",
    "Status",
    "Throttle",
    "UnknownProvenance",
    "Window",
]
