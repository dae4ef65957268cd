"""The schema vectorops: made once, never written to again, and refused with the statement that helps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from vectorops.clients import bookkeeping
from vectorops.clients.bookkeeping import TABLES, VERSION, ensure_bookkeeping, steps
from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import OperatorError, Reason, Stalled, Waiting

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
    assert await tables(database) == {*TABLES, "schema_version"}


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
    assert await tables(database) == {*TABLES, "schema_version"}
    before = await database.fetchval("SELECT pg_current_wal_insert_lsn()")
    await ensure_bookkeeping(database)
    assert await database.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_a_table_that_was_dropped_is_made_again(database: Database) -> None:
    await ensure_bookkeeping(database)
    await database.execute("DROP TABLE vectorops.spend")
    await ensure_bookkeeping(database)
    assert await tables(database) == {*TABLES, "schema_version"}


async def test_two_operators_at_once_do_not_disturb_each_other(database_url: str) -> None:
    several = [Databases() for _ in range(4)]
    opened = [each.open(Target(SecretStr(database_url))) for each in several]
    await asyncio.gather(*(ensure_bookkeeping(database) for database in opened))
    assert await tables(opened[0]) == {*TABLES, "schema_version"}
    await asyncio.gather(*(each.close() for each in several))


async def test_an_unknown_step_is_refused_by_the_table(database: Database) -> None:
    await ensure_bookkeeping(database)
    sql = "INSERT INTO vectorops.intent VALUES ('u', 'b', 's', 'i', 1, null, null, null, 'd', 'h', $1)"
    await database.execute(sql, "Building")
    with pytest.raises(Exception, match="23514"):
        await database.execute(sql.replace("'b'", "'c'"), "Guessing")
    intents = (await read_catalogue(database)).intents
    assert [(i.uid, i.step, i.old_oid) for i in intents] == [("u", "Building", None)]


async def version(database: Database) -> int:
    return int(await database.fetchval("SELECT version FROM vectorops.schema_version"))


async def columns(database: Database) -> list[tuple[str, ...]]:
    sql = """SELECT table_name::text, column_name::text, data_type::text, is_nullable::text,
                    coalesce(column_default, '')
             FROM information_schema.columns WHERE table_schema = 'vectorops' ORDER BY table_name, column_name"""
    return [tuple(row) for row in await database.fetch(sql)]


async def test_tables_of_the_first_release_are_taken_over_with_their_rows(database: Database) -> None:
    await database.execute("CREATE SCHEMA vectorops")
    await database.execute(steps()[0])
    await database.execute("INSERT INTO vectorops.spend (request_uid, run_token, tokens_billed) VALUES ('u', '', 7)")
    await ensure_bookkeeping(database)
    assert await version(database) == VERSION
    kept = await database.fetchrow("SELECT tokens_billed, term FROM vectorops.spend")
    assert kept is not None and tuple(kept) == (7, 0)


async def test_each_step_may_be_taken_again(database: Database) -> None:
    await ensure_bookkeeping(database)
    before = await columns(database)
    for step in steps():
        await database.execute(step)
    assert await columns(database) == before


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operator of the next release: one more step, which the test may spoil."""
    more = ["CREATE TABLE IF NOT EXISTS vectorops.failure_more (a int)"]
    known = steps()
    monkeypatch.setattr(bookkeeping, "VERSION", len(known) + 1)
    monkeypatch.setattr(bookkeeping, "steps", lambda: (*known, more[0]))
    return more


async def test_a_step_that_fails_half_way_leaves_nothing_and_is_taken_at_the_next_try(
    database: Database, third: list[str]
) -> None:
    whole, third[0] = third[0], f"{third[0]}; SELECT 1 / 0"
    with pytest.raises(OperatorError, match="22012"):
        await ensure_bookkeeping(database)
    assert await version(database) == VERSION
    assert "failure_more" not in await tables(database)
    third[0] = whole
    await ensure_bookkeeping(database)
    assert await version(database) == VERSION + 1
    assert "failure_more" in await tables(database)


async def test_operators_that_race_take_each_step_once(database_url: str, third: list[str], database: Database) -> None:
    await database.execute("CREATE SCHEMA vectorops")
    await database.execute(bookkeeping.steps()[0])
    third[0] = "CREATE TABLE vectorops.once (a int); SELECT pg_sleep(0.2)"  # a second time it would fail
    several = [Databases() for _ in range(4)]
    await asyncio.gather(*(ensure_bookkeeping(each.open(Target(SecretStr(database_url)))) for each in several))
    await asyncio.gather(*(each.close() for each in several))
    assert await version(database) == VERSION + 1


async def test_a_session_that_holds_the_lock_of_the_steps_is_waited_for_and_then_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "STEP_PATIENCE", 2)
    async with database.session("vectorops:other") as other:
        await other.execute(f"SELECT pg_advisory_lock({bookkeeping.STEPS_LOCK}, 0)")
        with pytest.raises(Waiting) as caught:
            await ensure_bookkeeping(database)
    assert caught.value.reason == Reason.LockHeld
    monkeypatch.undo()
    await ensure_bookkeeping(database)


async def test_an_older_operator_refuses_a_newer_schema_and_writes_nothing(database: Database) -> None:
    await ensure_bookkeeping(database)
    await database.execute("UPDATE vectorops.schema_version SET version = version + 1")
    await database.execute("DROP TABLE vectorops.failure")  # the newer one may have had its reasons
    with pytest.raises(Stalled) as caught:
        await ensure_bookkeeping(database)
    assert caught.value.reason == Reason.SchemaNewer
    assert f"version {VERSION + 1} and this operator knows {VERSION}" in caught.value.message
    assert "newer operator" in caught.value.message
    assert "failure" not in await tables(database)
    with pytest.raises(Stalled, match="SchemaNewer"):
        (await read_catalogue(database)).refuse_strange_records()


async def test_a_role_that_may_not_alter_is_told_the_statements_and_they_help(
    plain: tuple[Database, str, str], database: Database, postgres: Postgres
) -> None:
    poor, role, name = plain
    await database.execute("CREATE SCHEMA vectorops")
    await database.execute(steps()[0])  # made by an administrator, for the first release
    grant = f"GRANT USAGE, CREATE ON SCHEMA vectorops TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA vectorops TO {role}"
    postgres.sql(grant, name)
    with pytest.raises(Stalled) as caught:
        await ensure_bookkeeping(poor)
    assert caught.value.reason == Reason.InsufficientPrivilege
    told = caught.value.message.rpartition(": ")[2]
    assert told.count("ALTER TABLE") == 7  # that the first release made
    postgres.sql(told, name)
    await ensure_bookkeeping(poor)
    assert await version(poor) == VERSION


async def test_the_watching_connection_writes_only_where_it_says_so(database: Database) -> None:
    await ensure_bookkeeping(database)
    sql = "INSERT INTO vectorops.spend (request_uid, run_token) VALUES ($1, '') RETURNING request_uid"
    with pytest.raises(OperatorError, match="25006"):
        await database.fetchval(sql, "u")
    row = await database.write_row(sql, "u")
    assert row is not None and row[0] == "u"
    with pytest.raises(OperatorError, match="23505"):
        await database.write_row(sql, "u")
    assert await database.fetchval("SELECT count(*) FROM vectorops.spend") == 1  # and the connection looks again


@pytest.mark.parametrize(
    "damage",
    ["UPDATE vectorops.schema_version SET version = -5", "DELETE FROM vectorops.schema_version"],
)
async def test_a_version_that_is_none_is_that_of_the_beginning(
    database: Database, database_url: str, postgres: Postgres, damage: str
) -> None:
    await ensure_bookkeeping(database)
    postgres.sql(damage, database_url.rpartition("/")[2])
    await ensure_bookkeeping(database)
    assert await database.fetchval("SELECT version FROM vectorops.schema_version") == VERSION
