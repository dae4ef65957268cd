"""A deleted object goes: at once where the way outside is gone for good, in time where it is only broken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vectorops.errors import Reason
from vectorops.runtime.deletion import may_let_go, seconds_left
from vectorops.runtime.kind import Subject

DELETED = datetime(2026, 1, 1, 12, tzinfo=UTC)


def subject(*, deleting: bool = True, abandon: bool = False) -> Subject:
    annotations = {"vectorops.dev/abandon": "true"} if abandon else {}
    return Subject("VectorIndex", "shop", "a", "u", 1, DELETED, DELETED if deleting else None, True, annotations)


@pytest.mark.parametrize(
    ("sentence", "who", "reason", "spec", "after", "goes"),
    [
        ("nobody deleted it", subject(deleting=False), Reason.StoreNotFound, {}, 9999, False),
        ("the store is gone", subject(), Reason.StoreNotFound, {}, 0, True),
        ("the Secret is gone", subject(), Reason.SecretNotFound, {}, 0, True),
        ("the database is gone", subject(), Reason.DatabaseNotFound, {}, 0, True),
        ("the database is down", subject(), Reason.DatabaseUnavailable, {}, 599, False),
        ("the database is down for ten minutes", subject(), Reason.DatabaseUnavailable, {}, 600, True),
        (
            "the user's own limit is kept",
            subject(),
            Reason.DatabaseUnavailable,
            {"deletionTimeoutSeconds": 30},
            30,
            True,
        ),
        ("a person abandons it", subject(abandon=True), Reason.DatabaseUnavailable, {}, 0, True),
    ],
)
def test_a_deleted_object_goes(
    sentence: str, who: Subject, reason: str, spec: dict[str, Any], after: int, goes: bool
) -> None:
    assert may_let_go(who, reason, spec, DELETED + timedelta(seconds=after)) is goes, sentence


def test_an_object_that_is_not_deleted_has_all_the_time() -> None:
    assert seconds_left(subject(deleting=False), {}, DELETED) == float("inf")
