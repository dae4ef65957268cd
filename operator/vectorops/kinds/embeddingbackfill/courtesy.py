"""When a backfill lets go of its table for an index build: always for one that runs, a while for one that may wait.

A VectorIndex polls for the table's lock once a second with a session open, and nothing in the database says which table
it polls for. So a session of one that holds no table's lock is given the chance: the backfill lets go. If the table is
free for some seconds and the session does not take it, it waits for something else and is not asked after again. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

CHANCE = 5.0  # seconds that the table is free: several polls of whoever wants it


@dataclass(frozen=True)
class Demand:
    """What the database says of a table."""

    building: bool  # an index of it is being built, or a VectorIndex has its lock
    free: bool  # nobody has its lock
    waiting: frozenset[int]  # sessions of VectorIndexes that hold no table's lock


class Courtesy:
    """Remembers since when each session could have taken the table."""

    def __init__(self) -> None:
        self._could_since: dict[int, float] = {}
        self._had_it: frozenset[int] = frozenset()

    def lets_go(self, demand: Demand, now: float) -> bool:
        """Whether to be without the table now; `now` in seconds of any steady clock."""
        waiting = demand.waiting
        self._had_it &= waiting  # a pid that is gone may come again as another session
        if not demand.free:
            self._could_since = {}
        else:
            self._could_since = {pid: self._could_since.get(pid, now) for pid in waiting}
            self._had_it |= {pid for pid, since in self._could_since.items() if now - since >= CHANCE}
        return demand.building or bool(waiting - self._had_it)
