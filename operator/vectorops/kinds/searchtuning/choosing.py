"""Which values of hnsw.ef_search to try, and which one to take. Pure.

Recall grows with the value and so does the cost, so the cheapest value that meets a target is found by halving. The
grid has steps of about 40 percent, as the effect of a value goes with its ratio to the next and not with the
difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GRID = (10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320, 453, 640, 905, 1000)
"""Steps of sqrt 2: less is not told apart by a few hundred queries."""

MOST_VALUES = 60
"""Of a sweep: with the value of today beside them, as many as a status shows."""

FIRST_QUERIES = 64
"""Enough to tell a recall of 0.8 or of 0.99 from 0.95; the sample doubles while the answer is not clear."""


def grid(least: int, most: int) -> tuple[int, ...]:
    """Values of the grid within the range, and both ends."""
    return tuple(sorted({least, most, *(value for value in GRID if least < value < most)}))


def sweep(least: int, most: int, step: int) -> tuple[int, ...]:
    """The runbook's values: least, least + step, ..., at most 60 of them, and the last not above `most`."""
    step = max(step, -(-(most - least) // (MOST_VALUES - 1)))
    return tuple(range(least, most + 1, step))


@dataclass
class Bisection:
    """Finds the first value that meets the target, if `meets` grows with the value."""

    values: Sequence[int]
    low: int = 0
    high: int = field(default=-1)

    def __post_init__(self) -> None:
        if self.high < 0:
            self.high = len(self.values)

    @property
    def next(self) -> int | None:
        """The value to try now; None: it is found, or there is none."""
        return self.values[(self.low + self.high) // 2] if self.low < self.high else None

    def answer(self, met: bool) -> None:
        """What the value `next` has shown."""
        middle = (self.low + self.high) // 2
        if met:
            self.high = middle
        else:
            self.low = middle + 1

    @property
    def found(self) -> int | None:
        """The smallest value that meets the target; None: not even the largest does."""
        return self.values[self.high] if self.low >= self.high and self.high < len(self.values) else None


def growing(total: int) -> tuple[range, ...]:
    """Numbers of the queries to add, step by step: 64, then twice as many, up to all."""
    steps, done = [], 0
    while done < total:
        end = min(total, max(FIRST_QUERIES, 2 * done))
        steps.append(range(done, end))
        done = end
    return tuple(steps)
