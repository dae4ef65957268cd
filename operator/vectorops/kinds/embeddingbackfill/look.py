"""What every check of a backfill's plan asks: terms, price, counts, and whether work runs. Pure."""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import TypeAlias

from vectorops.kinds.embeddingbackfill.actions import Stop
from vectorops.kinds.embeddingbackfill.observation import Counts, Observation, Terms
from vectorops.kinds.embeddingbackfill.resource import Budget, Mode, Spec, Status
from vectorops.kinds.embeddingbackfill.target import Declared
from vectorops.runtime.kind import Action, Verdict, View

Look: TypeAlias = View[Spec, Observation, Status]

WORKING_LOOK = 5.0  # seconds between looks at running work: as often as progress is written
STALLED_LOOK = 60.0  # a person is at work
WAITING_LOOK = (
    600.0  # only a person ends it, and a change of spec, annotation or store wakes; each look counts all rows
)
OVER_LOOK = 3600.0  # nothing can happen but a change of the spec, and that wakes
MILLION = Decimal(1_000_000)
BATCH_PRICE = Decimal("0.5")  # of the price: what the provider's batch interface costs (OpenAI's Batch API guide)


def terms_of(spec: Spec, price: Decimal | None) -> Terms:
    """What the spec allows at this price. Dollars without a price allow nothing; `price_is_unknown` tells."""
    limits, budget = spec.rate_limits, spec.budget or Budget()
    allowed = [budget.max_tokens] if budget.max_tokens is not None else []
    if budget.max_cost_usd is not None and price:
        allowed.append(int((Decimal(budget.max_cost_usd) / price * MILLION).to_integral_value(ROUND_FLOOR)))
    return Terms(
        budget=min(allowed) if allowed else None,
        requests_per_minute=limits.requests_per_minute if limits else None,
        tokens_per_minute=limits.tokens_per_minute if limits else None,
        rows_per_second=limits.rows_per_second if limits else None,
    )


def price_of(spec: Spec, stated: Declared) -> Decimal | None:
    """US dollars a million tokens, in the spec's mode."""
    if stated.price is None:
        return None
    return stated.price * BATCH_PRICE if spec.mode is Mode.BATCH else stated.price


def usd(tokens: int, price: Decimal | None) -> str | None:
    """Dollars, by the user's own price; cents' fractions are kept as small amounts are usual here."""
    if price is None:
        return None
    amount = Decimal(tokens) * price / MILLION
    return f"{amount:.2f}" if amount >= 1 else f"{amount:.4f}"


def declared(view: Look) -> Declared:
    """What the store says of the table."""
    stated = view.observed.declared
    assert isinstance(stated, Declared), "flaws answered earlier"
    return stated


def counts(view: Look) -> Counts:
    """The figures of the table."""
    assert view.observed.counts is not None, "observe counts whenever neither work nor a build runs"
    return view.observed.counts


def left_to_embed(view: Look) -> int:
    """Rows that this request will still embed: of those pending, what the limit allows."""
    pending, limit = counts(view).pending, view.spec.limit
    return pending if limit is None else min(pending, max(0, limit - view.observed.spend.rows_done))


def active_seconds(view: Look) -> float:
    """For how long the run has worked or waited; suspended time is none."""
    work = view.observed.work
    return view.observed.spend.active_seconds + (work.unsaved_seconds if work is not None else 0.0)


def soon(view: Look, seconds: float) -> float:
    """When to look again: as asked, or when the deadline is reached."""
    most = view.spec.active_deadline_seconds
    return seconds if most is None else min(seconds, max(0.5, most - active_seconds(view)))


def until(view: Look, seconds_or_less: float, delta: timedelta) -> float:
    """When to look again: as asked, or after `delta`."""
    return min(seconds_or_less, max(0.5, delta.total_seconds()))


def stop_of(view: Look) -> Action | None:
    """Stop, if there is something to stop that was not asked to."""
    work = view.observed.work
    return Stop() if work is not None and work.running and not work.stopping else None


def stalled(view: Look, reason: str, message: str) -> Verdict:
    """A person must act; what runs is ended."""
    return Verdict(reason, message, stalled=True, action=stop_of(view), look_again=STALLED_LOOK)
