"""A deleted object goes in time, and never before this process has tried to undo what it made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vectorops.errors import Reason
from vectorops.runtime.deletion import Undoing, may_let_go, seconds_left
from vectorops.runtime.kind import Action, Subject, Verdict

DELETED = datetime(2026, 1, 1, 12, tzinfo=UTC)


def subject(*, deleting: bool = True, abandon: bool = False) -> Subject:
    annotations = {"vectorops.dev/abandon": "true"} if abandon else {}
    return Subject("VectorIndex", "shop", "a", "u", 1, DELETED, DELETED if deleting else None, True, annotations)


def verdict(reason: str, *, acts: bool = False) -> Verdict:
    return Verdict(reason, "", action=Action() if acts else None)


DOWN, UNDOING = verdict(Reason.DatabaseUnavailable), verdict(Reason.Deleting)
BEGUN = 1000.0  # on the monotonic clock, when it was first tried; deletionTimestamp may be anything
SHORT = {"deletionTimeoutSeconds": 30}


@pytest.mark.parametrize(
    ("sentence", "who", "told", "spec", "after", "goes"),
    [
        ("nobody deleted it", subject(deleting=False), verdict(Reason.StoreNotFound), {}, 9999, False),
        ("the store is gone, perhaps for an instant", subject(), verdict(Reason.StoreNotFound), {}, 59, False),
        ("the store is gone", subject(), verdict(Reason.StoreNotFound), {}, 60, True),
        ("the Secret is being replaced", subject(), verdict(Reason.SecretNotFound), {}, 59, False),
        ("the Secret is gone", subject(), verdict(Reason.SecretNotFound), {}, 60, True),
        ("the database is gone", subject(), verdict(Reason.DatabaseNotFound), {}, 60, True),
        ("the store is gone, and the limit is shorter", subject(), verdict(Reason.StoreNotFound), SHORT, 30, True),
        ("the database is down", subject(), DOWN, {}, 599, False),
        ("the database is down for ten minutes", subject(), DOWN, {}, 600, True),
        ("the user's own limit is kept", subject(), DOWN, SHORT, 30, True),
        ("undoing is under way when the time is up", subject(), UNDOING, SHORT, 31, False),
        ("and has a minute at least", subject(), UNDOING, SHORT, 89, False),
        ("but no more than that", subject(), UNDOING, SHORT, 90, True),
        ("or as long as the limit again", subject(), UNDOING, {}, 1200, True),
        ("even where the limit is nothing", subject(), UNDOING, {"deletionTimeoutSeconds": 0}, 59, False),
        ("there is a step to take when the time is up", subject(), verdict("Erasing", acts=True), SHORT, 31, False),
        ("a person abandons it", subject(abandon=True), DOWN, {}, 0, True),
    ],
)
def test_a_deleted_object_goes(
    sentence: str, who: Subject, told: Verdict, spec: dict[str, Any], after: int, goes: bool
) -> None:
    undoing = Undoing(BEGUN, failed=False)
    assert may_let_go(who, spec, undoing, told, BEGUN + after) is goes, sentence


def test_a_step_that_failed_is_not_given_more_time() -> None:
    failed, told = Undoing(BEGUN, failed=True), verdict(Reason.Deleting, acts=True)
    assert may_let_go(subject(), SHORT, failed, told, BEGUN + 30)


def test_what_was_not_tried_is_never_given_up_however_long_ago_it_was_deleted() -> None:
    assert seconds_left(subject(), {}, None, DOWN, BEGUN + 1e6) == float("inf")
    assert not may_let_go(subject(), {}, None, verdict(Reason.StoreNotFound), BEGUN + 1e6)
    assert may_let_go(subject(abandon=True), {}, None, DOWN, BEGUN), "but where a person says so"


def test_an_object_that_is_not_deleted_has_all_the_time() -> None:
    assert seconds_left(subject(deleting=False), {}, None, DOWN, BEGUN) == float("inf")
