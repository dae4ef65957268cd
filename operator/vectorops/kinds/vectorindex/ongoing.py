"""Work in progress: what it says, how far it is, and when it must be cancelled. Pure.

Work is either this process's own (a job) or was found at work in the server after a restart (a backend of ours
without a job); both are reported alike. PROGRESS is a share of the whole build; the shares of the phases are
rough, and the ETA is given only for what can be measured.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from vectorops.kinds.vectorindex.actions import CancelBuild, WriteComment
from vectorops.kinds.vectorindex.consent import lagging
from vectorops.kinds.vectorindex.facts import (
    SUPERSEDED,
    Look,
    builds,
    comment_of,
    due,
    managed,
    rivals,
    serving,
    wanted_build,
)
from vectorops.kinds.vectorindex.observation import Backend, Intent
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.sizing import LOADING_SHARE, Estimate, remaining
from vectorops.runtime.kind import Verdict
from vectorops.runtime.rounding import size_text
from vectorops.runtime.tenancy import named

LOOK_AGAIN = 2.0  # seconds: the pace of progress; status is written less often than that
CANCEL_AGAIN = timedelta(seconds=5)  # a cancel can arrive between two statements and be lost
LOADING = "building index"
WAITING = "waiting for"
SHARES = {  # of the whole, at the beginning of each phase of pg_stat_progress_create_index
    "waiting for writers before validation": LOADING_SHARE,
    "index validation: scanning index": LOADING_SHARE + 0.02,
    "index validation: sorting tuples": LOADING_SHARE + 0.07,
    "index validation: scanning table": LOADING_SHARE + 0.08,
    "waiting for old snapshots": 0.98,
}


def runs(look: Look) -> bool:
    """Whether anything of ours is at work now."""
    return look.observed.backend is not None or (look.observed.job is not None and look.observed.job.running)


def creating(look: Look) -> bool:
    """Whether what is at work is a build."""
    job, backend = look.observed.job, look.observed.backend
    if job is not None and job.running:
        return job.kind == "build"
    return backend is not None and backend.creates


def running_intent(look: Look) -> Intent | None:
    """The intent of the running build."""
    job, backend = look.observed.job, look.observed.backend
    if job is not None and job.running:
        return next((i for i in builds(look) if i.build_name == job.build_name), None)
    by_oid = {index.oid: name for name, index in look.observed.indexes.items()}
    name = by_oid.get(backend.index_oid) if backend is not None and backend.index_oid is not None else None
    return next((i for i in builds(look) if i.build_name == name), None)


def began(look: Look) -> datetime:
    """When the running work began: its statement, or the work before it is sent."""
    job, backend = look.observed.job, look.observed.backend
    if backend is not None and backend.statement_started is not None and backend.creates:
        return backend.statement_started
    return job.started if job is not None else look.now


def share_loaded(look: Look) -> float:
    """Share of the table that the running build has read, 0..1."""
    backend = look.observed.backend
    if backend is None or not backend.phase.startswith(LOADING):
        return 0.0
    if backend.blocks_total > 0:
        return min(backend.blocks_done / backend.blocks_total, 1.0)
    rows = look.observed.table.rows if look.observed.table else 0
    return min(backend.tuples_done / rows, 1.0) if rows else 0.0


def percent(look: Look) -> int | None:
    """Whole percent of the running build, or None where the server does not say."""
    backend = look.observed.backend
    if backend is None or not backend.creates:
        return None
    if backend.phase.startswith(LOADING):
        return int(100 * LOADING_SHARE * share_loaded(look))
    return int(100 * SHARES.get(backend.phase, 0.0))


def estimate(look: Look) -> Estimate | None:
    """What remains of the running build; None while it waits or has only begun."""
    backend, job = look.observed.backend, look.observed.job
    if backend is None or not backend.phase.startswith(LOADING):
        return None
    spill = job.spill if job is not None else None
    return remaining(share_loaded(look), backend.tuples_done, began(look), look.now, spill)


# -- checks --------------------------------------------------------------------------------------------------------


def build_must_end(look: Look) -> Verdict | None:
    """A running build is cancelled when it is not wanted any more, or exceeds a limit of the spec."""
    if not runs(look) or not creating(look):
        return None
    cause = _cause(look)
    if cause is None:
        return None
    failure, message = cause
    job, backend, intent = look.observed.job, look.observed.backend, running_intent(look)
    name = intent.build_name if intent is not None else job.build_name if job is not None else wanted_build(look)
    told = intent is not None and intent.failure is not None and intent.updated_at is not None
    again = intent is None or intent.updated_at is None or look.now - intent.updated_at >= CANCEL_AGAIN
    sent = backend is not None and backend.creates
    action = None
    if (not told or again) and (sent or (job is not None and not job.ending)):
        pid, start = (backend.pid, backend.started) if backend is not None and sent else (None, None)
        action = CancelBuild(name, failure, pid, start)
    return Verdict(Why.CleaningUp, message, ready=serving(look), reconciling=True, action=action, look_again=1.0)


def _cause(look: Look) -> tuple[str, str] | None:
    intent, limits, backend = running_intent(look), look.spec.build, look.observed.backend
    if intent is not None and intent.failure is not None:
        return intent.failure, f"The build is being cancelled ({intent.failure})."
    job = look.observed.job
    name = intent.build_name if intent is not None else job.build_name if job is not None and job.running else None
    if name is not None and (name != wanted_build(look) or not managed(look) or due(look) is None):
        return SUPERSEDED, "The running build is no longer what the spec asks for; it is cancelled and cleaned up."
    seconds = (look.now - began(look)).total_seconds()
    if backend is not None and limits.max_duration_seconds is not None and seconds > limits.max_duration_seconds:
        return Why.BuildTimedOut, f"The build took longer than {limits.max_duration_seconds} s; it is cancelled."
    waited = backend.blocker.waiting_seconds if backend is not None and backend.blocker is not None else 0
    if limits.max_lock_wait_seconds is not None and waited > limits.max_lock_wait_seconds:
        return Why.LockWaitExceeded, f"The build waited longer than {limits.max_lock_wait_seconds} s; it is cancelled."
    return None


def comment_is_due(look: Look) -> Verdict | None:
    """The index being built says whose it is, as soon as it can be seen."""
    backend, intent = look.observed.backend, running_intent(look)
    if backend is None or not backend.creates or intent is None or not backend.phase.startswith(LOADING):
        return None
    index, comment = look.observed.indexes.get(intent.build_name), comment_of(look, intent.run_token)
    if index is None or index.comment == comment:
        return None
    told = report(look)
    return Verdict(
        told.reason,
        told.message,
        ready=told.ready,
        reconciling=True,
        action=WriteComment(index.name, index.oid, comment),
    )


def work_goes_on(look: Look) -> Verdict | None:
    """What is at work is reported; nothing else is begun."""
    return report(look) if runs(look) else None


def report(look: Look) -> Verdict:
    """The running work in words."""
    reason, message = _words(look)
    if rivals(look):
        message += f" {conflict(look)}"
    return Verdict(reason, message, ready=serving(look), reconciling=True, look_again=LOOK_AGAIN)


def conflict(look: Look) -> str:
    """Who else claims the index."""
    others = named(look.subject.namespace, "VectorIndex", (rival.owner for rival in rivals(look)))
    return f"The index is also claimed by {others}: only one object can manage it."


def _words(look: Look) -> tuple[Why, str]:
    job, backend = look.observed.job, look.observed.backend
    if job is not None and job.running and job.step == Why.WaitingForTableLock:
        return Why.WaitingForTableLock, "Another operation of vectorops works on this table; this one goes next."
    if backend is not None and (waiting := _waiting(backend)):
        return Why.WaitingForOldTransactions, waiting
    if not creating(look):
        if job is not None and job.running and job.kind == "retire":
            return Why.DroppingOld, "What was replaced is dropped concurrently, then the table is analyzed."
        return Why.CleaningUp, "An index that is not wanted any more is dropped concurrently."
    return Why.Building, _building(look)


def _waiting(backend: Backend) -> str | None:
    if backend.blocker is None or (backend.creates and not backend.phase.startswith(WAITING)):
        return None
    blocker = backend.blocker
    if blocker.pid == 0:
        return "Waiting for a prepared transaction; if it is not wanted: ROLLBACK PREPARED, see pg_prepared_xacts."
    age = f", open for {blocker.age_seconds} s" if blocker.age_seconds is not None else ""
    name = f" ({blocker.application})" if blocker.application else ""
    end = f"SELECT pg_terminate_backend({blocker.pid});"
    return f"Waiting for the transaction of pid {blocker.pid}{name}{age}; if it is not wanted: {end}"


def _building(look: Look) -> str:
    job, backend = look.observed.job, look.observed.backend
    adopted = "" if job is not None and job.running else " It was begun by an operator before this one and is taken up."
    sized = f" maintenance_work_mem {size_text(job.memory)}," if job is not None and job.memory else ""
    sized += f" {job.workers} parallel workers." if sized and job is not None else ""
    note = f" {job.note}." if job is not None and job.note else ""
    note += f" {behind}; it goes on." if (behind := lagging(look)) is not None else ""
    phase = f" ({backend.phase})" if backend is not None and backend.phase else ""
    return f"CREATE INDEX CONCURRENTLY runs{phase}.{sized}{note}{adopted}"
