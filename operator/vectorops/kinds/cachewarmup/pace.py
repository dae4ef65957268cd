"""How gently: the rate that follows how the service does, and the share of its pool that may be taken. Pure.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP: a service that suffers is relieved at once and
loaded again slowly. The clock is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vectorops.clients.service_figures import PoolFigures

SLOWEST = 64  # the rate falls no lower than this part of what is asked for
STEPS = 20  # good answers from the slowest to the full rate
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds without a request after trouble, doubled while it goes on
GIVE_UP = 10  # troubles in a row, over all queries: the service is down, not the query bad
UNREACHED = 3  # and so many where nobody was even reached


@dataclass(frozen=True)
class Room:
    """How many requests at a time, and how long to rest after each, in times of what it took."""

    slots: int
    rest: float = 0.0


def room(concurrency: int, share_percent: int, sizes: Iterable[int]) -> Room:
    """What the share leaves of the smallest pool. Where no pool is known: one at a time.

    Where the share is less than one connection, that one is used for that part of the time only.
    """
    known = [size for size in sizes if size > 0]
    if not known:
        return Room(1)
    allowed = min(known) * share_percent / 100
    if allowed >= 1:
        return Room(min(concurrency, math.floor(allowed)))
    return Room(1, 1 / allowed - 1)


def crowded(pools: Iterable[PoolFigures], above_percent: float) -> bool:
    """Whether any process's pool is used beyond the percentage; where its use is not told, whether somebody waits."""
    return any(
        pool.utilization_percent > above_percent if pool.utilization_percent is not None else bool(pool.waiting)
        for pool in pools
    )


class Pace:
    """When the next request may be sent."""

    def __init__(self, per_second: float) -> None:
        """`per_second` is the most; it begins there."""
        self.most = self.rate = per_second
        self.troubles = 0  # in a row
        self._next = 0.0

    def adjust(self, per_second: float) -> None:
        """Another most; a service that suffers is not loaded faster at once for it."""
        self.rate = min(per_second, self.rate * per_second / self.most)
        self.most = per_second

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent; 0: now."""
        return max(0.0, self._next - now)

    def sent(self, now: float) -> None:
        """A request was sent."""
        self._next = max(now, self._next) + 1 / self.rate

    def good(self) -> None:
        """It was answered well and in time."""
        self.troubles = 0
        self.rate = min(self.most, self.rate + self.most / STEPS)

    def bad(self, now: float, after: float = 0.0) -> None:
        """It was not; `after` is what the service asks for (Retry-After)."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.troubles, 10))
        self.troubles += 1
        self.rate = max(self.most / SLOWEST, self.rate / 2)
        self._next = max(self._next, now + max(after, pause))

    def slow(self) -> None:
        """It was answered, but later than anyone should wait."""
        self.troubles = 0
        self.rate = max(self.most / SLOWEST, self.rate / 2)

    def rest(self, now: float, seconds: float) -> None:
        """Nothing for a while, so that the share of the time is kept."""
        self._next = max(self._next, now + seconds)

    def hopeless(self, reached: bool) -> bool:
        """Whether nothing was answered well for so long that going on would only count queries as failed."""
        return self.troubles >= (GIVE_UP if reached else UNREACHED)
