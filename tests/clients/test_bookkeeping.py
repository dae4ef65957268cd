"""The schema vectorops: made once, never written to again, and refused with the statement that helps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from vectorops.clients.bookkeeping import TABLES, ensure_bookkeeping, forget_bookkeeping
from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import Reason, Stalled

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
def plain(databases: Databases, database_url: str, postgres: Postgres) -> tuple[Database, str, str]:
    """A role without any right: its database, its name (which needs quoting), and the database's name."""
    role, name = f'plain"{uuid.uuid4().hex[:8]}', database_url.rpartition("/")[2]
    quoted = role.replace('"', '""')
    postgres.sql(f"""CREATE ROLE "{quoted}" LOGIN PASSWORD 'p'""")
    return databases.open(Target(SecretStr(postgres.dsn(name, user=role, password="p")))), f'"{quoted}"', name


async def tables(database: Database) -> set[str]:
    sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'vectorops'"
    return {row[0] for row in await database.fetch(sql)}


async def test_a_role_without_rights_is_told_the_statement_and_the_statement_helps(
    plain: tuple[Database, str, str], postgres: Postgres
) -> None:
    database, role, name = plain
    with pytest.raises(Stalled) as caught:
        await ensure_bookkeeping(database)
    assert caught.value.reason == Reason.InsufficientPrivilege
    statement = f"CREATE SCHEMA vectorops AUTHORIZATION {role}"
    assert f"{statement};" in caught.value.message
    postgres.sql(statement, name)
    await ensure_bookkeeping(database)
    assert await tables(database) == set(TABLES)


async def test_a_schema_that_belongs_to_another_role_is_named_with_both_grants(
    plain: tuple[Database, str, str], database: Database, postgres: Postgres
) -> None:
    await ensure_bookkeeping(database)
    poor, role, name = plain
    with pytest.raises(Stalled) as caught:
        await ensure_bookkeeping(poor)
    grants = caught.value.message.rpartition(": ")[2]
    assert grants.count("GRANT") == 2
    assert role in grants
    assert not (await read_catalogue(poor)).bookkeeping  # and the catalogue lives without
    postgres.sql(grants, name)
    await ensure_bookkeeping(poor)
    assert (await read_catalogue(poor)).bookkeeping


async def test_it_is_made_once_and_a_second_look_writes_nothing(database: Database) -> None:
    await ensure_bookkeeping(database)
    assert await tables(database) == set(TABLES)
    before = await database.fetchval("SELECT pg_current_wal_insert_lsn()")
    database.has_bookkeeping = False
    await ensure_bookkeeping(database)
    assert await database.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_a_table_that_was_dropped_is_made_again(database: Database) -> None:
    await ensure_bookkeeping(database)
    await database.execute("DROP TABLE vectorops.spend")
    forget_bookkeeping(database)
    await ensure_bookkeeping(database)
    assert await tables(database) == set(TABLES)


async def test_two_operators_at_once_do_not_disturb_each_other(database_url: str) -> None:
    several = [Databases() for _ in range(4)]
    opened = [each.open(Target(SecretStr(database_url))) for each in several]
    await asyncio.gather(*(ensure_bookkeeping(database) for database in opened))
    assert await tables(opened[0]) == set(TABLES)
    await asyncio.gather(*(each.close() for each in several))


async def test_an_unknown_step_is_refused_by_the_table(database: Database) -> None:
    await ensure_bookkeeping(database)
    sql = "INSERT INTO vectorops.intent VALUES ('u', 'b', 's', 'i', 1, null, null, null, 'd', 'h', $1)"
    await database.execute(sql, "Building")
    with pytest.raises(Exception, match="23514"):
        await database.execute(sql.replace("'b'", "'c'"), "Guessing")
    intents = (await read_catalogue(database)).intents
    assert [(i.uid, i.step, i.old_oid) for i in intents] == [("u", "Building", None)]
