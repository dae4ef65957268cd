"""How a run ends, and that it stays so: complete, failed, or done by an object of the same name before. Pure.

A run that must not be repeated stands in the ledger. There it ends first and in the status afterwards, so that whoever
is killed in between ends once more instead of beginning anew.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from vectorops.clients.ledger import Entry, State
from vectorops.kinds.embeddingbackfill.actions import Finish
from vectorops.kinds.embeddingbackfill.look import (
    OVER_LOOK,
    WORKING_LOOK,
    Look,
    active_seconds,
    counts,
    stop_of,
)
from vectorops.kinds.embeddingbackfill.resource import Reason, Spec, Status
from vectorops.runtime.completion import ended
from vectorops.runtime.kind import Expire, Subject, Verdict

ENDED_LOOK = 1.0  # seconds: the status is written at once, and the ttl begins


def over(spec: Spec, status: Status) -> Verdict | None:
    """The verdict of a run that has ended, for as long as its runToken stays."""
    how = ended(spec.run_token, status)
    if how is None:
        return None
    complete = how.type == "Complete"
    return Verdict(
        how.reason, how.message, ready="True" if complete else "False", complete=complete, failed=not complete,
        look_again=OVER_LOOK,
    )  # fmt: skip


def run_is_over(view: Look) -> Verdict | None:
    """It ended before; nothing is looked at again. When its time is over, it is deleted."""
    verdict = over(view.spec, view.status)
    ttl, since = view.spec.ttl_seconds_after_finished, view.status.completion_time
    if verdict is None or ttl is None or since is None or view.subject.deleting_since is not None:
        return verdict
    left = (since + timedelta(seconds=ttl) - view.now).total_seconds()
    if left <= 0:
        return replace(verdict, action=Expire())
    return replace(verdict, look_again=min(left, OVER_LOOK))


def it_ran_before(view: Look) -> Verdict | None:
    """The ledger says that this very request has ended: in this object, unseen by its status, or in one before it."""
    entry = view.observed.entry
    if entry is None or entry.state is State.RUNNING:
        return None
    if entry.state is State.FAILED and entry.request_uid != view.subject.uid:
        return None
    if is_of(entry, view.subject):
        return _as_it_ended(view, entry)
    when = f" at {entry.ended_at:%Y-%m-%dT%H:%M:%SZ}" if entry.ended_at is not None else ""
    message = f"The same request ended before ({entry.reason}{when}) and nothing was sent. "
    return _complete(view, Reason.AlreadyExecuted, message + "Set a new runToken to run it again.")


def deadline_is_exceeded(view: Look) -> Verdict | None:
    """spec.activeDeadlineSeconds, unless the work has come to its end."""
    most = view.spec.active_deadline_seconds
    if most is None or active_seconds(view) < most or at_its_end(view):
        return None
    message = f"Not at its end after {most} s of work. {Reason.DeadlineExceeded.next_step}"
    return _failed_after_the_write(view, Reason.DeadlineExceeded, message)


def attempts_are_used_up(view: Look) -> Verdict | None:
    """spec.backoffLimit."""
    attempts, most, work = view.observed.spend.attempts, view.spec.backoff_limit, view.observed.work
    if attempts <= most or at_its_end(view):
        return None
    trouble = None if work is None else work.error or work.failed
    last = f" The last: {trouble.message}" if trouble is not None else ""
    message = f"{attempts} attempts in a row ended in an error, spec.backoffLimit is {most}.{last} "
    return _failed_after_the_write(view, Reason.BackoffLimitExceeded, message + Reason.BackoffLimitExceeded.next_step)


def too_many_rows_failed(view: Look) -> Verdict | None:
    """spec.maxFailedRows."""
    most, failed = view.spec.max_failed_rows, counts(view).failed
    if most is None or failed <= most:
        return None
    message = f"{failed} rows could not be embedded, spec.maxFailedRows is {most}. {Reason.TooManyFailedRows.next_step}"
    return _failed(view, Reason.TooManyFailedRows, message)


def nothing_is_left(view: Look) -> Verdict | None:
    """The counts prove it: no selected row that is neither embedded, blank nor recorded as refused."""
    found, done = counts(view), view.observed.spend.rows_done
    if found.pending or found.to_adopt:
        return None
    if found.failed:
        message = f"{done} rows embedded, {found.failed} could not be. {Reason.CompletedWithFailures.next_step}"
        return _complete(view, Reason.CompletedWithFailures, message)
    skipped = f", {found.blank} have no text" if found.blank else ""
    skipped += f", {found.absent_ids} of spec.ids name no row" if found.absent_ids else ""
    return _complete(view, Reason.Succeeded, f"{done} rows embedded{skipped}; none is left.")


def limit_is_reached(view: Look) -> Verdict | None:
    """spec.limit."""
    limit, done = view.spec.limit, view.observed.spend.rows_done
    if limit is None or done < limit:
        return None
    left = counts(view).pending
    return _complete(view, Reason.LimitReached, f"{done} rows embedded, spec.limit is {limit}; {left} are left.")


COUNTED_ENDS = (too_many_rows_failed, nothing_is_left, limit_is_reached)


def at_its_end(view: Look) -> bool:
    """Whether no work runs and the counts say how it ended: then no deadline and no window comes in between."""
    if view.observed.running or view.observed.counts is None or view.observed.batches:
        return False
    return any(end(view) is not None for end in COUNTED_ENDS)


def is_of(entry: Entry, subject: Subject) -> bool:
    """Whether the entry's run is this object's: it runs, ran on its account, or ended while the object was there."""
    if entry.state is State.RUNNING or entry.request_uid == subject.uid:
        return True
    return entry.state is State.COMPLETE and entry.ended_at is not None and entry.ended_at >= subject.created


def ran_before(entry: Entry | None) -> bool:
    """Whether it was complete before: then nothing is planned."""
    return entry is not None and entry.state is State.COMPLETE


def _as_it_ended(view: Look, entry: Entry) -> Verdict:
    """In the words of that end if the world still says so, for only they name what a person should mend."""
    ends = (deadline_is_exceeded, attempts_are_used_up, *COUNTED_ENDS)
    looked_at = ends if view.observed.counts is not None and not view.observed.running else ()
    for end in looked_at:
        verdict = end(view)
        if verdict is not None and verdict.reason == entry.reason:
            return verdict
    known = next((reason.next_step for reason in Reason if reason == entry.reason), "")
    told = _failed if entry.state is State.FAILED else _complete
    return told(view, entry.reason, f"{view.observed.spend.rows_done} rows embedded. {known}")


def _complete(view: Look, reason: str, message: str) -> Verdict:
    entry = view.observed.entry
    action = Finish(State.COMPLETE, str(reason)) if entry is not None and entry.state is State.RUNNING else None
    return Verdict(reason, message, ready="True", complete=True, action=action, look_again=ENDED_LOOK)


def _failed(view: Look, reason: str, message: str) -> Verdict:
    entry = view.observed.entry
    action = Finish(State.FAILED, str(reason)) if entry is not None and entry.state is State.RUNNING else None
    return Verdict(reason, message, failed=True, action=action, look_again=ENDED_LOOK)


def _failed_after_the_write(view: Look, reason: str, message: str) -> Verdict:
    """What is in flight is written first, or the last figures would be wrong for ever."""
    if view.observed.running:
        return Verdict(reason, message, reconciling=True, action=stop_of(view), look_again=WORKING_LOOK)
    return _failed(view, reason, message)
