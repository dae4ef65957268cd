"""What a verdict says to the outside: kstatus, Argo CD, Flux, `kubectl wait`, a pager. Pure.

The reason decides, not whoever raised it. What others may still bring is waited for until the progress deadline and is
a failure only then, as with a Deployment; what waits for a person's word or a clock is Suspended and never a failure;
what serves stays Ready, and what it cannot do is told in `Blocked`. Refused: knowing a kind.

The deadline counts from `status.waitingSince`, which a restart of the operator reads again. A reason that changes does
not begin it anew. What does: Ready, a pause, an end, another generation, progress that advanced, or work that has gone
on for `CALM` without anything missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vectorops.errors import Means
from vectorops.runtime.kind import Family, Verdict

CALM = timedelta(seconds=60)  # of work in which nothing is missing: what was waited for has come


@dataclass(frozen=True)
class Waited:
    """Since when an object of a generation waits for what others bring, and since when it does not any more."""

    generation: int = -1
    since: datetime | None = None
    calm_since: datetime | None = None  # known to this process only; forgotten, the calm begins anew

    @classmethod
    def of(cls, status: dict[str, Any]) -> Waited:
        """As a status says that was written by whoever may; a time that cannot be read is none."""
        try:
            since = datetime.fromisoformat(status["waitingSince"])
            known = since.astimezone(UTC) if since.tzinfo else None
        except (KeyError, TypeError, ValueError, OverflowError):
            known = None
        return cls(status.get("observedGeneration", -1), known)

    def late(self, now: datetime, deadline: timedelta) -> bool:
        """Whether it has taken too long."""
        return self.since is not None and now - self.since >= deadline

    def left(self, now: datetime, deadline: timedelta) -> float:
        """Seconds until it has taken too long: then it must be looked at."""
        waits = self.since is not None and not self.late(now, deadline)
        return (self.since + deadline - now).total_seconds() if self.since is not None and waits else math.inf

    def after(self, verdict: Verdict, means: Means | None, advanced: datetime | None, now: datetime) -> Waited:
        """The same once that was seen. `advanced`: when the object's progress last got further."""
        none, ended = Waited(self.generation), verdict.complete or verdict.failed
        if means is Means.AWAITED and not ended:
            further = self.since is not None and advanced is not None and advanced > self.since
            return replace(none, since=advanced if further else min(self.since or now, now))
        if self.since is None or ended or verdict.ready == "True":
            return none
        if means is Means.WRONG:
            return replace(none, since=self.since)
        calm = self.calm_since or now
        over = now - calm >= CALM or (advanced is not None and advanced > self.since)
        return none if over or means is not Means.WORK else replace(self, calm_since=calm)


def outward(verdict: Verdict, means: Means | None, family: Family, *, late: bool) -> Verdict:
    """The verdict as it is told. `late`: the progress deadline is over."""
    if verdict.complete or verdict.failed or means is None:
        return verdict
    serves = verdict.ready == "True"
    if means is Means.PAUSED:
        ready = verdict.ready if serves or family is Family.STANDING else "False"
        return replace(verdict, ready=ready, reconciling=False, stalled=False, suspended=True)
    if means is Means.WORK:
        return replace(verdict, reconciling=True, stalled=False, suspended=False)
    if means not in (Means.AWAITED, Means.WRONG):
        return verdict
    over = late or means is Means.WRONG
    return replace(verdict, reconciling=not over, stalled=over and not serves, blocked=over and serves, suspended=False)


def advanced_at(status: dict[str, Any]) -> datetime | None:
    """When the progress that a status shows last got further."""
    told = (status.get("progress") or {}).get("lastAdvanceTime")
    return datetime.fromisoformat(told) if told is not None else None
