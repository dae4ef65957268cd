"""Connections to the stores' databases: one for watching and cancelling, the rest for long work.

A `Database` keeps one watching connection (short statements, one at a time, found again when lost) and lends
dedicated connections for long statements, never more than the store's budget. It refuses standbys and connection
poolers when connecting. Nothing here ends a running statement by accident: a session that is left in the middle of a
statement is let go of (`terminate`, the server works on), and only `cancel_backend` cancels.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from vectorops.clients.dsn import Target, Tls, TlsMode, connect_arguments
from vectorops.clients.sql import qualified, quote_ident, statements
from vectorops.clients.sqlstate import speaking, sqlstate_of
from vectorops.errors import OperatorError, Reason, Stalled, Waiting

if TYPE_CHECKING:
    from typing import TypeAlias

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

__all__ = [
    "Connection", "Database", "Databases", "Target", "Tls", "TlsMode",
    "execute_detached", "qualified", "quote_ident", "speaking", "sqlstate_of", "statements",
]  # fmt: skip

CONNECT_SECONDS = 10.0
"""A server that has not greeted us by then is not reachable in a way that anyone would call up."""

WATCH_SECONDS = 15.0
"""Nothing short takes longer; a sweep that does would pile up behind itself."""

WATCH_LOCK_SECONDS = 2.0
"""Reading needs no lock that others hold for long; what does (VACUUM FULL, TRUNCATE) must not blind the whole sweep."""

CLIENT_GRACE_SECONDS = 1.0
"""The server's own timeout comes first, so that it and not a lost answer is what we see."""

IDLE_SECONDS = 300.0
"""Longer than most health check periods, shorter than a deleted store should hold a connection."""

SESSION_WAIT_SECONDS = 5.0
"""What a pass may be held up when all connections of the budget are lent; after that it waits outside the pass."""

CLOSE_SECONDS = 5.0
"""A polite goodbye that takes longer is cut short; the server frees what the session held either way."""

_KEEPALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""Hours of silence during a build: NATs and load balancers forget after minutes; a dead peer is seen after one."""

_PINNED = {"search_path": "pg_catalog, pg_temp", "default_transaction_read_only": "off", **_KEEPALIVE}
"""In the startup packet, so no statement ever runs with a tenant's search_path (CVE-2018-1058)."""

_SESSION = {
    "statement_timeout": "0",  # a build takes as long as it takes; spec limits are kept from the watching connection
    "lock_timeout": "0",  # tried: it fires in the waits of CREATE INDEX CONCURRENTLY and leaves an invalid index
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "0",  # the server goes on when we are gone
}
_WATCH = {
    "application_name": "vectorops:watch",
    "statement_timeout": str(int(WATCH_SECONDS * 1000)),
    "lock_timeout": str(int(WATCH_LOCK_SECONDS * 1000)),
    "idle_session_timeout": "0",
    "jit": "off",  # compiling the catalogue statement takes longer than running it
}

HANDSHAKE = """
SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.current_setting('search_path') AS search_path,
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
            THEN pg_catalog.set_config('transaction_timeout', '0', false) END AS transaction_timeout,
       EXISTS (SELECT FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
               WHERE n.nspname OPERATOR(pg_catalog.=) 'vectorops' AND c.relname OPERATOR(pg_catalog.=) 'intent'
                 AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                 AND pg_catalog.has_table_privilege(c.oid, 'SELECT')) AS has_intents
"""
"""One round trip after connecting: who answers, with whose settings, and is our bookkeeping there.

transaction_timeout (PG 17) can be neither left to the role nor be named at startup to an older server. Everything is
qualified because here the search_path is not yet known to be ours."""


class Database:
    """One database of one target. Made by `Databases.open`; belongs to one event loop."""

    def __init__(self, target: Target) -> None:
        self.key = target.key
        self.has_intents = False  # whether vectorops.intent is there and readable, as last seen
        self.has_bookkeeping = False  # whether the whole schema vectorops was seen; see bookkeeping.py
        self._target = target
        self._watching: Connection | None = None
        self._lock = asyncio.Lock()
        self._sessions = asyncio.Semaphore(max(1, target.max_connections - 1))
        self._idle: asyncio.TimerHandle | None = None

    async def fetch(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS) -> list[asyncpg.Record]:
        """All rows of a short statement on the watching connection. `timeout` in seconds, at most 15."""
        rows: list[asyncpg.Record] = await self._ask("fetch", sql, args, timeout)
        return rows

    async def fetchrow(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self._ask("fetchrow", sql, args, timeout)
        return row

    async def fetchval(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS) -> Any:
        """The first column of the first row, or None."""
        return await self._ask("fetchval", sql, args, timeout)

    async def execute(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS) -> str:
        """Run a short statement; the command tag. Without arguments it may be several, in one transaction."""
        tag: str = await self._ask("execute", sql, args, timeout)
        return tag

    @asynccontextmanager
    async def session(self, application_name: str) -> AsyncIterator[Connection]:
        """A connection of one's own without any timeout, for long work. Waiting(TooManyConnections) if all are lent.

        `application_name`: `vectorops:<shortName>:<uid>`, at most 63 bytes. What the body leaves unfinished is not
        cancelled.
        """
        if len(application_name.encode()) > 63:
            raise ValueError("the server would cut this application_name silently")
        try:
            await asyncio.wait_for(self._sessions.acquire(), SESSION_WAIT_SECONDS)
        except TimeoutError as exc:
            text = "All connections of spec.database.maxConnections are in use; raise it, or wait for what runs."
            raise Waiting(Reason.TooManyConnections, text, after=15.0) from exc
        try:
            connection = await self._connect(_SESSION | {"application_name": application_name})
            try:
                with speaking("working on a connection of its own"):
                    yield connection
            except asyncio.CancelledError:
                connection.terminate()
                raise
            finally:
                await _close(connection)
        finally:
            self._sessions.release()

    async def cancel_backend(self, pid: int, backend_start: datetime) -> bool:
        """Cancel what that backend runs, if it is still the same one (pids are reused). False: gone or another."""
        sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
        return bool(await self.fetchval(sql, pid, backend_start))

    async def close(self) -> None:
        """Close the watching connection; sessions end with their work. Asking again opens it again."""
        if self._idle is not None:
            self._idle.cancel()
        async with self._lock:
            if self._watching is not None:
                await _close(self._watching)
                self._watching = None

    async def _ask(self, method: str, sql: str, args: tuple[Any, ...], timeout: float) -> Any:
        async with self._lock:
            if self._watching is None or self._watching.is_closed():
                self._watching = None
                self._watching = await self._connect(_WATCH)
            self._stay()
            watching = self._watching
            try:
                with speaking("asking the database"):
                    patience = min(timeout, WATCH_SECONDS) + CLIENT_GRACE_SECONDS
                    return await getattr(watching, method)(sql, *args, timeout=patience)
            except BaseException as exc:
                if sqlstate_of(exc) is None:  # no answer: what comes next may belong to this question
                    watching.terminate()
                raise

    async def _connect(self, settings: dict[str, str]) -> Connection:
        arguments = connect_arguments(self._target)
        settings = _PINNED | settings
        try:
            with speaking("connecting to the database"):
                connection: Connection = await asyncpg.connect(
                    **arguments,
                    timeout=CONNECT_SECONDS,
                    server_settings=settings,
                    target_session_attrs=SessionAttribute.primary,
                )
        except OperatorError as exc:
            if sqlstate_of(exc) == "08P01":  # "unsupported startup parameter": only poolers refuse what Postgres knows
                raise _pooler() from exc
            raise
        try:
            await self._shake_hands(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _shake_hands(self, connection: Connection) -> None:
        _keep_alive(connection)
        with speaking("connecting to the database"):
            row = await connection.fetchrow(HANDSHAKE, timeout=CONNECT_SECONDS)
        if row is None or row["pid"] != connection.get_server_pid() or row["search_path"] != _PINNED["search_path"]:
            raise _pooler()
        self.has_intents = bool(row["has_intents"])

    def _stay(self) -> None:
        """Start the idle time anew."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._leave)

    def _leave(self) -> None:
        if self._watching is not None and not self._lock.locked():
            self._watching.terminate()
            self._watching = None


class Databases:
    """Every database this process speaks to, by target. Belongs to one event loop."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}

    def open(self, target: Target) -> Database:
        """The database of that target; nothing is sent until it is asked something. Raises Stalled(SecretInvalid)."""
        database = self._databases.get(target.key)
        if database is None:
            connect_arguments(target)  # a bad URL is told now, not by whoever asks first
            database = self._databases[target.key] = Database(target)
        return database

    async def discard(self, database: Database) -> None:
        """Forget a database whose Secret changed or whose store is gone, and close its watching connection."""
        if self._databases.get(database.key) is database:
            del self._databases[database.key]
        await database.close()

    async def close(self) -> None:
        """Close all watching connections."""
        databases, self._databases = list(self._databases.values()), {}
        await asyncio.gather(*(database.close() for database in databases))


async def execute_detached(connection: Connection, sql: str, what: str) -> str:
    """Run one long statement that outlives us: when this await is cancelled, the server goes on with it.

    Cancelling an await of asyncpg itself would send a cancel request to the server.
    """
    statement = asyncio.ensure_future(connection.execute(sql))
    try:
        with speaking(what):
            return await asyncio.shield(statement)
    except asyncio.CancelledError:
        connection.terminate()
        await asyncio.wait([statement])
        if not statement.cancelled():
            statement.exception()  # "connection lost" is what was asked for
        raise


async def _close(connection: Connection) -> None:
    if connection.is_closed():
        return
    with contextlib.suppress(Exception):  # whatever it says, it is gone after this
        await connection.close(timeout=CLOSE_SECONDS)
    if not connection.is_closed():
        connection.terminate()


def _keep_alive(connection: Connection) -> None:
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to the socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _pooler() -> Stalled:
    text = "A connection pooler answers instead of the server (session settings or process ids differ)."
    return Stalled(Reason.PoolerDetected, f"{text} {Reason.PoolerDetected.next_step}")
