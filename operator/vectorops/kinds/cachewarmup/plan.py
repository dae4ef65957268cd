"""What to do about a warm-up: ordered checks, the first that answers wins. No IO, the clock is in the view.

A run that has ended stays ended until runToken changes. Success is the target reached; whether it is, is decided here
from what the work has measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

from vectorops.errors import Reason as Shared
from vectorops.kinds.cachewarmup.observation import Ledger, Observation, Pacing, Trouble
from vectorops.kinds.cachewarmup.resource import Measured, Reason, Spec, Status
from vectorops.runtime.completion import ended
from vectorops.runtime.kind import Action, Expire, Verdict, View

Look: TypeAlias = View[Spec, Observation, Status]

WORKING_LOOK = 5.0  # seconds between looks at running work: as often as progress is written
WAITING_LOOK = 5.0  # another warm-up ends at some moment, and nobody tells
FILLING_LOOK = 15.0  # a backfill takes minutes at least
STALLED_LOOK = 60.0  # a person is at work
OVER_LOOK = 3600.0  # nothing can happen but a change of the spec, and that wakes
TRY_AGAIN = timedelta(minutes=1)  # after an error that time or a person mends


@dataclass(frozen=True)
class Begin(Action):
    """Start the work, or go on with it: what the ledger says is done is not done again."""

    ledger: Ledger
    pacing: Pacing


@dataclass(frozen=True)
class Adjust(Action):
    """Work more or less gently from now on."""

    pacing: Pacing


@dataclass(frozen=True)
class Stop(Action):
    """End the work after the requests in hand."""


def pacing_of(spec: Spec) -> Pacing:
    """What the spec allows and asks for."""
    return Pacing(
        spec.requests_per_second,
        spec.concurrency,
        spec.max_pool_share_percent,
        spec.target.cache_hit_rate_percent,
        spec.target.timeout_seconds,
    )


def run_is_over(view: Look) -> Verdict | None:
    """It ended before; nothing is looked at again. When its time is over, it is deleted."""
    how = ended(view.spec.run_token, view.status)
    if how is None:
        return None
    verdict = Verdict(how.reason, how.message, look_again=OVER_LOOK)
    complete = how.type == "Complete"
    verdict = replace(verdict, ready="True" if complete else "False", complete=complete, failed=not complete)
    ttl, since = view.spec.ttl_seconds_after_finished, view.status.completion_time
    if ttl is None or since is None or view.subject.deleting_since is not None:
        return verdict
    left = (since + timedelta(seconds=ttl) - view.now).total_seconds()
    if left <= 0:
        return replace(verdict, action=Expire())
    return replace(verdict, look_again=min(left, OVER_LOOK))


def object_is_deleted(view: Look) -> Verdict | None:
    """Nothing outside has to be undone."""
    if view.subject.deleting_since is None:
        return None
    return Verdict(Shared.Deleting, "The request is being deleted; what is in the cache stays.", action=_stop(view))


def request_is_suspended(view: Look) -> Verdict | None:
    """spec.suspend."""
    if not view.spec.suspend:
        return None
    message = "spec.suspend is true; it goes on where it was when that is false again."
    return Verdict(Shared.Suspended, message, suspended=True, action=_stop(view), look_again=STALLED_LOOK)


def store_is_unusable(view: Look) -> Verdict | None:
    """The store is suspended, gone, or names no search service."""
    trouble = view.observed.store
    if trouble is None:
        return None
    suspended = trouble.reason == Shared.StoreSuspended
    return Verdict(
        trouble.reason, trouble.message, reconciling=not (suspended or trouble.stalled), stalled=trouble.stalled,
        suspended=suspended, action=_stop(view), look_again=STALLED_LOOK,
    )  # fmt: skip


def deadline_is_exceeded(view: Look) -> Verdict | None:
    """spec.activeDeadlineSeconds, unless the work has just come to its end."""
    most, since, work = view.spec.active_deadline_seconds, view.observed.ledger.started_at, view.observed.work
    if most is None or since is None or (work is not None and work.finished):
        return None
    if view.now < since + timedelta(seconds=most):
        return None
    message = f"Not at its end {most} s after it began. {Reason.DeadlineExceeded.next_step}"
    return Verdict(Reason.DeadlineExceeded, message, failed=True, action=_stop(view), look_again=OVER_LOOK)


def work_is_running(view: Look) -> Verdict | None:
    """Leave it alone, unless it shall work more or less gently, or for another runToken."""
    work = view.observed.work
    if work is None or not work.running:
        return None
    pacing, action = pacing_of(view.spec), None
    if work.ledger.token != (view.spec.run_token or ""):
        action = _stop(view)
    elif work.pacing != pacing:
        action = Adjust(pacing)
    if work.former is not None:
        return _still(work.former, action)
    if work.waiting is not None:
        what = work.waiting
        return Verdict(what.reason, what.message, reconciling=True, action=action, look_again=WORKING_LOOK)
    message = f"{work.ledger.position} of {work.ledger.selected} queries sent. " if work.ledger.selected else ""
    return Verdict(work.step, message + work.step.next_step, reconciling=True, action=action, look_again=WORKING_LOOK)


def work_ended_in_trouble(view: Look) -> Verdict | None:
    """Say it, and go on when time has passed or a person asks."""
    work = view.observed.work
    if work is None or work.error is None or work.ended_at is None:
        return None
    left = work.ended_at + TRY_AGAIN - view.now
    if left <= timedelta(0) or work.ledger.token != (view.spec.run_token or ""):
        return None
    stalled, after = work.error.stalled, min(STALLED_LOOK, left.total_seconds())
    return Verdict(work.error.reason, work.error.message, reconciling=not stalled, stalled=stalled, look_again=after)


def work_has_finished(view: Look) -> Verdict | None:
    """What has come of it."""
    work = view.observed.work
    if work is None or not work.finished or work.ledger.token != (view.spec.run_token or ""):
        return None
    verdict = _outcome(view, work.ledger)
    if verdict.failed and verdict.reason == Reason.TargetNotReached:
        left = view.spec.backoff_limit + 1 - work.ledger.attempts
        if left > 0:
            fresh = replace(work.ledger, position=0, warmed=0, failed=0, failures={}, after=None)
            fresh = replace(fresh, attempts=work.ledger.attempts + 1)
            message = f"{verdict.message} It is tried again ({left} left)."
            begin = Begin(fresh, pacing_of(view.spec))
            return Verdict(Reason.Warming, message, reconciling=True, action=begin, look_again=WORKING_LOOK)
    return verdict


def rows_are_without_embeddings(view: Look) -> Verdict | None:
    """A cache that is warmed now keeps answers in which most products are missing."""
    if not view.observed.filling:
        return None
    message = f"{view.observed.filling} {Reason.WaitingForEmbeddings.next_step}"
    return Verdict(Reason.WaitingForEmbeddings, message, reconciling=True, look_again=FILLING_LOOK)


def another_is_at_work(view: Look) -> Verdict | None:
    """Two at a time would take twice the share of the pool."""
    if not view.observed.other:
        return None
    message = f"CacheWarmup {view.observed.other} works on this service. {Reason.WaitingForWarmup.next_step}"
    return Verdict(Reason.WaitingForWarmup, message, reconciling=True, look_again=WAITING_LOOK)


def it_may_begin(view: Look) -> Verdict:
    """Begin, or go on."""
    begin, work = Begin(view.observed.ledger, pacing_of(view.spec)), view.observed.work
    if work is not None and work.error is not None and work.ledger.token == (view.spec.run_token or ""):
        return _still(work.error, begin)
    return Verdict(Reason.Selecting, Reason.Selecting.next_step, reconciling=True, action=begin, look_again=1.0)


CHECKS = (
    run_is_over, object_is_deleted, request_is_suspended, store_is_unusable, deadline_is_exceeded,
    work_is_running, work_ended_in_trouble, work_has_finished, rows_are_without_embeddings,
    another_is_at_work, it_may_begin,
)  # fmt: skip


def decide(view: Look) -> Verdict:
    """The first check that has something to say."""
    return next(verdict for check in CHECKS if (verdict := check(view)) is not None)


def _still(trouble: Trouble, action: Action | None) -> Verdict:
    """A try after trouble turns no condition before it has got anywhere."""
    stalled = trouble.stalled
    return Verdict(
        trouble.reason, trouble.message, reconciling=not stalled, stalled=stalled, action=action,
        look_again=WORKING_LOOK,
    )  # fmt: skip


def _outcome(view: Look, ledger: Ledger) -> Verdict:
    if view.spec.queries is None:
        return _complete(Reason.Succeeded, _cleared(ledger))
    if not ledger.selected:
        text = f"There is no usable query ({ledger.ignored} rows or lines are none). {Reason.NoQueries.next_step}"
        return _failed(Reason.NoQueries, text)
    if not ledger.warmed:
        return _failed(Reason.NothingWarmed, f"None of {ledger.selected} queries was answered. "
                       f"{Reason.NothingWarmed.next_step}")  # fmt: skip
    wanted, after = view.spec.target.cache_hit_rate_percent, ledger.after or Measured()
    told = f"{ledger.warmed} queries warmed; hit rate {_percent(ledger.before)} -> {_percent(after)}."
    if wanted and after.cache_hit_rate_percent is None:
        return _failed(Reason.HitRateUnknown, f"{told} {Reason.HitRateUnknown.next_step}")
    if wanted and (after.cache_hit_rate_percent or 0) < wanted:
        covered = "" if ledger.covered_percent is None else f" The queries cover {ledger.covered_percent} % of the log."
        text = f"{told} The target is {wanted} %.{covered} {Reason.TargetNotReached.next_step}"
        return _failed(Reason.TargetNotReached, text)
    if ledger.failed:
        text = f"{told} {ledger.failed} failed; see status.failures."
        return _complete(Reason.CompletedWithFailures, text)
    return _complete(Reason.Succeeded, told)


def _cleared(ledger: Ledger) -> str:
    return "The cache is cleared." if ledger.removed is None else f"{ledger.removed} entries removed from the cache."


def _percent(measured: Measured | None) -> str:
    known = measured is not None and measured.cache_hit_rate_percent is not None
    return f"{measured.cache_hit_rate_percent} %" if measured is not None and known else "unknown"


def _complete(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, ready="True", complete=True, look_again=1.0)  # soon: the ttl begins now


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, failed=True, look_again=1.0)


def _stop(view: Look) -> Action | None:
    work = view.observed.work
    return Stop() if work is not None and work.running and not work.stopping else None
