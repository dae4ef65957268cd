"""A database whose machine is gone is noticed within a minute, and one that says nothing more is left by who must.

Refused: sockets without a network.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import asyncpg

if TYPE_CHECKING:
    from vectorops.clients.postgres import Connection

_DEAD_PEER = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))
"""A peer whose machine is gone is noticed after a minute: by keepalives while we wait for an answer, by the last one
(milliseconds) while it has not acknowledged what we sent: the kernel would repeat that for a quarter of an hour."""


def keep_alive(connection: Connection) -> None:
    """Have the kernel ask whether the peer is there."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to the socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _DEAD_PEER:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@asynccontextmanager
async def transaction(
    connection: Connection, *, isolation: Literal["repeatable_read"] | None = None, readonly: bool = False
) -> AsyncIterator[None]:
    """A transaction. Whoever is cancelled in it lets go of the connection, and the server rolls back for that.

    asyncpg's own sends ROLLBACK and waits for the answer: for ever, where the server has fallen silent.
    """
    begun = connection.transaction(isolation=isolation, readonly=readonly)
    await begun.start()
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        connection.terminate()
        raise
    except BaseException:
        try:
            await begun.rollback()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection.terminate()  # it is lost, and why is told by what is raised
        raise
    await begun.commit()
