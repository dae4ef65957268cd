"""The status as this version can read it: what an older or newer one wrote otherwise counts as not there. Pure.

Status is never the source of truth, so an unreadable field is an empty one and costs a look at the world. One thing is
kept whatever else is lost: that a run has ended. Forgetting that would run it again, and runs cost money.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from vectorops.runtime.conditions import MESSAGE_LIMIT
from vectorops.runtime.kind import Family

ENDS = ("Complete", "Failed")
LONG_AGO = "1970-01-01T00:00:00Z"  # of a turn whose time cannot be read: the next turn has one


def readable(status: type[BaseModel], written: dict[str, Any], family: Family, run_token: Any) -> dict[str, Any]:
    """`written` without what `status` cannot read; `run_token` is the spec's, for a run that is known to have ended."""
    ended = _ended(written) if family is Family.RUN_TO_COMPLETION else []
    kept = dict(written)
    for _ in range(2):  # first what is named, then all but the conditions
        lost = _unreadable(status, kept)
        if not lost:
            return kept
        kept = _without(kept, lost)
        if ended:
            others = [one for one in kept.get("conditions", []) if one.get("type") not in ENDS]
            kept["conditions"] = others + ended
            if "runToken" not in kept and "runToken" in written:
                kept["runToken"] = run_token  # whose end it was cannot be read: this one's, rather than run twice
    if not _unreadable(status, kept):
        return kept
    return {"conditions": ended, **({"runToken": run_token} if run_token else {})} if ended else {}


def _unreadable(status: type[BaseModel], written: dict[str, Any]) -> list[Sequence[int | str]]:
    try:
        status.model_validate(written)
    except ValidationError as error:
        return [one["loc"] for one in error.errors()] or [()]
    return []


def _without(written: dict[str, Any], lost: list[Sequence[int | str]]) -> dict[str, Any]:
    """Without the fields that are named; of the conditions only the entries that cannot be read."""
    single = {at[1] for at in lost if len(at) > 1 and at[0] == "conditions" and isinstance(at[1], int)}
    whole = {str(at[0]) for at in lost if at and not (at[0] == "conditions" and len(at) > 1)}
    kept = {name: value for name, value in written.items() if name not in whole}
    if single and "conditions" in kept:
        kept["conditions"] = [one for at, one in enumerate(kept["conditions"]) if at not in single]
    return kept


def _ended(written: dict[str, Any]) -> list[dict[str, Any]]:
    """That it has Completed or Failed, with as much of it as can be read."""
    conditions = written.get("conditions")
    found = [one for one in conditions if isinstance(one, dict)] if isinstance(conditions, list) else []
    return [
        {
            "type": one["type"],
            "status": "True",
            "reason": str(one.get("reason", one["type"]))[:MESSAGE_LIMIT],
            "message": str(one.get("message", ""))[:MESSAGE_LIMIT],
            "lastTransitionTime": _time(one.get("lastTransitionTime")),
        }
        for one in found
        if one.get("type") in ENDS and str(one.get("status")) == "True"
    ]


def _time(value: Any) -> str:
    try:
        return value if isinstance(value, str) and datetime.fromisoformat(value).tzinfo else LONG_AGO
    except ValueError:
        return LONG_AGO
