"""A database that falls silent in the middle of a transaction holds no pass up for longer than a pass may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from vectorops.clients.dead_peers import transaction
from vectorops.clients.postgres import Connection, Databases, Target
from vectorops.clients.sqlstate import sqlstate_of
from vectorops.errors import OperatorError, Reason, Transient
from vectorops.runtime import reconcile

pytestmark = pytest.mark.real


class Way:
    """The way to a database, on which nothing comes back once it is silent; it acknowledges all the same."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.silent = False
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._writers += [writer, forth]
        await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))

    async def _pump(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.silent:
                to.write(data)

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield self._url._replace(netloc=self._url.netloc.replace(f":{self._url.port}", f":{port}")).geturl()
        server.close()
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases()
    yield opened
    await opened.close()


async def test_a_transaction_on_a_silent_database_ends_with_its_pass(
    database_url: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PASS_SECONDS", 1.0)
    way = Way(database_url)
    async with way.laid() as url:
        database = databases.open(Target(SecretStr(url)))
        async with asyncio.timeout(30):
            with pytest.raises(Transient) as caught:
                async with reconcile.in_time(), database.session("vectorops:x") as connection, transaction(connection):
                    await connection.execute("SELECT 1")
                    way.silent = True
                    await connection.execute("SELECT 2")
    assert caught.value.reason == Reason.PassTimedOut
    assert connection.is_closed()


async def test_who_is_cancelled_in_a_transaction_leaves_nothing_of_it(database_url: str, databases: Databases) -> None:
    database, begun = databases.open(Target(SecretStr(database_url))), asyncio.Event()
    await database.execute("CREATE TABLE public.word (id int)")

    async def write() -> None:
        async with database.session("vectorops:a") as connection, transaction(connection):
            await connection.execute("INSERT INTO public.word VALUES (1)")
            begun.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.ensure_future(write())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.fetchval("SELECT count(*) FROM public.word") == 0


async def test_a_transaction_that_fails_is_rolled_back_and_its_session_goes_on(
    database_url: str, databases: Databases
) -> None:
    database = databases.open(Target(SecretStr(database_url)))
    async with database.session("vectorops:a") as connection:
        await connection.execute("CREATE TABLE public.sentence (id int PRIMARY KEY)")

        async def insert(connection: Connection, *ids: int) -> None:
            async with transaction(connection):
                for one in ids:
                    await connection.execute(f"INSERT INTO public.sentence VALUES ({one})")

        await insert(connection, 1)
        with pytest.raises(Exception, match="duplicate key"):
            await insert(connection, 2, 1)
        assert await connection.fetchval("SELECT array_agg(id) FROM public.sentence") == [1]
        with pytest.raises(Exception, match="read-only"):
            async with transaction(connection, isolation="repeatable_read", readonly=True):
                assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
                await connection.execute("INSERT INTO public.sentence VALUES (3)")


async def test_a_connection_that_is_lost_in_a_transaction_says_so_itself(
    database_url: str, databases: Databases
) -> None:
    database = databases.open(Target(SecretStr(database_url)))
    with pytest.raises(OperatorError) as caught:
        async with database.session("vectorops:a") as connection, transaction(connection):
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert sqlstate_of(caught.value) in ("57P01", "08003"), "not that a ROLLBACK found it closed"
