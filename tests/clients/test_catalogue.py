"""The catalogue of a real database: what is there is seen, whatever it is called, and nobody's lock is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.catalogue import Catalogue, read_catalogue
from vectorops.clients.postgres import Connection, Database, Databases, Target, quote_ident
from vectorops.errors import Reason, Transient

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

WEIRD = 'we"ird; drop table x'


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases()
    yield opened
    await opened.close()


@pytest.fixture
def database(databases: Databases, database_url: str) -> Database:
    return databases.open(Target(SecretStr(database_url)))


@contextlib.asynccontextmanager
async def blocking(database: Database, statement: str) -> AsyncIterator[Connection]:
    """A transaction of somebody else that holds what `statement` takes."""
    async with database.session("somebody") as session, session.transaction():
        await session.execute(statement)
        yield session


def without_clock(catalogue: Catalogue) -> Catalogue:
    sessions = tuple(replace(s, query_start=None, state=None) for s in catalogue.sessions)
    return replace(
        catalogue, now=catalogue.now.replace(year=2000, microsecond=0, second=0, minute=0), sessions=sessions
    )


# -- what may be missing ---------------------------------------------------------------------------


async def test_a_database_without_the_extension_says_what_could_be_installed(
    databases: Databases, postgres: Postgres
) -> None:
    name = f"bare_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    catalogue = await read_catalogue(databases.open(Target(SecretStr(url))))
    assert catalogue.extension is None
    assert catalogue.available_version is not None
    assert (catalogue.columns, catalogue.indexes, catalogue.intents) == ((), (), ())


async def test_a_role_without_any_right_sees_what_everyone_may_see(
    databases: Databases, database: Database, database_url: str, postgres: Postgres
) -> None:
    role, name = f"poor_{uuid.uuid4().hex[:8]}", database_url.rpartition("/")[2]
    postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    await database.execute("CREATE TABLE public.t (id int PRIMARY KEY, e public.vector(3))")
    await database.execute("CREATE INDEX ON public.t USING hnsw (e public.vector_l2_ops)")
    await ensure_bookkeeping(database)
    poor = databases.open(Target(SecretStr(postgres.dsn(name, user=role, password="p"))))
    async with blocking(database, "LOCK TABLE public.t IN SHARE MODE"):
        catalogue = await read_catalogue(poor)
    column = catalogue.columns[0]
    assert not (column.role_owns or column.role_reads or column.role_updates or column.role_creates)
    assert not (catalogue.role.superuser or catalogue.role.sees_activity or catalogue.role.may_signal)
    assert not (catalogue.role.may_create_schema or catalogue.bookkeeping)
    assert catalogue.indexes[0].valid
    assert [s.application_name for s in catalogue.sessions] == ["vectorops:watch"] * 2  # names everyone may see
    assert sorted(s.state or "hidden" for s in catalogue.sessions) == ["active", "hidden"]


# -- what is there ---------------------------------------------------------------------------


async def test_columns_and_indexes_are_found_whatever_they_are_called(
    database: Database,
) -> None:
    table, column, index = quote_ident(WEIRD), quote_ident("e'; --"), quote_ident(WEIRD + "!")
    await database.execute(f"CREATE SCHEMA {table}")
    await database.execute(
        f"CREATE TABLE {table}.{table} (a text, b int, {column} public.vector(3), h public.halfvec(4), "
        "n public.vector, PRIMARY KEY (b, a))"
    )
    await database.execute(
        f"CREATE INDEX {index} ON {table}.{table} USING hnsw ({column} public.vector_cosine_ops) "
        "WITH (m = 8, ef_construction = 32) WHERE b > 1"
    )
    await database.execute(
        f"CREATE INDEX cast_ix ON {table}.{table} USING hnsw (({column}::public.halfvec(3)) public.halfvec_l2_ops)"
    )
    await database.execute(f"CREATE INDEX plain ON {table}.{table} (b)")
    await database.execute(f"COMMENT ON INDEX {table}.{index} IS 'said'")
    catalogue = await read_catalogue(database)

    assert [(c.column, c.type, c.dimensions) for c in catalogue.columns] == [
        ("e'; --", "vector", 3),
        ("h", "halfvec", 4),
        ("n", "vector", None),
    ]
    found = catalogue.column(WEIRD, WEIRD, "e'; --")
    assert found is not None
    assert found.column_names == ("a", "b", "e'; --", "h", "n")
    assert found.primary_key == ("b", "a")

    assert [i.name for i in catalogue.indexes] == ["cast_ix", WEIRD + "!"]
    cast, seen = catalogue.indexes
    assert (seen.method, seen.opclass, seen.input_type) == ("hnsw", "vector_cosine_ops", "vector")
    assert (seen.column, seen.predicate, seen.comment) == ("e'; --", "b > 1", "said")
    assert seen.options == {"m": "8", "ef_construction": "32"}
    assert (seen.valid, seen.ready, seen.live) == (True, True, True)
    assert seen.definition.startswith(f"CREATE INDEX {index} ON {table}.{table} USING hnsw")
    assert cast.column is None
    assert "halfvec" in cast.key
    assert seen.table_oid == found.table_oid


async def test_an_unchanged_world_reads_the_same_twice(database: Database) -> None:
    for name in ("b", "a", "c"):
        await database.execute(f"CREATE TABLE public.{name} (e public.vector(3))")
        await database.execute(f"CREATE INDEX ON public.{name} USING ivfflat (e public.vector_l2_ops) WITH (lists = 1)")
    first, second = await read_catalogue(database), await read_catalogue(database)
    assert without_clock(first) == without_clock(second)
    assert [c.table for c in first.columns] == ["a", "b", "c"]


async def test_a_partitioned_table_counts_its_partitions(database: Database) -> None:
    await database.execute("CREATE TABLE public.p (id int, e public.vector(3)) PARTITION BY RANGE (id)")
    (empty,) = (await read_catalogue(database)).columns
    assert (empty.heap_bytes, empty.rows_estimate) == (0, 0)
    await database.execute(
        "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (0) TO (1000);"
        "CREATE TABLE public.p2 PARTITION OF public.p FOR VALUES FROM (1000) TO (9000);"
        "INSERT INTO public.p SELECT i, '[1,2,3]' FROM generate_series(0, 4999) i;"
        "CREATE INDEX ON public.p USING hnsw (e public.vector_l2_ops)"
    )
    await database.execute("ANALYZE public.p")
    catalogue = await read_catalogue(database)
    parent, one, two = catalogue.columns
    assert (parent.relkind, one.is_partition, two.is_partition) == ("p", True, True)
    assert parent.heap_bytes == one.heap_bytes + two.heap_bytes > 0
    assert parent.rows_estimate == pytest.approx(5000, rel=0.1)
    assert sorted(i.is_partitioned for i in catalogue.indexes) == [False, False, True]


async def test_an_invalid_index_is_seen_as_one(database: Database) -> None:
    await database.execute("CREATE TABLE public.t (e public.vector(3))")
    await database.execute("INSERT INTO public.t VALUES ('[1,2,3]')")
    async with database.session("vectorops:vidx:1") as session:
        await session.execute("SET lock_timeout = '100ms'")
        async with blocking(database, "INSERT INTO public.t VALUES ('[1,2,4]')"):
            with pytest.raises(Exception, match="lock timeout"):
                await session.execute("CREATE INDEX CONCURRENTLY ix ON public.t USING hnsw (e public.vector_l2_ops)")
    index = (await read_catalogue(database)).index("public", "ix")
    assert index is not None
    assert not index.valid


# -- what is going on ---------------------------------------------------------------------------


async def test_a_build_names_who_is_in_its_way(database: Database) -> None:
    await database.execute("CREATE TABLE public.t (e public.vector(3))")
    await database.execute("INSERT INTO public.t VALUES ('[1,2,3]')")
    async with (
        database.session("vectorops:vidx:1") as session,
        blocking(database, "INSERT INTO public.t VALUES ('[1,2,4]')") as other,
    ):
        statement = asyncio.create_task(
            session.execute("CREATE INDEX CONCURRENTLY ix ON public.t USING hnsw (e public.vector_l2_ops)")
        )
        deadline = time.monotonic() + 10
        while True:
            catalogue = await read_catalogue(database)
            if catalogue.builds and catalogue.builds[0].blocker is not None:
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        (build,) = catalogue.builds
        assert (build.application_name, build.command) == ("vectorops:vidx:1", "CREATE INDEX CONCURRENTLY")
        assert build.phase.startswith("waiting for")
        assert build.blocker is not None
        assert build.blocker.pid == other.get_server_pid()
        assert (build.blocker.application_name, build.blocker.state) == ("somebody", "idle in transaction")
        assert "somebody" in [t.application_name for t in catalogue.long_transactions]
        assert await database.cancel_backend(build.pid, build.backend_start)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="cancel"):
            await statement


async def test_a_table_that_is_locked_exclusively_is_not_waited_for(database: Database) -> None:
    await database.execute("CREATE TABLE public.t (e public.vector(3))")
    await database.execute("CREATE INDEX ix ON public.t USING hnsw (e public.vector_l2_ops)")
    before = await read_catalogue(database)
    async with blocking(database, "LOCK TABLE public.t; REINDEX INDEX public.ix"):
        begun = time.monotonic()
        catalogue = await read_catalogue(database)
        assert time.monotonic() - begun < 1
        assert catalogue.columns[0].locked
        assert catalogue.indexes == (replace(before.indexes[0], locked=True),)
        database.definitions.clear()  # as after a restart
        with pytest.raises(Transient) as caught:
            await read_catalogue(database)
        assert caught.value.reason == Reason.LockContended
    assert not (await read_catalogue(database)).columns[0].locked


class Snapshot:
    """A database read by statements that began before what others do meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.definitions = connection, dict[int, dict[str, str]]()
        self.usable: frozenset[str] = frozenset()

    async def fetchval(self, sql: str, *args: object, what: str) -> object:
        return await self.connection.fetchval(sql, *args)


@pytest.mark.parametrize("dropped", ["INDEX public.ix", "TABLE public.t"])
async def test_what_is_dropped_while_the_catalogue_is_read_is_not_in_it(database: Database, dropped: str) -> None:
    await database.execute("CREATE TABLE public.t (e public.vector(3))")
    await database.execute("CREATE INDEX ix ON public.t USING hnsw (e public.vector_l2_ops)")
    async with database.session("early") as session, session.transaction(isolation="repeatable_read"):
        await session.fetchval("SELECT 1")
        await database.execute(f"DROP {dropped}")
        catalogue = await read_catalogue(Snapshot(session))  # type: ignore[arg-type]
    assert catalogue.indexes == ()
    assert [column.table for column in catalogue.columns] == (["t"] if "INDEX" in dropped else [])


async def test_intents_come_with_the_catalogue_once_the_schema_is_there_and_go_with_it(database: Database) -> None:
    assert not (await read_catalogue(database)).bookkeeping
    await ensure_bookkeeping(database)
    await database.execute(
        "INSERT INTO vectorops.intent (uid, build_name, index_schema, index_name, table_oid, definition, "
        "definition_hash, step) VALUES ('u', 'b', 'public', 'i', 4000000000, 'CREATE', 'abc', 'Building')"
    )
    (intent,) = (await read_catalogue(database)).intents
    assert (intent.uid, intent.table_oid, intent.build_oid, intent.step) == ("u", 4_000_000_000, None, "Building")
    await database.execute("DROP SCHEMA vectorops CASCADE")
    assert not (await read_catalogue(database)).bookkeeping


async def test_intents_made_by_another_process_are_seen_at_the_next_reading(
    database: Database, database_url: str
) -> None:
    await read_catalogue(database)
    other = Databases()
    await ensure_bookkeeping(other.open(Target(SecretStr(database_url))))
    await other.close()
    assert (await read_catalogue(database)).bookkeeping
    assert database.usable == {"intent", "schema_version"}


async def test_a_huge_catalogue_is_read_in_well_under_a_second(database: Database) -> None:
    async with database.session("vectorops:test:1") as session:
        for part in range(10):  # one transaction would run out of locks
            await session.execute(
                "DO $$ BEGIN FOR i IN 1..500 LOOP EXECUTE format("
                f"'CREATE TABLE public.%I (id int, a text, b text, c text, d text)', 'other_{part}_' || i); "
                "END LOOP; END $$"
            )
        for part in range(4):
            await session.execute(
                "DO $$ BEGIN FOR i IN 1..50 LOOP EXECUTE format("
                f"'CREATE TABLE public.%I (id int PRIMARY KEY, e public.vector(3))', 't_{part}_' || i); EXECUTE format("
                f"'CREATE INDEX ON public.%I USING hnsw (e public.vector_l2_ops)', 't_{part}_' || i); "
                "END LOOP; END $$"
            )
        await session.execute("ANALYZE pg_catalog.pg_depend, pg_catalog.pg_class, pg_catalog.pg_attribute")
    await read_catalogue(database)
    begun = time.perf_counter()
    catalogue = await read_catalogue(database)
    assert time.perf_counter() - begun < 1.0
    assert (len(catalogue.columns), len(catalogue.indexes)) == (200, 200)
