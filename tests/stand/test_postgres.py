"""The stand's Postgres: what tests and the demo rely on when they restart, crash and copy it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from stand.postgres import Postgres
from stand.postgres_tls import Tls, TlsFront
from stand.process import ProcessFailed

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One cluster for the module; tests make databases of their own."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
async def connection(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """A superuser session."""
    opened = await asyncpg.connect(postgres.dsn())
    yield opened
    await opened.close()


async def test_it_has_pgvector_and_statement_statistics(postgres: Postgres) -> None:
    """What the operator observes is there."""
    connection = await asyncpg.connect(postgres.create_database("extensions"))
    await connection.execute("CREATE EXTENSION vector; CREATE EXTENSION pg_stat_statements")
    assert await connection.fetchval("SELECT '[1,2]'::vector <=> '[1,2]'::vector") == 0
    assert await connection.fetchval("SELECT count(*) FROM pg_stat_statements") > 0
    await connection.close()


async def test_logins_need_the_password(postgres: Postgres) -> None:
    """Authentication is real: a wrong password is refused as Postgres refuses it."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn(password="wrong"))


async def test_a_template_copies_a_filled_database(postgres: Postgres) -> None:
    """Tests fill one database and copy it."""
    postgres.create_database("original")
    postgres.sql("CREATE TABLE filled AS SELECT generate_series(1, 100)", "original")
    postgres.create_database("copy", template="original")
    assert postgres.sql("SELECT count(*) FROM filled", "copy") == "100"
    postgres.drop_database("copy")
    assert postgres.sql("SELECT count(*) FROM pg_database WHERE datname = 'copy'") == "0"


@pytest.mark.parametrize("event", ["restart", "crash", "immediate"])
def test_what_was_committed_is_there_again_on_the_same_port(postgres: Postgres, event: str) -> None:
    """Stopped, crashed or pulled down, it comes back where clients look for it."""
    port, database = postgres.port, f"after_{event}"
    postgres.create_database(database)
    postgres.sql("CREATE TABLE kept AS SELECT 1", database)
    if event == "restart":
        postgres.restart()
    elif event == "crash":
        postgres.crash()
        assert not postgres.alive()
        postgres.start()
    else:
        postgres.stop("immediate")
        postgres.start()
    assert postgres.port == port
    assert postgres.sql("SELECT count(*) FROM kept", database) == "1"


async def test_a_crash_ends_every_session(postgres: Postgres) -> None:
    """No backend survives the postmaster, so a client sees its connection break."""
    connection = await asyncpg.connect(postgres.dsn())
    postgres.crash()
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    postgres.start()


async def test_one_session_can_be_terminated(postgres: Postgres, connection: asyncpg.Connection) -> None:
    """The other sessions stay."""
    victim = await asyncpg.connect(postgres.dsn())
    assert postgres.terminate_backend(victim.get_server_pid())
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, ConnectionError)):
        await victim.fetchval("SELECT 1")
    assert await connection.fetchval("SELECT 1") == 1


def test_a_failed_statement_says_why(postgres: Postgres) -> None:
    """The server's own words reach the reader."""
    with pytest.raises(ProcessFailed, match='relation "nowhere" does not exist'):
        postgres.sql("TABLE nowhere")


@pytest.mark.parametrize(
    ("tls", "plain_is_served", "certificate_is_asked"),
    [("optional", True, False), ("required", False, False), ("mutual", False, True)],
)
async def test_tls_is_verified_against_the_stands_authority(
    postgres: Postgres, tmp_path: Path, tls: Tls, plain_is_served: bool, certificate_is_asked: bool
) -> None:
    """verify-full works with the CA, fails without it, and plain connections are served or refused."""
    front = TlsFront(tmp_path, require=tls)
    front.serve(postgres.port)
    dsn = postgres.dsn().replace(str(postgres.port), str(front.port))
    trusting = ssl.create_default_context(cafile=str(front.ca_file))
    if certificate_is_asked:
        with pytest.raises((ssl.SSLError, OSError, asyncpg.PostgresError)):
            await asyncpg.connect(dsn, ssl=trusting)
        trusting.load_cert_chain(front.client_cert_file, front.client_key_file)
    connection = await asyncpg.connect(dsn, ssl=trusting)
    assert len(await connection.fetchval("SELECT repeat('x', 5000000)")) == 5_000_000
    await connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(dsn, ssl=ssl.create_default_context())
    if plain_is_served:
        await (await asyncpg.connect(dsn, ssl=False)).close()
    else:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
            await asyncpg.connect(dsn, ssl=False)
    front.stop()


async def test_a_cluster_with_tls_keeps_its_port_and_authority_over_a_restart(tmp_path: Path) -> None:
    """`Postgres(tls=...)` is the server and its front as one; a cancel finds its way through, too."""
    with Postgres(tmp_path, tls="required") as server:
        trusting = ssl.create_default_context(cafile=str(server.ca_file))
        server.restart()
        connection = await asyncpg.connect(server.dsn(), ssl=trusting)
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.2)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_settings_win_and_the_data_outlives_the_object(tmp_path: Path) -> None:
    """Another object on the same directory finds the cluster and its password again, where the data stays there."""
    with Postgres(tmp_path, settings={"max_connections": "33"}) as server:
        assert server.sql("SHOW max_connections") == "33"
        password, inside = server.password, server.data.is_relative_to(tmp_path)
    assert Postgres(tmp_path).password == password
    assert server.data.exists() == inside
