"""What others may still bring is waited for before it is a failure; a pause is none; what serves stays Ready."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.errors import Means
from vectorops.runtime.conditions import from_verdict
from vectorops.runtime.kind import Family, Tristate, Verdict
from vectorops.runtime.status.outward import CALM, Waited, advanced_at, outward

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEADLINE = timedelta(seconds=600)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def said(means: Means, ready: Tristate = "False", late: bool = False, family: Family = Family.STANDING) -> set[str]:
    """The conditions that are True, of a verdict whose room said that a person must act."""
    verdict = outward(Verdict("Some", "why", ready=ready, stalled=True), means, family, late=late)
    return {one.type for one in from_verdict(verdict, family) if one.status == "True"}


@pytest.mark.parametrize(
    ("sentence", "means", "ready", "late", "expected"),
    [
        ("others may bring it", Means.AWAITED, "False", False, {"Reconciling"}),
        ("nobody did, for too long", Means.AWAITED, "False", True, {"Stalled"}),
        ("it cannot be seen", Means.AWAITED, "Unknown", False, {"Reconciling"}),
        ("no waiting heals it", Means.WRONG, "False", False, {"Stalled"}),
        ("a person's word is waited for", Means.PAUSED, "False", True, {"Suspended"}),
        ("work is waited for, however long", Means.WORK, "False", True, {"Reconciling"}),
        ("it serves, and waits for a person's word", Means.PAUSED, "True", True, {"Ready", "Suspended"}),
        ("it serves, and a rebuild is not possible", Means.WRONG, "True", False, {"Ready", "Blocked"}),
        ("it serves, and a rebuild waits for a right", Means.AWAITED, "True", False, {"Ready", "Reconciling"}),
        ("it serves, and nobody granted the right", Means.AWAITED, "True", True, {"Ready", "Blocked"}),
    ],
)
def test_a_reason_says_the_same_whatever_the_room_thought_of_it(
    sentence: str, means: Means, ready: Tristate, late: bool, expected: set[str]
) -> None:
    assert said(means, ready, late) == expected, sentence


def test_a_request_that_waits_for_a_person_is_not_ready_and_no_failure() -> None:
    assert said(Means.PAUSED, "Unknown", late=True, family=Family.RUN_TO_COMPLETION) == {"Suspended"}


def test_no_verdict_is_both_stalled_and_reconciling_or_both_stalled_and_ready() -> None:
    flags = itertools.product((True, False), repeat=3)
    all_of_it = itertools.product(Means, ("True", "False", "Unknown"), flags, (True, False), Family)
    for means, ready, (reconciling, stalled, suspended), late, family in all_of_it:
        told = Verdict("Some", "", ready, reconciling, stalled, suspended=suspended)  # type: ignore[arg-type]
        verdict = outward(told, means, family, late=late)
        if means in (Means.AWAITED, Means.WRONG, Means.PAUSED, Means.WORK):
            assert verdict.reconciling + verdict.stalled + verdict.suspended + verdict.blocked == 1
            assert not (verdict.stalled and verdict.ready == "True")


def follow(story: list[tuple[float, Means]], advanced: float | None = None) -> Iterator[bool]:
    """Whether it is late after each of (second, what is seen)."""
    waited = Waited(1)
    for second, means in story:
        moved = at(advanced) if advanced is not None and second >= advanced else None
        waited = waited.after(
            Verdict("Some", "", ready="True" if means is Means.GOOD else "False"), means, moved, at(second)
        )
        yield waited.late(at(second), DEADLINE)


A, W, G, P = Means.AWAITED, Means.WORK, Means.GOOD, Means.PAUSED


@pytest.mark.parametrize(
    ("sentence", "story", "late"),
    [
        ("one second before the deadline", [(0, A), (599, A)], False),
        ("at the deadline", [(0, A), (600, A)], True),
        ("it comes late, and that clears it", [(0, A), (700, A), (701, W)], True),
        (
            "work that begins and fails again and again",
            [(t, (A, W)[t // 10 % 2]) for t in range(0, 611, 10)] + [(620, A)],
            True,
        ),
        (
            "an hour of work, and something is missing again",
            [(0, A), *((t, W) for t in range(30, 3600, 5)), (3600, A)],
            False,
        ),
        ("it was ready meanwhile", [(0, A), (500, G), (510, A), (650, A)], False),
        ("a pause does not count", [(0, A), (500, P), (510, A), (650, A)], False),
    ],
)
def test_the_deadline_counts_from_when_it_stopped_getting_further(
    sentence: str, story: list[tuple[float, Means]], late: bool
) -> None:
    assert list(follow(story))[-1] is late, sentence


def test_progress_that_advanced_begins_the_waiting_anew() -> None:
    flapping = [(float(t), (A, W)[t // 10 % 2]) for t in range(0, 700, 10)]
    assert list(follow(flapping))[-1] is True
    assert list(follow(flapping, advanced=400))[-1] is False


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([A, Means.WRONG, W])), min_size=1, max_size=60))
def test_whatever_flaps_faster_than_the_calm_is_late_at_the_deadline(steps: list[tuple[int, Means]]) -> None:
    story, now, calm = [(0.0, A)], 0.0, 0.0
    for seconds, means in steps:
        now += seconds
        calm = calm + seconds if means is W else 0.0
        if calm >= CALM.total_seconds():
            means, calm = A, 0.0
        story.append((now, means))
    end = max(now, 600.0) + 1
    assert list(follow([*story, (end, A)]))[-1] is True


def test_a_restart_goes_on_counting_and_a_new_generation_begins_anew() -> None:
    written = {"observedGeneration": 3, "waitingSince": "2026-01-01T12:00:00Z"}
    assert Waited.of(written) == Waited(3, NOON)
    assert Waited.of(written).late(at(600), DEADLINE)
    assert Waited.of({}) == Waited(-1)


@pytest.mark.parametrize(
    "written",
    ["0000-01-01T00:00:00Z", "2026-01-01T12:00:00z", "2026-01-01T12:00:00", "9999-12-31T23:59:59-23:59", "", 7, None],
)
def test_a_time_that_the_api_server_takes_and_we_cannot_read_is_none(written: object) -> None:
    """Whoever may write a status could else keep the object, and with it the watch, from being taken in."""
    waited = Waited.of({"waitingSince": written, "observedGeneration": 1})
    waited = waited.after(Verdict("Some", ""), Means.AWAITED, None, NOON)
    assert not waited.late(NOON, DEADLINE)
    assert waited.late(at(600), DEADLINE)


def test_a_clock_that_was_ahead_does_not_put_the_deadline_off() -> None:
    ahead = Waited.of({"waitingSince": "2027-01-01T12:00:00Z", "observedGeneration": 1})
    waited = ahead.after(Verdict("Some", ""), Means.AWAITED, None, NOON)
    assert waited.late(at(600), DEADLINE)


def test_it_is_looked_at_when_the_deadline_is_over_and_not_again_for_that() -> None:
    waits = Waited(1, NOON)
    assert (waits.left(at(0), DEADLINE), waits.left(at(599), DEADLINE)) == (600.0, 1.0)
    assert waits.left(at(600), DEADLINE) == Waited(1).left(at(0), DEADLINE) == math.inf


def test_progress_is_read_from_the_status_as_it_is_written() -> None:
    assert advanced_at({"progress": {"lastAdvanceTime": "2026-01-01T12:00:00Z"}}) == NOON
    assert advanced_at({"progress": {"done": 3}}) is advanced_at({"progress": None}) is advanced_at({}) is None
