"""What to do about a backfill: ordered checks, the first that answers wins. No IO, the clock is in the view.

A run that has ended stays ended until runToken changes. Before that: what a person must mend, how it ends, then what
stops it on purpose, then the work that runs or ran, and only then whether there is anything to begin.
"""

from __future__ import annotations

from datetime import timedelta

from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.actions import Adjust, Begin
from vectorops.kinds.embeddingbackfill.bound import allowed, is_the_work_of_this_run, stated, stopped_at, terms
from vectorops.kinds.embeddingbackfill.consent import approval_is_used_up, consent_of, plan_is_approved
from vectorops.kinds.embeddingbackfill.endings import (
    at_its_end,
    attempts_are_used_up,
    deadline_is_exceeded,
    it_ran_before,
    limit_is_reached,
    nothing_is_left,
    run_is_over,
    too_many_rows_failed,
)
from vectorops.kinds.embeddingbackfill.look import (
    STALLED_LOOK,
    WAITING_LOOK,
    WORKING_LOOK,
    Look,
    counts,
    declared,
    left_to_embed,
    soon,
    stalled,
    stop_of,
)
from vectorops.kinds.embeddingbackfill.planning import plan_of
from vectorops.kinds.embeddingbackfill.resource import Reason
from vectorops.kinds.embeddingbackfill.target import Flaw
from vectorops.kinds.embeddingbackfill.window import WindowError, opening
from vectorops.runtime.kind import Verdict

BUILDING_LOOK = 5.0  # an index build ends at some moment, and nobody tells
COUNTING_LOOK = 60.0  # the end of the counting wakes
TRY_AGAIN = timedelta(minutes=1)  # after an error that a person mends in the database
TRY_PROVIDER_AGAIN = timedelta(minutes=5)  # a paid bill is seen only by asking; a refused call costs nothing
PROVIDER_REASONS = frozenset(
    {Shared.ProviderAuthenticationFailed, Shared.QuotaExhausted, Shared.ProviderRejected, Shared.InvalidAnswer}
)


def object_is_deleted(view: Look) -> Verdict | None:
    """Nothing outside has to be undone: what was embedded stays."""
    if view.subject.deleting_since is None:
        return None
    return Verdict(Shared.Deleting, "The request is being deleted; what it embedded stays.", action=stop_of(view))


def request_is_suspended(view: Look) -> Verdict | None:
    """spec.suspend."""
    if not view.spec.suspend:
        return None
    message = "spec.suspend is true; rows embedded so far stay."
    return Verdict(Reason.Suspended, message, suspended=True, action=stop_of(view), look_again=WAITING_LOOK)


def store_is_unusable(view: Look) -> Verdict | None:
    """The store is suspended, gone or cannot be read."""
    trouble = view.observed.store
    if trouble is None:
        return None
    suspended = trouble.reason == Shared.StoreSuspended
    return Verdict(
        trouble.reason, trouble.message, reconciling=not (suspended or trouble.stalled), stalled=trouble.stalled,
        suspended=suspended, action=stop_of(view), look_again=STALLED_LOOK,
    )  # fmt: skip


def target_has_a_flaw(view: Look) -> Verdict | None:
    """What a person must mend in the store or in the table."""
    for found in (view.observed.declared, view.observed.target):
        if isinstance(found, Flaw):
            return stalled(view, found.reason, found.message)
    return None


def window_is_unreadable(view: Look) -> Verdict | None:
    """A schedule or a time zone that nobody can read is never open."""
    if view.spec.window is None:
        return None
    try:
        opening(view.spec.window, view.now)
    except WindowError as error:
        return stalled(view, Reason.WindowInvalid, f"spec.window: {error}. {Reason.WindowInvalid.next_step}")
    return None


def price_is_unknown(view: Look) -> Verdict | None:
    """A budget in dollars needs a price."""
    budget = view.spec.budget
    if budget is None or budget.max_cost_usd is None or declared(view).price:
        return None
    message = f"spec.budget.maxCostUSD is set, and VectorStore {declared(view).store} states no price. "
    return stalled(view, Reason.PriceMissing, message + Reason.PriceMissing.next_step)


def window_is_closed(view: Look) -> Verdict | None:
    """What runs ends after the write in hand; the next window goes on where it was."""
    if view.spec.window is None:
        return None
    at = opening(view.spec.window, view.now)
    if at.is_open or at_its_end(view):
        return None
    wait = max(1.0, (at.turns - view.now).total_seconds())
    message = f"spec.window is closed; the next one opens at {at.turns:%Y-%m-%dT%H:%M:%SZ}. What is embedded stays."
    return Verdict(
        Reason.WindowClosed, message, suspended=True, action=stop_of(view), look_again=min(WAITING_LOOK, wait)
    )


def work_is_running(view: Look) -> Verdict | None:
    """Leave it alone, unless what it was begun with has changed."""
    work = view.observed.work
    if work is None or not work.running:
        return None
    wanted, action = terms(view), None
    if not is_the_work_of_this_run(view):
        action = stop_of(view)
    elif work.terms != wanted:
        action = Adjust(wanted)
    after, what = _until_it_closes(view, soon(view, WORKING_LOOK)), work.waiting
    if what is None:
        return Verdict(Reason.Embedding, _how_far(view), reconciling=True, action=action, look_again=after)
    return Verdict(
        what.reason, what.message, reconciling=not what.stalled, stalled=what.stalled, action=action, look_again=after
    )


def work_ended_in_trouble(view: Look) -> Verdict | None:
    """Say it, and try again when something was mended or when time has passed."""
    work = view.observed.work
    if work is None or work.error is None or work.ended_at is None:
        return None
    patience = TRY_PROVIDER_AGAIN if work.error.reason in PROVIDER_REASONS else TRY_AGAIN
    left = work.ended_at + patience - view.now
    if left <= timedelta(0) or not is_the_work_of_this_run(view):  # mended, or a person asks for it now
        return None
    is_stalled, after = work.error.stalled, min(STALLED_LOOK, left.total_seconds())
    return Verdict(
        work.error.reason, work.error.message, reconciling=not is_stalled, stalled=is_stalled, look_again=after
    )


def index_is_being_built(view: Look) -> Verdict | None:
    """A build goes first: each row written during it makes it longer."""
    if not view.observed.build:
        return None
    message = f"An index of {declared(view).name} is being built ({view.observed.build}). "
    message += Reason.WaitingForIndexBuild.next_step
    return Verdict(Reason.WaitingForIndexBuild, message, reconciling=True, look_again=BUILDING_LOOK)


def rows_are_being_counted(view: Look) -> Verdict | None:
    """Nothing is decided on old counts. What was said of them stays said meanwhile: looking again turns nothing."""
    if not view.observed.counting:
        return None
    ready = next((one for one in view.status.conditions if one.type == "Ready"), None)
    known = next((reason for reason in Reason if ready is not None and reason == ready.reason), None)
    if ready is None or known is None or view.status.run_token != view.spec.run_token:
        return Verdict(Reason.Counting, Reason.Counting.next_step, reconciling=True, look_again=COUNTING_LOOK)
    truths = {one.type for one in view.status.conditions if one.status == "True"}
    return Verdict(
        known, ready.message, reconciling="Reconciling" in truths, stalled="Stalled" in truths,
        suspended="Suspended" in truths, look_again=COUNTING_LOOK,
    )  # fmt: skip


def batches_are_open(view: Look) -> Verdict | None:
    """What is at the provider is paid for: its results are fetched before anything else is decided."""
    if not view.observed.batches:
        return None
    message = f"{len(view.observed.batches)} batches are at the provider. {Reason.WaitingForBatch.next_step}"
    begin = Begin(terms(view))
    return Verdict(Reason.WaitingForBatch, message, reconciling=True, action=begin, look_again=WORKING_LOOK)


def budget_is_used_up(view: Look) -> Verdict | None:
    """Suspended, not failed: raising the budget goes on. Adopting what others have written costs nothing."""
    spend, found, budget = view.observed.spend, counts(view), allowed(view)
    if budget is None:
        return None
    found_out = stopped_at(view, budget)
    if found.to_adopt and not (found_out and found.pending):
        return None
    if not found_out and spend.billed + spend.reserved < budget:
        return None
    message = f"{spend.billed} tokens billed and {spend.reserved} at risk of {budget} allowed; "
    message += f"{left_to_embed(view)} rows are left. {Reason.BudgetExhausted.next_step}"
    return Verdict(Reason.BudgetExhausted, message, suspended=True, look_again=WAITING_LOOK)


def rows_are_left(view: Look) -> Verdict:
    """Begin."""
    message = f"{left_to_embed(view)} rows are to be embedded."
    if not counts(view).pending and counts(view).to_adopt:
        message = f"The texts of {counts(view).to_adopt} embeddings that others have written are to be recorded."
    plan = plan_of(view)
    consent = consent_of(view, plan)
    begin = Begin(terms(view) if consent is None else stated(view), plan, consent)
    return Verdict(Reason.Embedding, message, reconciling=True, action=begin, look_again=WORKING_LOOK)


CHECKS = (
    run_is_over, object_is_deleted, request_is_suspended, store_is_unusable, target_has_a_flaw, window_is_unreadable,
    it_ran_before, price_is_unknown, deadline_is_exceeded, attempts_are_used_up, plan_is_approved, window_is_closed,
    work_is_running, work_ended_in_trouble, index_is_being_built, rows_are_being_counted, too_many_rows_failed,
    batches_are_open, nothing_is_left, limit_is_reached, budget_is_used_up, approval_is_used_up, rows_are_left,
)  # fmt: skip


def decide(view: Look) -> Verdict:
    """The first check that has something to say."""
    return next(verdict for check in CHECKS if (verdict := check(view)) is not None)


def _until_it_closes(view: Look, seconds: float) -> float:
    if view.spec.window is None:
        return seconds
    return min(seconds, max(0.1, (opening(view.spec.window, view.now).turns - view.now).total_seconds()))


def _how_far(view: Look) -> str:
    found, spend = view.observed.counts, view.observed.spend
    left = f", about {left_to_embed(view)} are left" if found is not None else ""
    return f"{spend.rows_done} rows embedded{left}."
