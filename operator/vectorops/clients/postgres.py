"""Connections to the stores' databases: one for watching and cancelling, the rest for long work.

A `Database` keeps one watching connection (short statements, one at a time, found again when lost) and lends
dedicated connections for long statements, never more than the store's budget. It refuses standbys and connection
poolers when connecting. Nothing here ends a running statement by accident: a session that is left in the middle of a
statement is let go of (`terminate`, the server works on), and only `cancel_backend` cancels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from vectorops import metrics
from vectorops.clients.dead_peers import keep_alive
from vectorops.clients.dsn import Target, Tls, TlsMode, connect_arguments
from vectorops.clients.foreign.answers import SESSION_BYTES, WATCH_BYTES, bounded, counted
from vectorops.clients.foreign.decimals import as_text
from vectorops.clients.hosts.sockets import checked
from vectorops.clients.session_settings import HANDSHAKE, PINNED, SESSION, WATCH, WATCH_SECONDS
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

CLIENT_GRACE_SECONDS = 1.0
"""The server's own timeout comes first, so that it and not a lost answer is what we see."""

LIFETIME_BYTES = 64 << 20
"""After so many the watching connection is made anew: what a server had us remember of its types and statements goes
with it. A large catalogue read every minute reaches it after some minutes, and connecting takes milliseconds."""

IDLE_SECONDS = 300.0
"""Longer than most health check periods, shorter than a deleted store should hold a connection."""

SESSION_WAIT_SECONDS = 5.0
"""What a pass may be held up when all connections of the budget are lent; after that it waits outside the pass."""

CLOSE_SECONDS = 5.0
"""A polite goodbye that takes longer is cut short; the server frees what the session held either way."""

ASKING = "asking the database"
"""For errors, where the caller says nothing better; it should name the table or index it is about."""


class Database:
    """One database of one target. Made by `Databases.open`; belongs to one event loop."""

    def __init__(self, target: Target) -> None:
        self.key = target.key
        self.place = target.place
        self.usable: frozenset[str] = frozenset()  # tables of ours that may be read, as last seen
        self.definitions: dict[int, dict[str, Any]] = {}  # of indexes by oid, as last read; see catalogue.py
        self._target = target
        self._watching: Connection | None = None
        self._lock = asyncio.Lock()
        self._sessions = asyncio.Semaphore(max(1, target.max_connections - 1))
        self._idle: asyncio.TimerHandle | None = None

    async def fetch(
        self, sql: str, *args: Any, timeout: float = WATCH_SECONDS, what: str = ASKING
    ) -> list[asyncpg.Record]:
        """All rows of a short statement on the watching connection. `timeout` is at most 15 s; `what` is for errors."""
        rows: list[asyncpg.Record] = await self._ask("fetch", sql, args, timeout, what)
        return rows

    async def fetchrow(
        self, sql: str, *args: Any, timeout: float = WATCH_SECONDS, what: str = ASKING
    ) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self._ask("fetchrow", sql, args, timeout, what)
        return row

    async def fetchval(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS, what: str = ASKING) -> Any:
        """The first column of the first row, or None."""
        return await self._ask("fetchval", sql, args, timeout, what)

    async def execute(self, sql: str, *args: Any, timeout: float = WATCH_SECONDS, what: str = ASKING) -> str:
        """Run a short statement; the command tag. Without arguments it may be several, in one transaction."""
        tag: str = await self._ask("execute", sql, args, timeout, what, writes=True)
        return tag

    async def write_row(self, sql: str, *args: Any, what: str = ASKING) -> asyncpg.Record | None:
        """Run a short statement that writes; the first row it returns, or None."""
        row: asyncpg.Record | None = await self._ask("fetchrow", sql, args, WATCH_SECONDS, what, writes=True)
        return row

    @asynccontextmanager
    async def session(self, application_name: str) -> AsyncIterator[Connection]:
        """A connection of one's own without any timeout, for long work. Waiting(TooManyConnections) if all are lent.

        `application_name`: `vectorops:<shortName>:<uid>`, at most 63 bytes. What the body leaves unfinished is not
        cancelled.
        """
        if len(application_name.encode()) > 63:
            raise ValueError("the server would cut this application_name silently")
        try:
            async with asyncio.timeout(SESSION_WAIT_SECONDS):
                await self._sessions.acquire()
        except TimeoutError as exc:
            text = "All connections of spec.database.maxConnections are in use; raise it, or wait for what runs."
            raise Waiting(Reason.TooManyConnections, text, after=15.0) from exc
        try:
            connection = await self._connect(SESSION | {"application_name": application_name}, SESSION_BYTES)
            try:
                with speaking("working on a connection of its own"):
                    yield connection
            except BaseException:
                connection.terminate()  # a polite goodbye would cancel what may still run
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
            await self._drop()

    async def _drop(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            await _close(watching)

    async def _ask(self, method: str, sql: str, args: Any, timeout: float, what: str, writes: bool = False) -> Any:
        async with self._lock:
            watching = self._watching
            if watching is None or watching.is_closed() or counted(watching).received > LIFETIME_BYTES:
                await self._drop()
                watching = self._watching = await self._connect(WATCH, WATCH_BYTES)
            self._stay()
            metrics.statement_sent()
            try:
                with speaking(what):
                    patience = min(timeout, WATCH_SECONDS) + CLIENT_GRACE_SECONDS
                    if writes:
                        return await _writing(watching, method, sql, args, patience)
                    return await getattr(watching, method)(sql, *args, timeout=patience)
            except BaseException as exc:
                if sqlstate_of(exc) is None or watching.is_closed():
                    watching.terminate()  # no answer: what comes next may belong to this question
                    self._watching = None  # with what it had received
                raise

    async def _connect(self, settings: dict[str, str], most: int) -> Connection:
        """`most`: bytes of one answer; until it is connected there is a bound far below."""
        arguments = connect_arguments(self._target)
        settings = PINNED | settings
        try:
            with speaking("connecting to the database"), bounded():
                connection: Connection = await asyncpg.connect(
                    **arguments,
                    loop=checked(),
                    timeout=CONNECT_SECONDS,
                    server_settings=settings,
                    target_session_attrs=SessionAttribute.any if self._target.standby else SessionAttribute.primary,
                )
        except OperatorError as exc:
            if sqlstate_of(exc) == "08P01":  # "unsupported startup parameter": only poolers refuse what Postgres knows
                raise _pooler() from exc
            raise
        try:
            await self._shake_hands(connection)
            counted(connection).most = most
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _shake_hands(self, connection: Connection) -> None:
        keep_alive(connection)
        as_text(connection)
        with speaking("connecting to the database"):
            row = await connection.fetchrow(HANDSHAKE, timeout=CONNECT_SECONDS)
        if row is None or row["pid"] != connection.get_server_pid() or row["search_path"] != PINNED["search_path"]:
            raise _pooler()
        self.usable = frozenset()  # seen anew: what was there may have been replaced meanwhile

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
    """Every database this process speaks to, by target, for as long as somebody holds it. Belongs to one event loop.

    A standby that was read once, or what a Secret named before it was rotated, is gone with its last user; until it has
    been idle long enough its own timer is one.
    """

    def __init__(self) -> None:
        self._databases: WeakValueDictionary[str, Database] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._databases)

    def open(self, target: Target) -> Database:
        """The database of that target; nothing is sent until it is asked something. Raises Stalled(SecretInvalid)."""
        database = self._databases.get(target.key)
        if database is None:
            connect_arguments(target)  # a bad URL is told now, not by whoever asks first
            database = self._databases[target.key] = Database(target)
        return database

    def discard(self, database: Database) -> Coroutine[Any, Any, None]:
        """Forget a database whose Secret changed or whose store is gone; what is returned closes its connection."""
        if self._databases.get(database.key) is database:
            del self._databases[database.key]
        return database.close()

    async def close(self) -> None:
        """Close all watching connections."""
        databases = list(self._databases.values())
        self._databases.clear()
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


async def _writing(connection: Connection, method: str, sql: str, args: tuple[Any, ...], patience: float) -> Any:
    """Run it in a transaction that may write: the connection itself only looks."""
    await connection.execute("BEGIN READ WRITE", timeout=patience)
    try:
        answer = await getattr(connection, method)(sql, *args, timeout=patience)
        await connection.execute("COMMIT", timeout=patience)
        return answer
    except asyncpg.PostgresError:
        if not connection.is_closed():
            await connection.execute("ROLLBACK", timeout=patience)
        raise


async def _close(connection: Connection) -> None:
    if connection.is_closed():
        return
    with contextlib.suppress(Exception):  # whatever it says, it is gone after this
        await connection.close(timeout=CLOSE_SECONDS)
    if not connection.is_closed():
        connection.terminate()


def _pooler() -> Stalled:
    text = "A connection pooler answers instead of the server (session settings or process ids differ)."
    return Stalled(Reason.PoolerDetected, f"{text} {Reason.PoolerDetected.next_step}")
