"""What to do about a backfill: ordered checks, the first that answers wins. No IO, the clock is in the view.

A run that has ended stays ended until runToken changes. Before that: what a person must mend, then what stops it on
purpose, then the work that runs or ran, and only then whether there is anything to begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import TypeAlias

from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.observation import Counts, End, Observation, Terms
from vectorops.kinds.embeddingbackfill.resource import Budget, Reason, Spec, Status
from vectorops.kinds.embeddingbackfill.target import Declared, Flaw
from vectorops.runtime.completion import ended
from vectorops.runtime.kind import Action, Verdict, View

Look: TypeAlias = View[Spec, Observation, Status]

WORKING_LOOK = 5.0  # seconds between looks at running work: as often as progress is written
WAITING_LOOK = 5.0  # an index build ends at some moment, and nobody tells
STALLED_LOOK = 60.0  # a person is at work
OVER_LOOK = 3600.0  # nothing can happen but a change of the spec, and that wakes
TRY_AGAIN = timedelta(minutes=1)  # after an error that a person mends in the database
TRY_PROVIDER_AGAIN = timedelta(minutes=5)  # a paid bill is seen only by asking; a refused call costs nothing
PROVIDER_REASONS = frozenset(
    {Shared.ProviderAuthenticationFailed, Shared.QuotaExhausted, Shared.ProviderRejected, Shared.InvalidAnswer}
)
MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Begin(Action):
    """Start the work under these terms."""

    terms: Terms


@dataclass(frozen=True)
class Adjust(Action):
    """Give the running work other terms."""

    terms: Terms


@dataclass(frozen=True)
class Stop(Action):
    """End the running work after the write in hand."""


def over(spec: Spec, status: Status) -> Verdict | None:
    """The verdict of a run that has ended, for as long as its runToken stays."""
    how = ended(spec.run_token, status)
    if how is None:
        return None
    if how.type == "Complete":
        return _complete(how.reason, how.message)
    return Verdict(how.reason, how.message, failed=True, look_again=OVER_LOOK)


def terms_of(spec: Spec, price: Decimal | None) -> Terms:
    """What the spec allows. Dollars without a price allow nothing; `price_is_known` tells."""
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


def run_is_over(view: Look) -> Verdict | None:
    """It ended before; nothing is looked at again."""
    return over(view.spec, view.status)


def object_is_deleted(view: Look) -> Verdict | None:
    """Nothing outside has to be undone: what was embedded stays."""
    if view.subject.deleting_since is None:
        return None
    return Verdict(Shared.Deleting, "The request is being deleted; what it embedded stays.", action=_stop(view))


def request_is_suspended(view: Look) -> Verdict | None:
    """spec.suspend."""
    if not view.spec.suspend:
        return None
    message = "spec.suspend is true; rows embedded so far stay."
    return Verdict(Reason.Suspended, message, suspended=True, action=_stop(view), look_again=STALLED_LOOK)


def store_is_unusable(view: Look) -> Verdict | None:
    """The store is suspended, gone or cannot be read."""
    trouble = view.observed.store
    if trouble is None:
        return None
    suspended = trouble.reason == Shared.StoreSuspended
    return Verdict(
        trouble.reason, trouble.message, reconciling=not (suspended or trouble.stalled), stalled=trouble.stalled,
        suspended=suspended, action=_stop(view), look_again=STALLED_LOOK,
    )  # fmt: skip


def target_has_a_flaw(view: Look) -> Verdict | None:
    """What a person must mend in the store or in the table."""
    for found in (view.observed.declared, view.observed.target):
        if isinstance(found, Flaw):
            return Verdict(found.reason, found.message, stalled=True, action=_stop(view), look_again=STALLED_LOOK)
    return None


def price_is_unknown(view: Look) -> Verdict | None:
    """A budget in dollars needs a price."""
    budget = view.spec.budget
    if budget is None or budget.max_cost_usd is None or _declared(view).price:
        return None
    message = f"spec.budget.maxCostUSD is set, and VectorStore {_declared(view).store} states no price. "
    message += Reason.PriceMissing.next_step
    return Verdict(Reason.PriceMissing, message, stalled=True, action=_stop(view), look_again=STALLED_LOOK)


def work_is_running(view: Look) -> Verdict | None:
    """Leave it alone, unless what it was begun with has changed."""
    work = view.observed.work
    if work is None or not work.running:
        return None
    terms = terms_of(view.spec, _declared(view).price)
    action: Action | None = None
    if work.target != view.observed.target or work.fingerprint != view.observed.fingerprint:
        action = _stop(view)
    elif work.terms != terms:
        action = Adjust(terms)
    if work.waiting is not None:
        return Verdict(
            work.waiting.reason, work.waiting.message, reconciling=True, action=action, look_again=WORKING_LOOK
        )
    return Verdict(Reason.Embedding, _how_far(view), reconciling=True, action=action, look_again=WORKING_LOOK)


def work_ended_in_trouble(view: Look) -> Verdict | None:
    """Say it, and try again when something was mended or when time has passed."""
    work = view.observed.work
    if work is None or work.error is None or work.ended_at is None:
        return None
    patience = TRY_PROVIDER_AGAIN if work.error.reason in PROVIDER_REASONS else TRY_AGAIN
    left = work.ended_at + patience - view.now
    if work.token != (view.spec.run_token or ""):  # a person asks for it now
        return None
    if left <= timedelta(0) or work.fingerprint != view.observed.fingerprint or work.target != view.observed.target:
        return None
    stalled, after = work.error.stalled, min(STALLED_LOOK, left.total_seconds())
    return Verdict(work.error.reason, work.error.message, reconciling=not stalled, stalled=stalled, look_again=after)


def index_is_being_built(view: Look) -> Verdict | None:
    """A build goes first: each row written during it makes it longer."""
    if not view.observed.build:
        return None
    message = f"An index of {_declared(view).name} is being built ({view.observed.build}). "
    message += Reason.WaitingForIndexBuild.next_step
    return Verdict(Reason.WaitingForIndexBuild, message, reconciling=True, look_again=WAITING_LOOK)


def batches_are_open(view: Look) -> Verdict | None:
    """What is at the provider is paid for: its results are fetched before anything else is decided."""
    if not view.observed.batches:
        return None
    message = f"{len(view.observed.batches)} batches are at the provider. {Reason.WaitingForBatch.next_step}"
    terms = terms_of(view.spec, _declared(view).price)
    return Verdict(Reason.WaitingForBatch, message, reconciling=True, action=Begin(terms), look_again=WORKING_LOOK)


def too_many_rows_failed(view: Look) -> Verdict | None:
    """spec.maxFailedRows."""
    most, failed = view.spec.max_failed_rows, _counts(view).failed
    if most is None or failed <= most:
        return None
    message = f"{failed} rows could not be embedded, spec.maxFailedRows is {most}. {Reason.TooManyFailedRows.next_step}"
    return Verdict(Reason.TooManyFailedRows, message, failed=True, look_again=OVER_LOOK)


def nothing_is_left(view: Look) -> Verdict | None:
    """The counts prove it: no selected row without embedding, blank text or recorded failure."""
    counts, done = _counts(view), view.observed.spend.rows_done
    if counts.pending or counts.to_adopt:
        return None
    if counts.failed:
        message = f"{done} rows embedded, {counts.failed} could not be. {Reason.CompletedWithFailures.next_step}"
        return _complete(Reason.CompletedWithFailures, message)
    skipped = f", {counts.blank} have no text" if counts.blank else ""
    skipped += f", {counts.absent_ids} of spec.ids name no row" if counts.absent_ids else ""
    return _complete(Reason.Succeeded, f"{done} rows embedded{skipped}; none is left.")


def limit_is_reached(view: Look) -> Verdict | None:
    """spec.limit."""
    limit, done = view.spec.limit, view.observed.spend.rows_done
    if limit is None or done < limit:
        return None
    left = _counts(view).pending
    return _complete(Reason.LimitReached, f"{done} rows embedded, spec.limit is {limit}; {left} are left.")


def budget_is_used_up(view: Look) -> Verdict | None:
    """Suspended, not failed: raising the budget goes on."""
    spend, work = view.observed.spend, view.observed.work
    terms = terms_of(view.spec, _declared(view).price)
    if terms.budget is None:
        return None
    found_out = work is not None and work.end is End.BUDGET and work.terms.budget == terms.budget
    if not found_out and spend.billed + spend.reserved < terms.budget:
        return None
    message = f"{spend.billed} tokens billed and {spend.reserved} at risk of {terms.budget} allowed; "
    message += f"{_counts(view).pending} rows are left. {Reason.BudgetExhausted.next_step}"
    return Verdict(Reason.BudgetExhausted, message, suspended=True, look_again=STALLED_LOOK)


def rows_are_left(view: Look) -> Verdict:
    """Begin."""
    terms = terms_of(view.spec, _declared(view).price)
    message = f"{_counts(view).pending} rows are to be embedded."
    return Verdict(Reason.Embedding, message, reconciling=True, action=Begin(terms), look_again=WORKING_LOOK)


CHECKS = (
    run_is_over, object_is_deleted, request_is_suspended, store_is_unusable, target_has_a_flaw, price_is_unknown,
    work_is_running, work_ended_in_trouble, index_is_being_built, batches_are_open, too_many_rows_failed,
    nothing_is_left, limit_is_reached, budget_is_used_up, rows_are_left,
)  # fmt: skip


def decide(view: Look) -> Verdict:
    """The first check that has something to say."""
    return next(verdict for check in CHECKS if (verdict := check(view)) is not None)


def _complete(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, ready="True", complete=True, look_again=OVER_LOOK)


def _stop(view: Look) -> Action | None:
    work = view.observed.work
    return Stop() if work is not None and work.running and not work.stopping else None


def _declared(view: Look) -> Declared:
    declared = view.observed.declared
    assert isinstance(declared, Declared), "flaws answered earlier"
    return declared


def _counts(view: Look) -> Counts:
    assert view.observed.counts is not None, "observe counts whenever neither work nor a build runs"
    return view.observed.counts


def _how_far(view: Look) -> str:
    counts, spend = view.observed.counts, view.observed.spend
    left = f", about {counts.pending} are left" if counts is not None else ""
    return f"{spend.rows_done} rows embedded{left}."
