"""Requests and tokens a minute, kept before the provider has to refuse.

Two things hold a request back. The pace: a bucket of ten seconds' worth of the lower of what was stated and what the
provider's headers tell, because providers count in different windows. And what the provider has left, as far as its
headers let us know: it falls by what we send and by what others send with the same key, which shows as a difference
between what should be left and what is. Refused here: guessing limits that nobody stated or told.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from vectorops.clients.embedding_headers import Allowance, allowances
from vectorops.clients.embedding_packing import MAX_REQUEST_TOKENS

WINDOW = 10.0  # seconds
SHARE = 0.98  # of a limit: the network hurries some requests, and one refusal costs more than two percent
MINUTE = 60.0
LEAST_SHARE = 0.05  # of the provider's limit, when others seem to use all of it: they may have stopped
OTHERS_SECONDS = 10.0  # over which others are watched: shorter mistakes one large request for a habit
OTHERS_MARGIN = 3.0  # seconds of what others use is left to them on top: theirs come in lumps and between two answers
TICK = 0.001  # seconds; shorter waits are lost in rounding
LOOK = 1.0  # seconds between two looks at a limit that is waited for: an answer may have told of more room


@dataclass(frozen=True)
class Clock:
    """Time as limits see it; tests and benches bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep


@dataclass(frozen=True)
class Mark:
    """What a bucket believed when a request was sent, to be compared with what the provider says to it."""

    at: float
    left: float | None
    corrected: float
    taken: float
    beside: float  # units of other requests in flight: the provider may have counted them or not
    units: float


@dataclass
class Bucket:
    """One limit a minute of one owner."""

    stated: float | None
    clock: Clock
    told: float | None = None  # the provider's limit, by its headers
    others: float = 0.0  # units a second that somebody else takes of it
    _level: float = math.inf  # of the pace; below zero after a request larger than ten seconds' worth
    _left: float | None = None  # what the provider has left
    _corrected: float = 0.0  # the sum of all corrections of `_left`
    _taken: float = 0.0
    _flying: float = 0.0
    _heard_at: float = -math.inf
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.clock.now()

    @property
    def limit(self) -> float | None:
        """The lower of what was stated and what was told."""
        known = [limit for limit in (self.stated, self.told) if limit is not None]
        return min(known) if known else None

    def wait(self, units: float) -> float:
        """Seconds until so many units may be sent, as far as is known now."""
        self._refill()
        if (limit := self.limit) is None:
            return 0.0
        speed = limit * SHARE / MINUTE
        wait = max(0.0, min(units, self._room(limit)) - self._level) / speed
        if self.told is not None and self._left is not None:
            beside = self._others_now * OTHERS_MARGIN
            short = min(units + beside, self.told) - self._left
            wait = max(wait, short / self._refilled)
        return wait

    def take(self, units: float) -> None:
        """They are about to be sent."""
        self._level -= units
        self._taken += units
        if self._left is not None:
            self._left -= units

    def sent(self, units: float) -> Mark:
        """A request goes out now."""
        self._refill()
        mark = Mark(self._at, self._left, self._corrected, self._taken, self._flying, units)
        self._flying += units
        return mark

    def landed(self, mark: Mark) -> None:
        """It came back, or it never will."""
        self._flying = max(0.0, self._flying - mark.units)

    def heard(self, allowance: Allowance, mark: Mark) -> None:
        """What the provider says to that request."""
        self._refill()
        if allowance.limit is not None and allowance.limit != self.told:
            self.told, self._left = allowance.limit, None  # another bucket: what was known of the former says nothing
        if allowance.remaining is None or self.told is None:
            return
        if self._left is None or mark.left is None:
            known = math.inf if self._left is None else self._left
            self._left = min(known, allowance.remaining - (self._taken - mark.taken))
        else:
            drift = allowance.remaining - (mark.left + self._corrected - mark.corrected)
            drift = min(drift, max(0.0, drift - mark.beside))
            self._left += drift
            self._corrected += drift
            self._watch(drift, mark)
        self._heard_at = max(self._heard_at, mark.at)

    def _watch(self, drift: float, mark: Mark) -> None:
        """Others took so much less than was thought since the provider last said what is left; more where negative."""
        seconds = mark.at - self._heard_at
        if seconds <= 0:
            return
        most = (self.told or 0.0) / MINUTE  # more than the limit nobody can take for long
        seen = min(most, max(0.0, self._others_now - drift / seconds))
        self.others += min(1.0, seconds / OTHERS_SECONDS) * (seen - self.others)

    @property
    def _others_now(self) -> float:
        """What others take, as seen lately; within a minute without an answer it is half forgotten."""
        return self.others * math.exp(-max(0.0, self._at - self._heard_at) / MINUTE)

    @property
    def _refilled(self) -> float:
        """Units a second that come back to the provider's bucket, for us."""
        speed = (self.told or 0.0) / MINUTE
        return max(speed * LEAST_SHARE, speed - self._others_now)

    def _room(self, limit: float) -> float:
        return max(1.0, limit * SHARE * WINDOW / MINUTE)

    def _refill(self) -> None:
        now = self.clock.now()
        seconds, self._at = now - self._at, now
        if (limit := self.limit) is not None:
            self._level = min(self._room(limit), self._level + seconds * limit * SHARE / MINUTE)
        if self._left is not None and self.told is not None:
            self._left = min(self.told, self._left + seconds * self._refilled)


@dataclass(frozen=True)
class Sent:
    """A request in flight, as the limits remember it."""

    requests: Mark
    tokens: Mark


class Limits:
    """Both limits of one owner (a store, or one request); None is unlimited until the provider tells of a limit."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Clock = Clock(),
    ) -> None:
        self.stated = (requests_per_minute, tokens_per_minute)
        self.clock = clock
        self.waited = False  # whether the latest request had to wait
        self._requests, self._tokens = Bucket(requests_per_minute, clock), Bucket(tokens_per_minute, clock)
        self._turn = asyncio.Lock()

    @property
    def request_tokens(self) -> int:
        """The most tokens one request should hold: a third of a minute's fits whatever the provider's window is."""
        limit = self._tokens.limit
        return MAX_REQUEST_TOKENS if limit is None else max(1, min(MAX_REQUEST_TOKENS, int(limit // 3)))

    def never(self, tokens: int) -> bool:
        """Whether the provider would refuse a request of so many tokens however long it waits."""
        return self._tokens.told is not None and tokens > self._tokens.told

    def restate(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        """Other limits are stated; what the provider told stays known."""
        self.stated = (requests_per_minute, tokens_per_minute)
        self._requests.stated, self._tokens.stated = self.stated

    async def admit(self, tokens: int) -> None:
        """Wait until a request of so many tokens fits; in turn, so that small ones do not starve a large one."""
        async with self._turn:
            self.waited = False
            while (wait := max(self._requests.wait(1), self._tokens.wait(tokens))) > 0:
                self.waited = True
                await self.clock.sleep(min(max(wait, TICK), LOOK))
            self._requests.take(1)
            self._tokens.take(tokens)

    def sent(self, tokens: int) -> Sent:
        """A request goes out; `heard` and `landed` want this again."""
        return Sent(self._requests.sent(1), self._tokens.sent(tokens))

    def heard(self, headers: Mapping[str, str], sent: Sent) -> None:
        """Learn from the headers of its answer, also of a refusal."""
        requests, tokens = allowances(headers)
        self._requests.heard(requests, sent.requests)
        self._tokens.heard(tokens, sent.tokens)

    def landed(self, sent: Sent) -> None:
        """It is not in flight any more."""
        self._requests.landed(sent.requests)
        self._tokens.landed(sent.tokens)


class Pause:
    """A provider's `Retry-After`, kept by all who share its key."""

    def __init__(self, clock: Clock = Clock()) -> None:
        self._clock = clock
        self._until = -math.inf

    def extend(self, seconds: float) -> None:
        """Nobody sends for so many seconds from now."""
        self._until = max(self._until, self._clock.now() + seconds)

    async def over(self) -> None:
        """Wait until it is over; it may be extended meanwhile."""
        while (left := self._until - self._clock.now()) > 0:
            await self._clock.sleep(left)
