"""When a window is open: schedules in a time zone, through the changes of the clocks. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vectorops.kinds.embeddingbackfill.resource import Window
from vectorops.kinds.embeddingbackfill.window import WindowError, opening

HOUR = 3600


def window(schedule: str, seconds: int, zone: str = "Europe/Berlin") -> Window:
    return Window(schedule=schedule, duration_seconds=seconds, time_zone=zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


NIGHT = window("0 22 * * *", 8 * HOUR)

MOMENTS = {
    "a second before it opens": (NIGHT, "2026-01-10T21:59:59+01:00", False, "2026-01-10T22:00:00+01:00"),
    "as it opens": (NIGHT, "2026-01-10T22:00:00+01:00", True, "2026-01-11T06:00:00+01:00"),
    "after midnight": (NIGHT, "2026-01-11T03:00:00+01:00", True, "2026-01-11T06:00:00+01:00"),
    "its last second": (NIGHT, "2026-01-11T05:59:59.9+01:00", True, "2026-01-11T06:00:00+01:00"),
    "as it closes": (NIGHT, "2026-01-11T06:00:00+01:00", False, "2026-01-11T22:00:00+01:00"),
    "in summer by summer's clocks": (NIGHT, "2026-07-10T21:30:00+02:00", False, "2026-07-10T22:00:00+02:00"),
    "the night that loses an hour ends an hour later by the clock":
        (NIGHT, "2026-03-29T06:30:00+02:00", True, "2026-03-29T07:00:00+02:00"),
    "the night that gains an hour ends an hour sooner by the clock":
        (NIGHT, "2026-10-25T04:59:00+01:00", True, "2026-10-25T05:00:00+01:00"),
    "and is closed then": (NIGHT, "2026-10-25T05:00:00+01:00", False, "2026-10-25T22:00:00+01:00"),
    "an hour that is left out opens at its end":
        (window("30 2 * * *", HOUR), "2026-03-29T03:10:00+02:00", True, "2026-03-29T04:00:00+02:00"),
    "an hour that comes twice opens in its first":
        (window("45 2 * * *", 600), "2026-10-25T02:50:00+02:00", True, "2026-10-25T02:55:00+02:00"),
    "and not in its second":
        (window("45 2 * * *", 600), "2026-10-25T02:50:00+01:00", False, "2026-10-26T02:45:00+01:00"),
    "a window longer than its period never closes":
        (window("0 * * * *", 2 * HOUR), "2026-01-10T10:30:00+01:00", True, "2026-01-10T11:00:00+01:00"),
    "weekdays": (window("0 1 * * MON-FRI", HOUR, "UTC"), "2026-01-10T01:30:00+00:00", False,
                 "2026-01-12T01:00:00+00:00"),
}  # fmt: skip


@pytest.mark.parametrize("when", MOMENTS)
def test_a_window_at_a_moment(when: str) -> None:
    stated, now, is_open, turns = MOMENTS[when]
    found = opening(stated, at(now))
    assert (found.is_open, found.turns) == (is_open, at(turns))


@pytest.mark.parametrize(
    ("schedule", "zone", "what"),
    [
        ("every night", "UTC", "fields"),
        ("0 0 22 * * *", "UTC", "6 fields"),
        ("99 22 * * *", "UTC", "cron"),
        ("0 22 31 2 *", "UTC", "cron"),
        ("0 22 * * *", "Europe/Atlantis", "timeZone"),
        ("0 22 * * *", "Europe", "timeZone"),
    ],
)
def test_what_cannot_be_read_is_named(schedule: str, zone: str, what: str) -> None:
    with pytest.raises(WindowError, match=what):
        opening(window(schedule, HOUR, zone), at("2026-01-10T00:00:00+00:00"))


def test_every_minute_of_a_year_is_open_as_long_as_its_nights_are() -> None:
    """364 whole nights and two parts of one: the changes of the clocks add nothing and take nothing."""
    begin, end = at("2026-01-01T00:00:00+01:00"), at("2027-01-01T00:00:00+01:00")
    now, minutes = begin, timedelta()
    while now < end:
        found = opening(NIGHT, now)
        turn = min(found.turns, end)
        minutes += turn - now if found.is_open else timedelta()
        now = turn
    assert minutes == timedelta(hours=8 * 365)
