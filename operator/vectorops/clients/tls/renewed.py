"""A client that is opened at its first use, and opened anew when whose certificates it believes has changed.

The former one is closed when its last request has ended: a request that breaks may have been paid for. Refused: more
than one new client at a time, and closing what is in use, but for `close` itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """All that is asked of a client here."""

    async def close(self) -> None:
        """Close the connections."""


C = TypeVar("C", bound=Closable)


class Renewed(Generic[C]):
    """One client at a time, and perhaps former ones that come to their end."""

    def __init__(self, make: Callable[[ssl.SSLContext | None], Awaitable[C]]) -> None:
        self.trust: ssl.SSLContext | None = None  # None: the system's CAs; a change counts from the next request on
        self._make = make
        self._opening = asyncio.Lock()
        self._now: C | None = None
        self._trusts: ssl.SSLContext | None = None  # what `_now` was made with
        self._users: dict[C, int] = {}
        self._left = False

    def leave(self) -> asyncio.Task[None] | None:
        """Nobody will come again: the client is closed now, or when its last request has ended."""
        self._left = True
        return None if self._now is None else asyncio.ensure_future(self._part(self._now))

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """The client for one request."""
        client = await self._current()
        self._users[client] = self._users.get(client, 0) + 1
        try:
            yield client
        finally:
            self._users[client] -= 1
            await self._part(client)

    async def close(self) -> None:
        """Close every client; open requests break."""
        clients = {*self._users, *([self._now] if self._now is not None else [])}
        self._now, self._users = None, {}
        for client in clients:
            await client.close()

    async def _current(self) -> C:
        async with self._opening:
            former = self._now
            if former is None or self._trusts is not self.trust:
                trust = self.trust
                self._now, self._trusts = await self._make(trust), trust
                if former is not None:
                    await self._part(former)
            assert self._now is not None
            return self._now

    async def _part(self, client: C) -> None:
        """Close a former client that nobody uses any more."""
        if (client is not self._now or self._left) and not self._users.get(client, 0):
            self._users.pop(client, None)
            self._now = None if client is self._now else self._now
            await client.close()
