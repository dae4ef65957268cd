"""When is a status worth a write? Turns at once, figures once a minute, progress every few seconds, noise never."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from vectorops.runtime.summary import write_due

PERIOD = timedelta(seconds=5)
READY = {"type": "Ready", "status": "True", "reason": "Healthy", "message": "fine", "observedGeneration": 1}


def status(**fields: Any) -> dict[str, Any]:
    return {"observedGeneration": 1, "conditions": [READY], "observed": {"rows": 1000, "sizeBytes": 100}, **fields}


def with_ready(**changes: Any) -> dict[str, Any]:
    return status(conditions=[{**READY, **changes}])


@pytest.mark.parametrize(
    ("sentence", "new", "seconds", "due"),
    [
        ("nothing changed", status(), 3600, False),
        ("a condition turned", with_ready(status="False"), 0, True),
        ("a reason turned", with_ready(reason="Warning"), 0, True),
        ("a condition came", status(conditions=[READY, {**READY, "type": "Stalled"}]), 0, True),
        ("a message alone waits for its period", with_ready(message="3 rows"), 1, False),
        ("a message alone is told after its period", with_ready(message="3 rows"), 6, True),
        ("a new generation is told at once", status(observedGeneration=2), 0, True),
        (
            "a figure that moved by a tenth or less is noise",
            status(observed={"rows": 1090, "sizeBytes": 100}),
            3600,
            False,
        ),
        ("a figure that moved by more waits a minute", status(observed={"rows": 1200, "sizeBytes": 100}), 59, False),
        (
            "a figure that moved by more is told after a minute",
            status(observed={"rows": 1200, "sizeBytes": 100}),
            60,
            True,
        ),
        (
            "a word among the figures turns",
            status(observed={"rows": 1000, "sizeBytes": 100, "version": "18.6"}),
            0,
            True,
        ),
        ("progress waits for its period", status(progress={"percent": 3}), 4, False),
        ("progress is told after its period", status(progress={"percent": 3}), 5, True),
        ("a new step is told at once", status(build={"step": "Verifying"}), 0, True),
    ],
)
def test_a_status_is_written_when_it_says_something_new(
    sentence: str, new: dict[str, Any], seconds: int, due: bool
) -> None:
    assert write_due(status(), new, timedelta(seconds=seconds), PERIOD) is due, sentence


def test_a_first_status_is_always_written() -> None:
    assert write_due({}, status(), timedelta.max, PERIOD)
    assert write_due({"observedGeneration": -1}, status(), timedelta.max, PERIOD)


def test_figures_within_lists_are_compared_one_by_one() -> None:
    old = status(observed={"indexes": [{"name": "a", "scans": 1000}, {"name": "b", "scans": 5}]})
    near = status(observed={"indexes": [{"name": "a", "scans": 1050}, {"name": "b", "scans": 5}]})
    other = status(observed={"indexes": [{"name": "a", "scans": 1000}, {"name": "c", "scans": 5}]})
    assert not write_due(old, near, timedelta(hours=1), PERIOD)
    assert write_due(old, other, timedelta(0), PERIOD)
