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

    @property
    def request_tokens(self) -> int:
        """The most tokens one request should hold so that it ever fits."""
        return MAX_REQUEST_TOKENS if self._tokens is None else min(MAX_REQUEST_TOKENS, int(self._tokens.max_rate))

    async def admit(self, tokens: int) -> None:
        """Wait until a request of so many tokens fits."""
        if self._tokens is not None:
            await self._tokens.acquire(min(tokens, self._tokens.max_rate))
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
