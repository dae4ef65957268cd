"""Requests and tokens a minute, kept before the provider has to refuse.

A leaky bucket each, of ten seconds' worth: providers count in different windows, and a full minute's burst at the
start would be refused by those that count strictly. Refused here: guessing limits that nobody stated.
"""

from __future__ import annotations

import asyncio
import time

from aiolimiter import AsyncLimiter

from vectorops.clients.embedding_packing import MAX_REQUEST_TOKENS

WINDOW = 10.0  # seconds
SHARE = 0.98  # of what is stated: the network hurries some requests, and one refusal costs more than two percent
MINUTE = 60.0


class Limits:
    """Both limits of one owner (a store, or one request); None is unlimited."""

    def __init__(self, requests_per_minute: int | None = None, tokens_per_minute: int | None = None) -> None:
        self.stated = (requests_per_minute, tokens_per_minute)
        self._requests = _bucket(requests_per_minute)
        self._tokens = _bucket(tokens_per_minute)
        self._turn = asyncio.Lock()

    @property
    def request_tokens(self) -> int:
        """The most tokens one request should hold: a third of a minute's fits whatever the provider's window is."""
        stated = self.stated[1]
        return MAX_REQUEST_TOKENS if stated is None else max(1, min(MAX_REQUEST_TOKENS, stated // 3))

    async def admit(self, tokens: int) -> None:
        """Wait until a request of so many tokens fits; in turn, so that small ones do not starve a large one."""
        async with self._turn:
            left = float(tokens)
            while self._tokens is not None and left > 0:
                piece = min(left, self._tokens.max_rate)  # a bucket holds ten seconds' worth, a request may be larger
                await self._tokens.acquire(piece)
                left -= piece
            if self._requests is not None:
                await self._requests.acquire()


class Pause:
    """A provider's `Retry-After`, kept by all who share its key."""

    def __init__(self) -> None:
        self._until = 0.0

    def extend(self, seconds: float) -> None:
        """Nobody sends for so many seconds from now."""
        self._until = max(self._until, time.monotonic() + seconds)

    async def over(self) -> None:
        """Wait until it is over; it may be extended meanwhile."""
        while (left := self._until - time.monotonic()) > 0:
            await asyncio.sleep(left)


def _bucket(per_minute: int | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    allowed = per_minute * SHARE
    return AsyncLimiter(max(1.0, allowed * WINDOW / MINUTE), max(WINDOW, MINUTE / allowed))
