"""What to do about a tuning: ordered checks, the first that answers wins. No IO, the clock is in the view.

A run that has ended stays ended until runToken changes. It writes nothing that a killed operator would have to
remember: begun again, it measures again. The copy of the column that a comparison needs is the only thing it leaves
outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar, TypeAlias

from vectorops.errors import Reason as Shared
from vectorops.kinds.searchtuning.observation import Findings, Observation, Trouble, WorkSeen
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Apply, Point, Spec, Status
from vectorops.runtime.completion import ended
from vectorops.runtime.kind import Action, Expire, Verdict, View

Look: TypeAlias = View[Spec, Observation, Status]

WORKING_LOOK = 5.0  # seconds between looks at running work: as often as progress is written
STALLED_LOOK = 60.0  # a person is at work
OVER_LOOK = 3600.0  # nothing can happen but a change of the spec, and that wakes


@dataclass(frozen=True)
class Begin(Action):
    """Start the work, from its beginning."""


@dataclass(frozen=True)
class BeginComparing(Begin):
    """The same with a comparison, which leaves a copy of the column until it is over."""

    leaves: ClassVar[bool] = True


@dataclass(frozen=True)
class Stop(Action):
    """End the work after the statement in hand."""


@dataclass(frozen=True)
class CleanUp(Action):
    """Drop the copy of the column."""


def holds(view: Look) -> bool:
    """Whether a deletion would have something to undo: the copy of the column."""
    work = view.observed.work
    return view.observed.leftover or (bool(view.spec.compare) and work is not None and work.running)


def copy_is_left(view: Look) -> Verdict | None:
    """A deleted request drops the copy that a killed operator left."""
    if view.subject.deleting_since is None or not view.observed.leftover or _running(view) is not None:
        return None
    return Verdict(Shared.Deleting, Reason.CleaningUp.next_step, action=CleanUp(), look_again=1.0)


def run_is_over(view: Look) -> Verdict | None:
    """It ended before; nothing is looked at again. When its time is over, it is deleted."""
    how = ended(view.spec.run_token, view.status)
    if how is None:
        return None
    complete = how.type == "Complete"
    verdict = Verdict(
        how.reason, how.message, ready="True" if complete else "False", complete=complete, failed=not complete,
        look_again=OVER_LOOK,
    )  # fmt: skip
    if view.observed.leftover and _running(view) is None:
        return replace(verdict, action=CleanUp(), look_again=1.0)
    ttl, since = view.spec.ttl_seconds_after_finished, view.status.completion_time
    if ttl is None or since is None or view.subject.deleting_since is not None:
        return verdict
    left = (since + timedelta(seconds=ttl) - view.now).total_seconds()
    return replace(verdict, action=Expire()) if left <= 0 else replace(verdict, look_again=min(left, OVER_LOOK))


def object_is_deleted(view: Look) -> Verdict | None:
    """The work ends; a value that was set for the role stays set."""
    if view.subject.deleting_since is None:
        return None
    return Verdict(Shared.Deleting, "The request is being deleted.", action=_stop(view), look_again=1.0)


def request_is_suspended(view: Look) -> Verdict | None:
    """spec.suspend."""
    if not view.spec.suspend:
        return None
    message = "spec.suspend is true; it begins anew when that is false again."
    return Verdict(Shared.Suspended, message, suspended=True, action=_stop(view), look_again=STALLED_LOOK)


def store_is_unusable(view: Look) -> Verdict | None:
    """The store is suspended or gone, or the index is not there."""
    trouble = view.observed.store
    if trouble is None:
        return None
    suspended = trouble.reason == Shared.StoreSuspended
    return Verdict(
        trouble.reason, trouble.message, reconciling=not (suspended or trouble.stalled), stalled=trouble.stalled,
        suspended=suspended, action=_stop(view), look_again=STALLED_LOOK if trouble.stalled else 10.0,
    )  # fmt: skip


def deadline_is_exceeded(view: Look) -> Verdict | None:
    """spec.activeDeadlineSeconds, unless the work has just come to its end."""
    most, work = view.spec.active_deadline_seconds, view.observed.work
    since = view.status.start_time if view.status.run_token == view.spec.run_token else None
    if most is None or since is None or (work is not None and work.finished):
        return None
    if view.now < since + timedelta(seconds=most):
        return None
    message = f"Not at its end {most} s after it began. {Reason.DeadlineExceeded.next_step}"
    return Verdict(Reason.DeadlineExceeded, message, failed=True, action=_stop(view), look_again=1.0)


def work_is_running(view: Look) -> Verdict | None:
    """Leave it alone, unless it is for another runToken."""
    work = _running(view)
    if work is None:
        return None
    action = _stop(view) if work.token != (view.spec.run_token or "") else None
    if work.former is not None:
        return _still(work.former, action)
    message = f"{work.done} searches done. " if work.done else ""
    return Verdict(work.step, message + work.step.next_step, reconciling=True, action=action, look_again=WORKING_LOOK)


def work_ended_in_trouble(view: Look) -> Verdict | None:
    """Say it, and begin again when time has passed."""
    work = view.observed.work
    if work is None or work.error is None or work.ended_at is None or work.token != (view.spec.run_token or ""):
        return None
    left = work.ended_at + timedelta(seconds=work.error.rest) - view.now
    if left <= timedelta(0):
        return None
    stalled, after = work.error.stalled, min(STALLED_LOOK, left.total_seconds())
    return Verdict(work.error.reason, work.error.message, reconciling=not stalled, stalled=stalled, look_again=after)


def work_has_finished(view: Look) -> Verdict | None:
    """What has come of it."""
    work = view.observed.work
    if work is None or not work.finished or work.token != (view.spec.run_token or ""):
        return None
    return outcome(view.spec, work.found)


def it_may_begin(view: Look) -> Verdict:
    """Begin, from the beginning."""
    work, begin = view.observed.work, BeginComparing() if view.spec.compare else Begin()
    if work is not None and work.error is not None and work.token == (view.spec.run_token or ""):
        return _still(work.error, begin)
    return Verdict(Reason.Sampling, Reason.Sampling.next_step, reconciling=True, action=begin, look_again=1.0)


CHECKS = (
    copy_is_left, run_is_over, object_is_deleted, request_is_suspended, store_is_unusable, deadline_is_exceeded,
    work_is_running, work_ended_in_trouble, work_has_finished, it_may_begin,
)  # fmt: skip


def decide(view: Look) -> Verdict:
    """The first check that has something to say."""
    return next(verdict for check in CHECKS if (verdict := check(view)) is not None)


def outcome(spec: Spec, found: Findings) -> Verdict:
    """Success or failure of a run that came to its end."""
    if found.queries < 32 and found.chosen is None and not found.curve:
        text = f"Only {found.queries} searches could be drawn. {Reason.TooFewQueries.next_step}"
        return _failed(Reason.TooFewQueries, text)
    if found.chosen is None:
        best = max(found.curve, key=lambda point: point.ef_search, default=None)
        told = f"{told_of(best)}; the target is {spec.recall_target_percent} %. " if best is not None else ""
        return _failed(Reason.TargetNotReached, told + Reason.TargetNotReached.next_step)
    budget = spec.p95_budget_milliseconds
    if budget is not None and found.chosen.p95_milliseconds > budget:
        text = f"{told_of(found.chosen)}; the budget is {budget} ms. {Reason.BudgetExceeded.next_step}"
        return _failed(Reason.BudgetExceeded, text)
    told = f"{told_of(found.chosen)}."
    if found.applied is not None:
        told += f' It is set for new sessions of role "{found.applied.role}".'
    if spec.apply is Apply.ROLE and found.declared is not None and found.declared != found.chosen.ef_search:
        text = f"{told} The VectorStore declares {found.declared}. {Reason.DeclaredByVectorStore.next_step}"
        return _complete(Reason.DeclaredByVectorStore, text)
    return _complete(Reason.Succeeded, told)


def told_of(point: Point) -> str:
    """A point in words."""
    sure = f" (surely {point.lower_bound_percent} %)" if point.lower_bound_percent is not None else ""
    return f"ef_search {point.ef_search} finds {point.recall_percent} %{sure}, p95 {point.p95_milliseconds} ms"


def _running(view: Look) -> WorkSeen | None:
    work = view.observed.work
    return work if work is not None and work.running else None


def _still(trouble: Trouble, action: Action | None) -> Verdict:
    """A try after trouble turns no condition before it has got anywhere."""
    stalled = trouble.stalled
    return Verdict(
        trouble.reason, trouble.message, reconciling=not stalled, stalled=stalled, action=action,
        look_again=WORKING_LOOK,
    )  # fmt: skip


def _complete(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, ready="True", complete=True, look_again=1.0)  # soon: the ttl begins now


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, failed=True, look_again=1.0)


def _stop(view: Look) -> Action | None:
    work = _running(view)
    return Stop() if work is not None and not work.stopping else None
