"""What earlier steps left half done, and is finished before anything new is begun. Pure."""

from __future__ import annotations

from vectorops.errors import Reason, Reasons
from vectorops.kinds.vectorindex.actions import Discard, Forget, MarkFailed, Retire
from vectorops.kinds.vectorindex.facts import FAILURES, Look, builds, due, managed, serving, wanted_build
from vectorops.kinds.vectorindex.observation import Job, Step
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.runtime.kind import Action, Verdict

STALLED_LOOK = 60.0  # seconds: a person is at work
SHORT_PAUSE = 10.0  # seconds after work that could not begin: a connection or a lock was missing


def goes_on(look: Look, reason: Reasons, message: str, action: Action | None = None, after: float = 5.0) -> Verdict:
    """Something is done or waited for; Ready says whether searches are served meanwhile."""
    return Verdict(reason, message, ready=serving(look), reconciling=True, action=action, look_again=after)


def work_failed(look: Look) -> Verdict | None:
    """Work that ended badly: a begun build is remembered as failed; what could not begin is tried again soon."""
    job = look.observed.job
    if job is None or job.running or job.error_reason is None or job.ended is None:
        return None
    begun = next((i for i in builds(look) if i.build_name == job.build_name), None)
    if begun is not None and begun.failure is not None:
        return None  # it was cancelled by us, or is remembered already
    lost = job.error_reason == Reason.DatabaseUnavailable  # the connection, not the build, failed: it is begun anew
    if job.kind == "build" and begun is not None and begun.step == Step.BUILDING and not lost:
        failure = _failure(job)
        return goes_on(look, failure, job.error_message, MarkFailed(job.build_name, failure))
    pause = max(job.error_after, STALLED_LOOK if job.error_stalls else SHORT_PAUSE)
    left = pause - (look.now - job.ended).total_seconds()
    if left <= 0:
        return None
    stalls = job.error_stalls
    return Verdict(
        job.error_reason,
        job.error_message,
        ready=serving(look),
        reconciling=not stalls,
        stalled=stalls,
        look_again=left,
    )


def _failure(job: Job) -> Reasons:
    if job.error_reason == Reason.QueryCanceled:
        return Why.BuildCanceled
    known = {str(reason): reason for reason in FAILURES}
    return known.get(job.error_reason or "", Why.BuildFailed)


def leftovers(look: Look) -> Verdict | None:
    """What earlier steps left is finished first: replaced indexes, attempts that failed or are not wanted any more."""
    if look.observed.table is None:
        return None
    for intent in builds(look):
        there = intent.build_name in look.observed.indexes
        if intent.step == Step.SWAPPED:
            action = Retire(intent.build_name, intent.table_oid, intent.old_name, intent.old_oid)
            return goes_on(look, Why.DroppingOld, "What was replaced is dropped, then the table is analyzed.", action)
        wanted = managed(look) and intent.build_name == wanted_build(look) and due(look) is not None
        remembered = wanted and intent.failure in FAILURES
        if there and (not wanted or intent.failure is not None):
            drop = Discard(intent.build_name, intent.table_oid, keep=remembered)
            return goes_on(look, Why.CleaningUp, f'"{intent.build_name}" is unfinished and is dropped.', drop)
        if not there and not remembered and (not wanted or intent.failure is not None):
            return goes_on(look, Why.CleaningUp, "An intent that is over is struck out.", Forget(intent.build_name))
    return None
