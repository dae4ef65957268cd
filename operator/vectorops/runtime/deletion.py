"""When a deleted object may go although what it made outside could not be undone. Pure.

A finalizer must never hang for ever: where the way to the outside is gone for good it is let go at once, where it
is only broken it is tried for `deletionTimeoutSeconds`, and a person can cut that short by an annotation.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from vectorops.errors import Reason
from vectorops.runtime.kind import Subject

DEFAULT_TIMEOUT = 600  # seconds: longer than a failover, shorter than a person's patience with a hanging namespace
GONE = frozenset({Reason.StoreNotFound, Reason.SecretNotFound, Reason.DatabaseNotFound})


def seconds_left(subject: Subject, raw_spec: dict[str, Any], now: datetime) -> float:
    """Seconds for which undoing is still tried; 0 when time is up or a person said to abandon."""
    if subject.deleting_since is None:
        return float("inf")
    if subject.abandoned:
        return 0.0
    given = raw_spec.get("deletionTimeoutSeconds")
    limit = given if isinstance(given, int) else DEFAULT_TIMEOUT
    return max(0.0, limit - (now - subject.deleting_since).total_seconds())


def may_let_go(subject: Subject, reason: str, raw_spec: dict[str, Any], now: datetime) -> bool:
    """Whether the finalizer may be released with things possibly left outside."""
    if subject.deleting_since is None:
        return False
    return reason in GONE or seconds_left(subject, raw_spec, now) <= 0
