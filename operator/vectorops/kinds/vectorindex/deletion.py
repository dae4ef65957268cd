"""What deleting a VectorIndex undoes, and whether there is anything to undo. Pure.

A build in flight is aborted and its index dropped; a replaced index that is half dropped is dropped; with
deletionPolicy Delete the index itself goes. Refused: dropping an index that is not, by oid, the one we claimed.
"""

from __future__ import annotations

from vectorops.errors import Reason
from vectorops.kinds.vectorindex import ongoing
from vectorops.kinds.vectorindex.actions import CancelBuild, Discard, DropIndex, ReleaseClaim, Retire
from vectorops.kinds.vectorindex.facts import (
    SUPERSEDED,
    Look,
    builds,
    claim,
    claimed,
    managed,
    rivals,
    serving,
    unfinished,
)
from vectorops.kinds.vectorindex.naming import index_name
from vectorops.kinds.vectorindex.observation import Step
from vectorops.kinds.vectorindex.resource import DeletionPolicy
from vectorops.runtime.kind import Action, Verdict

PAUSE = 5.0  # seconds after an undoing that failed


def holds(look: Look) -> bool:
    """Whether a deletion would have something to undo: the finalizer's reason to be."""
    if ongoing.runs(look) or unfinished(look) or _to_drop(look) is not None:
        return True
    return look.subject.deleting_since is not None and look.subject.has_finalizer and bool(look.observed.intents)


def undone(look: Look) -> Verdict | None:
    """One step of undoing, or word that nothing is left."""
    if look.subject.deleting_since is None:
        return None
    if not holds(look):
        return _deleting(look, "Nothing is left to undo.", None)
    if ongoing.runs(look):
        return _end_work(look)
    if (waiting := _failed_just_now(look)) is not None:
        return waiting
    for intent in builds(look):
        if intent.step == Step.SWAPPED:
            action: Action = Retire(intent.build_name, intent.table_oid, intent.old_name, intent.old_oid)
            return _deleting(look, "The replaced index is dropped.", action)
        if intent.build_name in look.observed.indexes:
            action = Discard(intent.build_name, intent.table_oid, keep=False)
            return _deleting(look, f'The unfinished index "{intent.build_name}" is dropped.', action)
    if (drop := _to_drop(look)) is not None:
        return _deleting(look, f'deletionPolicy Delete: "{drop.index_name}" is dropped concurrently.', drop)
    return _deleting(look, "The claim on the index is released.", ReleaseClaim())


def _to_drop(look: Look) -> DropIndex | None:
    index, table = look.observed.index, look.observed.table
    if look.spec.deletion_policy is not DeletionPolicy.DELETE or not managed(look) or index is None or table is None:
        return None
    if index.attached:  # it can only go with its parent, which we did not make
        return None
    if rivals(look):  # another object manages it too, and goes on: only our claim goes
        return None
    if not claimed(look, index) or index.table_oid != table.oid or index.column not in (None, look.spec.column):
        return None
    return DropIndex(index_name(look.spec), index.oid, index.table_oid)


def _end_work(look: Look) -> Verdict:
    if not ongoing.creating(look):
        told = ongoing.report(look)
        return _deleting(look, told.message, None)
    job, backend, intent = look.observed.job, look.observed.backend, ongoing.running_intent(look)
    told_at = intent.updated_at if intent is not None and intent.failure is not None else None
    if (told_at is not None and look.now - told_at < ongoing.CANCEL_AGAIN) or (
        backend is None and job is not None and job.ending
    ):
        return _deleting(look, "The running build is being cancelled.", None)
    name = intent.build_name if intent is not None else job.build_name if job is not None else ""
    pid, start = (backend.pid, backend.started) if backend is not None and backend.creates else (None, None)
    return _deleting(look, "The running build is cancelled.", CancelBuild(name, SUPERSEDED, pid, start))


def _failed_just_now(look: Look) -> Verdict | None:
    job = look.observed.job
    if job is None or job.error_reason is None or job.ended is None or job.kind == "build":
        return None
    if (look.now - job.ended).total_seconds() >= max(PAUSE, job.error_after):
        return None
    return Verdict(job.error_reason, job.error_message, ready="False", stalled=job.error_stalls, look_again=PAUSE)


def _deleting(look: Look, message: str, action: Action | None) -> Verdict:
    kept = (
        "" if claim(look) is None or look.spec.deletion_policy is DeletionPolicy.DELETE else " The index itself stays."
    )
    return Verdict(
        Reason.Deleting, message + kept, ready=serving(look), reconciling=True, action=action, look_again=1.0
    )
