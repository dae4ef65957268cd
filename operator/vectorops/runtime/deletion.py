"""When a deleted object may go although what it made outside could not be undone. Pure.

A finalizer must never hang for ever, and nothing is given up untried. The time that a deletion may take begins with the
first try of this process and never with `deletionTimestamp`: an operator that was away, and a clock that is wrong, say
nothing of the database. It runs on a monotonic clock. Where the way to the outside is gone, a minute is enough; where
undoing goes on when the time is up, it is given as much time again; a person can cut it short by an annotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectorops.errors import Reason
from vectorops.runtime.kind import Subject, Verdict

DEFAULT_TIMEOUT = 600  # seconds: longer than a failover, shorter than a person's patience with a hanging namespace
GONE = frozenset({Reason.StoreNotFound, Reason.SecretNotFound, Reason.DatabaseNotFound})
GONE_SECONDS = 60.0  # a Secret is replaced, a database restored, by deleting and creating it: that takes seconds
STEP_SECONDS = 60.0  # at least, for a step that is under way: cut off, a DROP leaves an invalid index
UNDO_LOOK = 10.0  # seconds between two tries, while there is time: what a person mends meanwhile is used


@dataclass(frozen=True)
class Undoing:
    """What this process has tried for a deleted object. None of it before the first try."""

    begun: float  # on a monotonic clock
    failed: bool  # the latest try


def seconds_left(
    subject: Subject, raw_spec: dict[str, Any], undoing: Undoing | None, verdict: Verdict, now: float
) -> float:
    """Seconds for which undoing is still tried; 0 when time is up or a person said to abandon."""
    if subject.deleting_since is None:
        return float("inf")
    if subject.abandoned:
        return 0.0
    if undoing is None:  # nothing was tried yet
        return float("inf")
    given = raw_spec.get("deletionTimeoutSeconds")
    limit = float(given if isinstance(given, int) else DEFAULT_TIMEOUT)
    if str(verdict.reason) in GONE:
        limit = min(limit, GONE_SECONDS)
    elif not undoing.failed and goes_on(verdict):
        limit += max(limit, STEP_SECONDS)
    return max(0.0, limit - (now - undoing.begun))


def goes_on(verdict: Verdict) -> bool:
    """Whether undoing is under way: there is a step to take, or one that was taken is waited for."""
    return verdict.action is not None or verdict.reason == Reason.Deleting


def may_let_go(
    subject: Subject, raw_spec: dict[str, Any], undoing: Undoing | None, verdict: Verdict, now: float
) -> bool:
    """Whether the finalizer may be released with things possibly left outside."""
    return subject.deleting_since is not None and seconds_left(subject, raw_spec, undoing, verdict, now) <= 0
