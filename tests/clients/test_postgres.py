"""Connections to a real server: what is wrong is named, what is lost is found again, what runs is left running."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from vectorops.clients import postgres as module
from vectorops.clients.postgres import Database, Databases, Target, Tls, TlsMode, execute_detached, sqlstate_of
from vectorops.clients.vectorcodec import pack_vector, register_vectors
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases()
    yield opened
    await opened.close()


@pytest.fixture
def database(databases: Databases, database_url: str) -> Database:
    return databases.open(Target(SecretStr(database_url)))


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that a test may stop."""
    from stand.postgres import Postgres

    with Postgres(tmp_path_factory.mktemp("own")) as server:
        yield server


async def refusal(databases: Databases, url: str, tls: Tls | None = None) -> OperatorError:
    database = databases.open(Target(SecretStr(url), tls or Tls()))
    with pytest.raises(OperatorError) as caught:
        await database.fetchval("SELECT 1")
    return caught.value


async def backend(database: Database, pid: int) -> str | None:
    state: str | None = await database.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid)
    return state


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.02)


# -- what can be wrong with a connection -------------------------------------------------------------------------------


async def test_a_wrong_password_stalls_and_is_not_shown(databases: Databases, postgres: Postgres) -> None:
    error = await refusal(databases, postgres.dsn(password="hunter2"))
    assert isinstance(error, Stalled)
    assert error.reason == Reason.AuthenticationFailed
    assert "hunter2" not in str(error)


async def test_a_database_that_does_not_exist_stalls(databases: Databases, postgres: Postgres) -> None:
    error = await refusal(databases, postgres.dsn("nowhere"))
    assert isinstance(error, Stalled)
    assert error.reason == Reason.DatabaseNotFound


async def test_a_host_without_a_server_is_tried_again(databases: Databases) -> None:
    error = await refusal(databases, "postgresql://u:p@127.0.0.1:1/d")
    assert isinstance(error, Transient)
    assert error.reason == Reason.DatabaseUnavailable


async def test_a_standby_is_named_and_tried_again(databases: Databases, own_server: Postgres) -> None:
    own_server.stop()
    (own_server.data / "standby.signal").touch()
    own_server._process.start()  # start() waits for a primary
    url = own_server.dsn()

    async def answers() -> bool:
        return (await refusal(databases, url)).reason != Reason.DatabaseUnavailable

    await until(answers)
    error = await refusal(databases, url)
    assert isinstance(error, Transient)
    assert error.reason == Reason.NotPrimary


async def test_a_pooler_is_known_by_the_backend_that_answers(databases: Databases, postgres: Postgres) -> None:
    def another_pid(said: bytes) -> bytes:
        at = said.find(b"K\0\0\0\x0c")  # BackendKeyData: length 12, pid, secret
        return said if at < 0 else said[: at + 8] + bytes([said[at + 8] ^ 1]) + said[at + 9 :]

    async with _forwarding(postgres, another_pid) as port:
        url = postgres.dsn().replace(f":{postgres.port}/", f":{port}/") + "?sslmode=disable"
        error = await refusal(databases, url)
    assert isinstance(error, Stalled)
    assert error.reason == Reason.PoolerDetected


async def test_a_pooler_is_recognised_by_refusing_startup_parameters(databases: Databases) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: search_path\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refusal(databases, f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable")
    assert isinstance(error, Stalled)
    assert error.reason == Reason.PoolerDetected


async def test_the_modes_of_tls(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> None:
    import trustme

    from stand.postgres import Postgres

    foreign = trustme.CA().cert_pem.bytes().decode()
    with Postgres(tmp_path_factory.mktemp("tls"), tls="required") as server:
        assert server.ca_file is not None
        ours = server.ca_file.read_text()

        async def answer(tls: Tls, host: str = "127.0.0.1") -> str:
            url = SecretStr(server.dsn().replace("127.0.0.1", host))
            try:
                return str(await databases.open(Target(url, tls)).fetchval("SELECT 'in'::text"))
            except Stalled as error:
                return error.reason

        assert await answer(Tls()) == "in"
        assert await answer(Tls(TlsMode.REQUIRE)) == "in"
        assert await answer(Tls(TlsMode.VERIFY_FULL, ca_pem=ours)) == "in"
        assert (
            await answer(Tls(TlsMode.VERIFY_CA, ca_pem=ours), "127.1") == "in"
        )  # the same host by a name not certified
        assert await answer(Tls(TlsMode.VERIFY_FULL, ca_pem=ours), "127.1") == Reason.TLSFailed
        assert await answer(Tls(TlsMode.VERIFY_FULL, ca_pem=foreign)) == Reason.TLSFailed
        assert await answer(Tls(TlsMode.VERIFY_FULL)) == Reason.TLSFailed  # not among the system's
        assert await answer(Tls(TlsMode.DISABLE)) == Reason.AuthenticationFailed  # no pg_hba line without encryption


async def test_a_client_certificate_is_presented(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from stand.postgres import Postgres

    with Postgres(tmp_path_factory.mktemp("mutual"), tls="mutual") as server:
        assert server.client_certificate is not None
        cert, key = (path.read_text() for path in server.client_certificate)
        tls = Tls(TlsMode.REQUIRE, cert_pem=cert, key_pem=SecretStr(key))
        assert await databases.open(Target(SecretStr(server.dsn()), tls)).fetchval("SELECT 1") == 1
        with pytest.raises(OperatorError):
            await databases.open(Target(SecretStr(server.dsn()), Tls(TlsMode.REQUIRE))).fetchval("SELECT 1")


async def test_a_server_without_tls_fails_where_tls_is_required(databases: Databases, postgres: Postgres) -> None:
    error = await refusal(databases, postgres.dsn(), Tls(TlsMode.REQUIRE))
    assert isinstance(error, Stalled)
    assert error.reason == Reason.TLSFailed


# -- the watching connection -------------------------------------------------------------------------------------


async def test_a_lost_watching_connection_is_found_again(database: Database, postgres: Postgres) -> None:
    first = await database.fetchval("SELECT pg_backend_pid()")
    postgres.terminate_backend(first)
    with contextlib.suppress(Transient):  # the loss may be seen only while asking
        await database.fetchval("SELECT 1")
    assert await database.fetchval("SELECT pg_backend_pid()") != first


async def test_a_server_that_is_stopped_and_started_is_found_again(databases: Databases, own_server: Postgres) -> None:
    database = databases.open(Target(SecretStr(own_server.dsn())))
    assert await database.fetchval("SELECT 1") == 1
    own_server.stop("immediate")
    with pytest.raises(Transient) as caught:
        await database.fetchval("SELECT 1")
    assert caught.value.reason == Reason.DatabaseUnavailable
    own_server.start()
    with contextlib.suppress(Transient):
        await database.fetchval("SELECT 1")
    assert await database.fetchval("SELECT 1") == 1


async def test_callers_take_turns_on_one_connection(database: Database) -> None:
    pids = await asyncio.gather(*(database.fetchval("SELECT pg_backend_pid()") for _ in range(20)))
    assert len(set(pids)) == 1


async def test_a_statement_that_takes_too_long_ends_and_the_next_one_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLIENT_GRACE_SECONDS", 0.0)
    with pytest.raises(Transient):
        await database.fetchval("SELECT pg_sleep(10)", timeout=0.2)
    assert await database.fetchval("SELECT 1") == 1


async def test_the_search_path_is_pinned_and_no_reading_waits_long_for_a_lock(database: Database) -> None:
    assert await database.fetchval("SHOW search_path") == "pg_catalog, pg_temp"
    assert await database.fetchval("SHOW statement_timeout") == "15s"
    assert await database.fetchval("SHOW lock_timeout") == "2s"


async def test_the_role_cannot_make_us_read_only_or_hurried(postgres: Postgres, databases: Databases) -> None:
    postgres.sql(
        "CREATE ROLE hurried LOGIN SUPERUSER PASSWORD 'p'; ALTER ROLE hurried SET default_transaction_read_only = on; "
        "ALTER ROLE hurried SET statement_timeout = '1s'; ALTER ROLE hurried SET search_path = evil; "
        "ALTER ROLE hurried SET transaction_timeout = '1s'"
    )
    database = databases.open(Target(SecretStr(postgres.dsn(user="hurried", password="p"))))
    async with database.session("vectorops:test:1") as session:
        names = "statement_timeout", "lock_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"
        assert {name: await session.fetchval(f"SHOW {name}") for name in names} == dict.fromkeys(names, "0")
        assert await session.fetchval("SHOW default_transaction_read_only") == "off"
        assert await session.fetchval("SHOW search_path") == "pg_catalog, pg_temp"
        assert await session.fetchval("SHOW client_connection_check_interval") == "0"


async def test_databases_are_cached_by_target_and_discarded_ones_can_still_be_asked(
    databases: Databases, database_url: str
) -> None:
    database = databases.open(Target(SecretStr(database_url)))
    assert databases.open(Target(SecretStr(database_url))) is database
    await database.fetchval("SELECT 1")
    await databases.discard(database)
    assert databases.open(Target(SecretStr(database_url))) is not database
    assert await database.fetchval("SELECT 1") == 1
    await database.close()


async def test_an_idle_watching_connection_is_closed(
    database: Database, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    pid = await database.fetchval("SELECT pg_backend_pid()")

    async def gone() -> bool:
        return postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "0"

    await until(gone)


# -- sessions ----------------------------------------------------------------------------------------------------


async def test_no_more_sessions_than_the_budget_less_one(
    databases: Databases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SESSION_WAIT_SECONDS", 0.05)
    database = databases.open(Target(SecretStr(database_url), max_connections=2))
    async with database.session("vectorops:test:1"):
        with pytest.raises(Waiting) as caught:
            async with database.session("vectorops:test:2"):
                pass
        assert caught.value.reason == Reason.TooManyConnections
        assert await database.fetchval("SELECT 1") == 1  # watching is never starved
    async with database.session("vectorops:test:3") as session:
        assert await session.fetchval("SHOW application_name") == "vectorops:test:3"


async def test_a_session_that_cannot_connect_gives_its_place_back(databases: Databases) -> None:
    database = databases.open(Target(SecretStr("postgresql://u:p@127.0.0.1:1/d"), max_connections=2))
    for _ in range(3):
        with pytest.raises(Transient):
            async with database.session("vectorops:test:1"):
                pass


async def test_an_application_name_that_the_server_would_cut_is_a_bug(database: Database) -> None:
    with pytest.raises(ValueError, match="cut"):
        async with database.session("vectorops:" + "x" * 60):
            pass


async def test_errors_inside_a_session_are_ours_and_keep_their_sqlstate(database: Database) -> None:
    with pytest.raises(Stalled) as caught:
        async with database.session("vectorops:test:1") as session:
            await session.execute("SELECT * FROM nowhere")
    assert caught.value.reason == Reason.TargetNotFound
    assert sqlstate_of(caught.value) == "42P01"


async def test_a_detached_statement_goes_on_when_its_await_is_cancelled(database: Database) -> None:
    await database.execute("CREATE TABLE public.done (id int)")
    pid = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with database.session("vectorops:test:1") as session:
            pid.set_result(await session.fetchval("SELECT pg_backend_pid()"))
            sql = "DO $$ BEGIN PERFORM pg_sleep(1); INSERT INTO public.done VALUES (1); END $$"
            await execute_detached(session, sql, "sleeping")

    task = asyncio.create_task(work())
    number = await pid

    async def runs() -> bool:
        return await backend(database, number) == "active"

    await until(runs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await runs()  # the server goes on without us

    async def done() -> bool:
        return bool(await database.fetchval("SELECT count(*) = 1 FROM public.done"))

    await until(done)


async def test_a_backend_is_cancelled_only_if_it_is_still_the_same(database: Database) -> None:
    async with database.session("vectorops:test:1") as session:
        sql = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        pid, start = await session.fetchrow(sql)
        statement = asyncio.create_task(session.execute("SELECT pg_sleep(30)"))

        async def runs() -> bool:
            return await backend(database, pid) == "active"

        await until(runs)
        assert not await database.cancel_backend(pid, datetime(2020, 1, 1, tzinfo=UTC))
        assert await runs()
        assert await database.cancel_backend(pid, start)
        with pytest.raises(Exception, match="cancel") as caught:
            await statement
        assert sqlstate_of(caught.value) == "57014"


async def test_vectors_travel_in_binary_both_ways(database: Database) -> None:
    import numpy as np

    await database.execute("CREATE TABLE public.v (id int, e public.vector(3), h public.halfvec(3))")
    async with database.session("vectorops:test:1") as session:
        await register_vectors(session, "public")
        packed = b"\0\3\0\0" + np.array([1, 2, 3], dtype=">f4").tobytes()
        await session.execute("INSERT INTO public.v VALUES (1, $1, $2)", packed, np.array([0.5, 1, 2]))
        sql = "INSERT INTO public.v SELECT 2, e FROM unnest($1::public.vector[]) AS e"
        await session.execute(sql, [pack_vector(np.array([4, 5, 6], dtype=np.float32))])
        rows = await session.fetch("SELECT e, h FROM public.v ORDER BY id")
    assert rows[0]["e"].tolist() == [1, 2, 3]
    assert rows[0]["h"].tolist() == [0.5, 1, 2]
    assert rows[1]["e"].tolist() == [4, 5, 6]


@contextlib.asynccontextmanager
async def _forwarding(postgres: Postgres, change: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """A TCP proxy that changes what the server says."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, changes: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(change(data) if changes else data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_read, to_write = await asyncio.open_connection("127.0.0.1", postgres.port)
        await asyncio.gather(pump(reader, to_write, False), pump(to_read, writer, True))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_server_whose_machine_is_gone_is_noticed_after_a_minute_whatever_was_in_flight(
    database: Database,
) -> None:
    async with database.session("vectorops:test:gone") as connection:
        sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        idle, every, times = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle + every * times == 60, "while an answer is waited for"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000, "while a question is on its way"
