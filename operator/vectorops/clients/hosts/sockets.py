"""An event loop for asyncpg that connects only to what may be connected to.

asyncpg opens its connections, those that carry a cancel request included, by the loop it is given. `checked` is the
running loop in all but that. Refused: Unix sockets, which are the operator's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from vectorops.clients.hosts.reaching import reachable, refusal
from vectorops.clients.hosts.rules import OWN


class Checked:
    """The running loop, with the connections of a guarded door."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int, **options: Any) -> Any:
        """As the loop's, to one of the addresses that `host` may mean. Raises Stalled(HostRefused)."""
        failed: OSError | None = None
        if options.get("ssl") is not None:
            options.setdefault("server_hostname", host)
        for address in await reachable(host, port):
            try:
                return await self._loop.create_connection(factory, address, port, **options)
            except OSError as error:
                failed = error
        assert failed is not None, "there is at least one address"
        raise failed

    async def create_unix_connection(self, *_: Any, **__: Any) -> NoReturn:
        """Never. Raises Stalled(HostRefused)."""
        raise refusal(OWN)


def checked() -> Any:
    """The running loop as asyncpg gets it."""
    return Checked(asyncio.get_running_loop())
