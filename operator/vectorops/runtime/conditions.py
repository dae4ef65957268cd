"""Conditions as data: build them from a verdict, carry transition times over, keep them in order. Pure.

kstatus reads them: Ready exists from first sight, Reconciling and Stalled are there only while True and never both,
a terminal error sets Stalled. Nothing in here knows a kind, nor what a reason means (`status/outward.py` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from vectorops.errors import OperatorError, Stalled, Waiting
from vectorops.runtime.kind import Condition, Family, Tristate, Verdict

ORDER = ("Ready", "Reconciling", "Stalled", "Complete", "Failed", "Suspended", "Blocked")
MESSAGE_LIMIT = 1024  # long enough for a GRANT and its reason; kubectl prints it on one line


def from_verdict(verdict: Verdict, family: Family) -> list[Condition]:
    """The family's conditions as this verdict sets them."""
    reason, message = str(verdict.reason), verdict.message
    made = [Condition("Ready", verdict.ready, reason, message)]
    if verdict.reconciling:
        made.append(Condition("Reconciling", "True", reason, message))
    if verdict.stalled or verdict.failed:
        made.append(Condition("Stalled", "True", reason, message))
    if family is Family.RUN_TO_COMPLETION:
        flags = (("Complete", verdict.complete), ("Failed", verdict.failed), ("Suspended", verdict.suspended))
        made += [Condition(name, _tristate(flag), reason, message if flag else "") for name, flag in flags]
    elif verdict.suspended:
        made.append(Condition("Suspended", "True", reason, message))
    if verdict.blocked:
        made.append(Condition("Blocked", "True", reason, message))
    return made


def from_error(error: OperatorError) -> Verdict:
    """What a pass says that could not look: unknown never reads as Ready."""
    if isinstance(error, Stalled):
        return Verdict(error.reason, error.message, ready="False", stalled=True)
    ready: Tristate = "False" if isinstance(error, Waiting) else "Unknown"
    return Verdict(error.reason, error.message, ready=ready, reconciling=True)


def unknown(conditions: Iterable[dict[str, Any]], reason: str, message: str) -> list[Condition]:
    """The room's own conditions while the world cannot be seen: their names stay, their truth is unknown."""
    return [Condition(c["type"], "Unknown", reason, message) for c in conditions if c["type"] not in ORDER]


def carried(conditions: Iterable[dict[str, Any]], family: Family) -> list[Condition]:
    """Complete and Failed as they stood: an error of looking does not undo that work has ended."""
    if family is not Family.RUN_TO_COMPLETION:
        return []
    kept = ("Complete", "Failed")
    return [
        Condition(c["type"], c["status"], c["reason"], c.get("message", "")) for c in conditions if c["type"] in kept
    ]


def merge(
    former: Sequence[dict[str, Any]], stated: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The list for status: stated conditions in order, each with the time of its last turn of status."""
    times = {c["type"]: (c["status"], c.get("lastTransitionTime")) for c in former}
    merged: dict[str, dict[str, Any]] = {}
    for condition in stated:
        was, since = times.get(condition.type, (None, None))
        merged[condition.type] = {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message[:MESSAGE_LIMIT],
            "observedGeneration": generation,
            "lastTransitionTime": since if was == condition.status and since else stamp(now),
        }
    return sorted(
        merged.values(), key=lambda c: (ORDER.index(c["type"]) if c["type"] in ORDER else len(ORDER), c["type"])
    )


def find(conditions: Iterable[dict[str, Any]], type_: str) -> dict[str, Any] | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c["type"] == type_), None)


def stamp(moment: datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tristate(flag: bool) -> Tristate:
    return "True" if flag else "False"
