"""Rate limits as OpenAI counts them: two token buckets, filled continuously, reported in every answer's headers.

A bucket holds one minute's worth (or `burstSeconds` of it) and starts full. A request that does not fit waits for
nobody: it is refused with the time after which it would fit. Refused requests take nothing out of the buckets
(OpenAI's do count); the clock is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

MINUTE: Final = 60.0
"""Limits are said per minute."""


@dataclass
class Bucket:
    """A limit of `per_minute` units with room for `capacity` of them at once."""

    per_minute: float
    capacity: float
    level: float
    at: float

    @classmethod
    def full(cls, per_minute: float, burst_seconds: float, now: float) -> Bucket:
        """A bucket nobody has used yet."""
        capacity = max(1.0, per_minute * burst_seconds / MINUTE)
        return cls(per_minute, capacity, capacity, now)

    def refill(self, now: float) -> None:
        """Add what time has brought since the last look."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_minute / MINUTE)
        self.at = now

    def seconds_until(self, units: float) -> float:
        """How long until `units` fit; infinity when they never will."""
        if units > self.capacity:
            return math.inf
        return max(0.0, (units - self.level) * MINUTE / self.per_minute)


@dataclass(frozen=True)
class Refused:
    """Which limit was hit, and when a repeat would pass (infinity: the request is too large)."""

    limit: str  # "requests" or "tokens"
    per_minute: int
    used: int
    requested: int
    wait_seconds: float


@dataclass
class Limits:
    """The buckets in force, by what they count; none by default."""

    buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, tokens: int, now: float) -> Refused | None:
        """Take one request of so many tokens out of the buckets, or say why not."""
        wanted = {"requests": 1, "tokens": tokens}
        for bucket in self.buckets.values():
            bucket.refill(now)
        for name, bucket in self.buckets.items():
            if wait := bucket.seconds_until(wanted[name]):
                used = round(bucket.capacity - bucket.level)
                return Refused(name, round(bucket.per_minute), used, wanted[name], wait)
        for name, bucket in self.buckets.items():
            bucket.level -= wanted[name]
        return None

    def headers(self) -> dict[str, str]:
        """x-ratelimit-{limit,remaining,reset}-{requests,tokens}."""
        found: dict[str, str] = {}
        for name, bucket in self.buckets.items():
            found[f"x-ratelimit-limit-{name}"] = str(round(bucket.per_minute))
            found[f"x-ratelimit-remaining-{name}"] = str(math.floor(bucket.level))
            found[f"x-ratelimit-reset-{name}"] = duration(bucket.seconds_until(bucket.capacity))
        return found


def duration(seconds: float) -> str:
    """Go's notation, which OpenAI uses: 120ms, 7.66s, 2m59.56s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), MINUTE)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
