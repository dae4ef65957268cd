"""Decide whether a new status is worth a write. Pure.

A status is written at once when something turned: a condition, a word, a generation, a step. Numbers alone are
written when one moved by more than a tenth, and then not more often than their kind of number deserves: progress
every few seconds, figures once a minute. So a settled world writes nothing, and a busy one does not flood.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

FIGURES_PERIOD = timedelta(seconds=60)  # figures of a standing object: nobody reads them more often
MOVED = 0.10  # a tenth: what a person would call a change
PACED = ("progress", "rows", "cost", "build", "coverage", "coveragePercent", "rate")  # what work in progress moves
TURNING = ("step",)  # words below a paced field that are a turn all the same
SPELLED = ("size", "summary", "eta", "ratePerSecond", "rate", "coverage", "usd", "estimatedUSD")  # numbers as text


def changed_paths(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every leaf that differs, as (path, old, new); a missing side is None. Conditions are compared by type."""
    if isinstance(old, dict | None) and isinstance(new, dict | None) and (old or new):
        old, new = old or {}, new or {}
        for key in sorted(old.keys() | new.keys()):
            yield from changed_paths(old.get(key), new.get(key), (*path, key))
    elif path == ("conditions",) and isinstance(old, list) and isinstance(new, list):
        before = {c["type"]: c for c in old}
        after = {c["type"]: c for c in new}
        yield from changed_paths(before, after, path)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before_item, after_item) in enumerate(zip(old, new, strict=True)):
            yield from changed_paths(before_item, after_item, (*path, str(index)))
    elif old != new:
        yield path, old, new


def write_due(old: dict[str, Any], new: dict[str, Any], since_write: timedelta, progress_period: timedelta) -> bool:
    """Whether `new` is to be written over `old`, which was written `since_write` ago."""
    progress = figures = False
    for path, before, after in changed_paths(old, new):
        if _turns(path, before, after):
            return True
        if path[0] in PACED or path[0] == "conditions":
            progress = True
        elif _moved(before, after):
            figures = True
    return (progress and since_write >= progress_period) or (figures and since_write >= FIGURES_PERIOD)


def _turns(path: tuple[str, ...], before: Any, after: Any) -> bool:
    if path[0] == "conditions":
        return len(path) < 3 or path[2] in ("status", "reason")  # messages, generations and times ride along
    if path[0] in PACED:
        return path[-1] in TURNING
    if path[-1].endswith(("Time", "At")):
        return False
    if path[-1] == "observedGeneration":
        return True
    spelled = path[-1] in SPELLED and isinstance(before, str) and isinstance(after, str)
    return not spelled and not (_number(before) and _number(after))


def _moved(before: Any, after: Any) -> bool:
    old, new = _value(before), _value(after)
    if old is None or new is None:
        return True
    return abs(new - old) > MOVED * max(abs(old), abs(new))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(value: Any) -> float | None:
    if _number(value):
        return float(value)
    if isinstance(value, str):
        digits = "".join(c for c in value if c.isdigit() or c == ".")
        try:
            return float(digits)
        except ValueError:
            return None
    return None
