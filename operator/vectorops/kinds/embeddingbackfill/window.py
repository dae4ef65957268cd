"""When a backfill may work: open while now is within `durationSeconds` of a firing of the schedule. Pure.

The schedule is read as cron reads it in the window's own time zone: an hour that a change of the clocks leaves out
fires at its end, one that comes twice fires in its first. The length is real time, whatever the clocks do meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from vectorops.kinds.embeddingbackfill.parts import Window

FIELDS = 5  # a sixth would be seconds, which nobody plans a backfill by


@dataclass(frozen=True)
class Opening:
    """The window at one moment: open until `turns`, or closed until then."""

    is_open: bool
    turns: datetime  # in UTC; an open one may stay open, if its schedule fires again before


class WindowError(ValueError):
    """A window that cannot be read; the text says what about it."""


def opening(window: Window, now: datetime) -> Opening:
    """Whether the window is open, and when to look again. Raises WindowError."""
    zone = _zone(window.time_zone)
    length = timedelta(seconds=window.duration_seconds)
    since = now.astimezone(UTC) - length
    fired = _first_after(window.schedule, since.astimezone(zone))
    if fired <= now:
        return Opening(True, fired + length)
    return Opening(False, fired)


def _first_after(schedule: str, since: datetime) -> datetime:
    if len(schedule.split()) != FIELDS:
        raise WindowError(f"schedule has {len(schedule.split())} fields, not {FIELDS}")
    try:
        # of an hour that comes twice, cronsim begins with the first though `since` may be in the second
        fired = next(time for time in CronSim(schedule, since) if time.astimezone(UTC) > since.astimezone(UTC))
    except CronSimError as error:
        raise WindowError("schedule is none that cron can read") from error
    except StopIteration:
        raise WindowError("schedule never fires") from None
    return fired.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, no key at all, the name of a directory of zones
        raise WindowError("timeZone is no IANA name of a time zone, such as Europe/Berlin") from error
