"""Conditions as kstatus, `kubectl wait` and a person read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vectorops.errors import Reason, Stalled, Transient, Waiting
from vectorops.runtime import conditions
from vectorops.runtime.kind import Condition, Family, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)


def types(verdict: Verdict, family: Family = Family.STANDING) -> dict[str, str]:
    return {c.type: c.status for c in conditions.from_verdict(verdict, family)}


@pytest.mark.parametrize(
    ("sentence", "verdict", "expected"),
    [
        ("settled shows Ready alone", Verdict("Good", "", ready="True"), {"Ready": "True"}),
        (
            "work shows Reconciling",
            Verdict("Building", "", reconciling=True),
            {"Ready": "False", "Reconciling": "True"},
        ),
        ("a person is needed: Stalled", Verdict("Bad", "", stalled=True), {"Ready": "False", "Stalled": "True"}),
    ],
)
def test_a_standing_kind_shows_only_what_is_true_of_the_abnormal(
    sentence: str, verdict: Verdict, expected: dict[str, str]
) -> None:
    assert types(verdict) == expected, sentence


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (
            Verdict("Done", "", ready="True", complete=True),
            {"Ready": "True", "Complete": "True", "Failed": "False", "Suspended": "False"},
        ),
        (
            Verdict("Broken", "", failed=True),
            {"Ready": "False", "Stalled": "True", "Complete": "False", "Failed": "True", "Suspended": "False"},
        ),
        (
            Verdict("Paused", "", suspended=True),
            {"Ready": "False", "Complete": "False", "Failed": "False", "Suspended": "True"},
        ),
    ],
)
def test_a_request_shows_how_it_ended_as_a_job_does(verdict: Verdict, expected: dict[str, str]) -> None:
    assert types(verdict, Family.RUN_TO_COMPLETION) == expected


@pytest.mark.parametrize(
    ("error", "ready", "also"),
    [
        (Stalled(Reason.SecretNotFound, "create it"), "False", "Stalled"),
        (Waiting(Reason.LockHeld, "wait"), "False", "Reconciling"),
        (Transient(Reason.DatabaseUnavailable, "tried again"), "Unknown", "Reconciling"),
    ],
)
def test_unknown_never_reads_as_ready(error: Exception, ready: str, also: str) -> None:
    verdict = conditions.from_error(error)  # type: ignore[arg-type]
    assert types(verdict) == {"Ready": ready, also: "True"}


def test_the_transition_time_stays_while_the_status_stays() -> None:
    first = conditions.merge([], [Condition("Ready", "True", "A")], 1, NOON)
    same = conditions.merge(first, [Condition("Ready", "True", "B")], 2, LATER)
    turned = conditions.merge(same, [Condition("Ready", "False", "C")], 2, LATER)
    assert first[0]["lastTransitionTime"] == same[0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert turned[0]["lastTransitionTime"] == "2026-01-01T13:00:00Z"
    assert same[0]["observedGeneration"] == 2


def test_ready_comes_first_and_own_conditions_last_in_order() -> None:
    stated = [Condition("Valid", "True", "A"), Condition("Used", "True", "A"), Condition("Ready", "True", "A")]
    assert [c["type"] for c in conditions.merge([], stated, 1, NOON)] == ["Ready", "Used", "Valid"]


def test_when_the_world_cannot_be_seen_own_conditions_stay_but_are_unknown() -> None:
    former = conditions.merge([], [Condition("Ready", "True", "A"), Condition("Valid", "True", "A")], 1, NOON)
    assert conditions.unknown(former, "DatabaseUnavailable", "down") == [
        Condition("Valid", "Unknown", "DatabaseUnavailable", "down")
    ]


def test_a_request_that_ended_has_ended_also_while_the_world_cannot_be_seen() -> None:
    former = conditions.merge(
        [], conditions.from_verdict(Verdict("Done", "", complete=True), Family.RUN_TO_COMPLETION), 1, NOON
    )
    assert Condition("Complete", "True", "Done") in conditions.carried(former, Family.RUN_TO_COMPLETION)
