"""Bytes of answers that may be in memory at once, in the whole process, shared fairly between neighbours.

An answer that is small costs nothing here. A larger one reserves what it may grow to before it is read, so nobody waits
in the middle of an answer for somebody who also does. A neighbour is a namespace: one who holds nothing gets what
fits, one who holds something may hold as much as he would leave to the next (dynamic thresholds, as switches share a
packet buffer), so no one neighbour ever takes all of it. Refused: reservations larger than half of everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

TOTAL_BYTES = 128 << 20
"""A quarter of the chart's limit of 512 MiB: what an answer becomes in memory is up to twice its bytes, and the process
itself takes the rest."""

LARGEST_BYTES = TOTAL_BYTES // 2
"""The most one answer may reserve: what one neighbour alone may hold."""

_neighbour: ContextVar[str] = ContextVar("neighbour", default="")


def on_behalf_of(namespace: str) -> None:
    """From here on, in this task and those it starts, foreign input is charged to that namespace."""
    _neighbour.set(namespace)


@contextmanager
def charged_to(namespace: str) -> Iterator[None]:
    """The same for a block."""
    token = _neighbour.set(namespace)
    try:
        yield
    finally:
        _neighbour.reset(token)


def neighbour() -> str:
    """Whom foreign input is charged to here; the process itself where nobody is named."""
    return _neighbour.get()


@dataclass(eq=False)
class Reservation:
    """Some bytes of the budget, held or waited for. `give_back` ends either, any number of times."""

    budget: Budget
    owner: str
    size: int
    granted: Callable[[], None]
    held: bool = False

    def give_back(self) -> None:
        """They are free again."""
        self.budget.give_back(self)


@dataclass(eq=False)
class Budget:
    """Belongs to one event loop."""

    total: int = TOTAL_BYTES
    _held: dict[str, int] = field(default_factory=dict)
    _waiting: list[Reservation] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Bytes that are reserved now."""
        return sum(self._held.values())

    @property
    def waiting(self) -> int:
        """Reservations that wait."""
        return len(self._waiting)

    def reserve(self, size: int, granted: Callable[[], None], owner: str | None = None) -> Reservation:
        """Reserve; `held` says whether it was granted at once, else `granted` is called when it is."""
        if size > self.total // 2:
            raise ValueError("no answer may reserve more than half of the budget")
        wanted = Reservation(self, neighbour() if owner is None else owner, size, granted)
        if self._fits(wanted):
            self._take(wanted)
        else:
            self._waiting.append(wanted)
        return wanted

    def give_back(self, reservation: Reservation) -> None:
        """Free what was held, or wait no more, and grant what fits now."""
        if reservation.held:
            reservation.held = False
            left = self._held[reservation.owner] - reservation.size
            if left:
                self._held[reservation.owner] = left
            else:
                del self._held[reservation.owner]
        elif reservation in self._waiting:
            self._waiting.remove(reservation)
        self._grant()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait until so many bytes are free for this neighbour, and hold them."""
        free = asyncio.Event()
        reservation = self.reserve(size, free.set)
        try:
            if not reservation.held:
                await free.wait()
            yield
        finally:
            reservation.give_back()

    def _fits(self, wanted: Reservation) -> bool:
        own = self._held.get(wanted.owner, 0)
        others = self.held - own
        if not own:
            return others + wanted.size <= self.total
        return own + wanted.size <= (self.total - others) // 2

    def _take(self, wanted: Reservation) -> None:
        wanted.held = True
        self._held[wanted.owner] = self._held.get(wanted.owner, 0) + wanted.size

    def _grant(self) -> None:
        """Who holds least goes first, then who came first; a small one may pass a large one that does not fit."""
        while self._waiting:
            turn = sorted(self._waiting, key=lambda one: self._held.get(one.owner, 0))
            chosen = next((one for one in turn if self._fits(one)), None)
            if chosen is None:
                return
            self._waiting.remove(chosen)
            self._take(chosen)
            with contextlib.suppress(RuntimeError):  # its loop has ended
                chosen.granted()


ANSWERS = Budget()
"""The process's own."""
