"""Parts of an EmbeddingBackfill's spec: limits, budget, throttle, window; which rows, in which way."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.runtime.api import ApiModel, Decimal, Rule


class Select(StrEnum):
    """Which rows are embedded; each includes the one before."""

    MISSING = "Missing"
    STALE = "Stale"
    ALL = "All"


class UnknownProvenance(StrEnum):
    """What Stale makes of vectors that others have written."""

    ADOPT = "Adopt"
    EMBED = "Embed"


class Mode(StrEnum):
    """How the provider is asked."""

    ONLINE = "Online"
    BATCH = "Batch"


class RateLimits(ApiModel):
    """Limits of this request alone, on top of the store's: the lower one holds."""

    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Most requests a minute that are sent to the provider."
    )
    tokens_per_minute: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = Field(
        default=None, description="Most tokens a minute that are sent to the provider."
    )
    rows_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Most rows a second that are written to the table."
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


class Throttle(ApiModel):
    """What must not suffer. Nothing is sent while one of these is exceeded; it goes on by itself."""

    max_replica_lag_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None, description="Pause while a standby of the database is further behind (WaitingForReplica)."
    )
    max_p95_milliseconds: Annotated[int, Field(ge=1, le=600_000)] | None = Field(
        default=None, description="Pause while the search service's p95 latency is higher (WaitingForService)."
    )


class Window(ApiModel):
    """When it may work. When a window closes, what is in flight is written and the rest waits for the next one."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=r"self.schedule.matches('^[^ ]+( +[^ ]+){4}$')",
            message="schedule needs five cron fields, such as 0 22 * * *.",
        ),
    )

    schedule: Annotated[str, Field(min_length=9, max_length=128, pattern=names.CRON)] = Field(
        description="When a window opens: five cron fields, such as `0 22 * * *`."
    )
    duration_seconds: Annotated[int, Field(ge=60, le=604_800)] = Field(description="How long it stays open.")
    time_zone: Annotated[str, Field(min_length=1, max_length=64, pattern=names.TIME_ZONE)] = Field(
        default="UTC", description="IANA name of the schedule's time zone, such as Europe/Berlin."
    )
