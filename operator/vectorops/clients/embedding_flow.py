"""How many requests are in flight at one provider, and whether any should be: learned from how it answers.

`Flow` grows by one for each round of answers while all places are taken and no limit makes us wait, and halves, once a
round, when the provider is overloaded. `Breaker` opens when nothing but failures comes back; then one request goes at a
time, after a pause that doubles, and the first answer of any kind closes it. Both are shared by all requests of a
store. Neither fails anything: a row waits, that is all it costs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vectorops.clients.embedding_limits import LOOK, Clock

FIRST = 4  # in flight at the start: hides the latency behind most limits
MOST = 32  # the most that a request may state
FAILURES = 5  # in a row, until it is the provider and not a request
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds; a provider that is back should be noticed within a minute


class Flow:
    """Places for requests in flight. `alone`: one until `open` is called, as nobody knows the provider's limits yet."""

    def __init__(self, clock: Clock = Clock(), *, alone: bool = False) -> None:  # noqa: B008 - immutable
        self._clock = clock
        self._alone = alone
        self._allowed = float(FIRST)
        self._flying = 0
        self._halved_at = -math.inf
        self._freed = asyncio.Event()

    @property
    def allowed(self) -> int:
        """How many may be in flight now."""
        return 1 if self._alone else int(self._allowed)

    def open(self) -> None:
        """The limits are stated, or an answer has told of them: more than one may be in flight."""
        self._alone = False
        self._freed.set()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        while self._flying >= self.allowed:
            self._freed.clear()
            await self._freed.wait()
        self._flying += 1
        try:
            yield
        finally:
            self._flying -= 1
            self._freed.set()

    def answered(self, waited: bool) -> None:
        """A usable answer. `waited`: a limit held requests back, so that more at a time would be of no use."""
        if not waited and self._flying >= self.allowed:
            self._allowed = min(float(MOST), self._allowed + 1 / self._allowed)
            self._freed.set()

    def overloaded(self, sent_at: float) -> None:
        """A refusal or no answer to what was sent then; what was sent before the last halving says nothing new."""
        if sent_at >= self._halved_at:
            self._allowed, self._halved_at = max(1.0, self._allowed / 2), self._clock.now()


class Breaker:
    """Lets everything through, or one request at a time after longer and longer pauses."""

    def __init__(self, clock: Clock = Clock()) -> None:  # noqa: B008 - immutable
        self._clock = clock
        self._failures = 0
        self._pause = 0.0  # seconds; 0 while closed
        self._next = self._opened_at = -math.inf

    @property
    def open(self) -> bool:
        """Whether nothing but failures came back lately."""
        return self._pause > 0

    async def admit(self) -> None:
        """Wait until a request may try. Whoever passes while it is open is the probe; the next waits a pause more."""
        while self.open and (left := self._next - self._clock.now()) > 0:
            await self._clock.sleep(min(left, LOOK))
        if self.open:
            self._next = self._clock.now() + self._pause

    def answered(self) -> None:
        """The provider is there, whatever it said."""
        self._failures, self._pause = 0, 0.0

    def failed(self, sent_at: float) -> None:
        """Nothing came back to what was sent then, or that the provider cannot."""
        self._failures += 1
        if self._failures < FAILURES or sent_at <= self._opened_at:
            return
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._opened_at = self._clock.now()
        self._next = self._opened_at + self._pause
