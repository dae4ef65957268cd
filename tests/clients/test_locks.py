"""One lock a table: taken at once or not at all, gone with its session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.locks import LOCK_CLASS, lock_key, try_table_lock, unlock
from vectorops.clients.postgres import Database, Databases, Target

BIG = 4_000_000_000  # an oid that does not fit a signed int4


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    yield databases.open(Target(SecretStr(database_url)))
    await databases.close()


def test_every_oid_has_a_key_of_its_own_that_fits() -> None:
    keys = [lock_key(oid)[1] for oid in (1, 2**31 - 1, 2**31, BIG, 2**32 - 1)]
    assert keys == [1, 2**31 - 1, -(2**31), BIG - 2**32, -1]
    assert lock_key(1)[0] == LOCK_CLASS < 2**31


@pytest.mark.real
@pytest.mark.parametrize("oid", [16384, BIG])
async def test_a_second_session_is_told_at_once_and_gets_it_when_the_first_is_gone(
    database: Database, oid: int
) -> None:
    async with database.session("vectorops:one:1") as one, database.session("vectorops:two:2") as two:
        assert await try_table_lock(one, oid)
        assert not await try_table_lock(two, oid)
        held = (await read_catalogue(database)).locks
        assert [(lock.table_oid, lock.application_name) for lock in held] == [(oid, "vectorops:one:1")]
        assert await unlock(one, oid)
        assert await try_table_lock(two, oid)
        assert not await unlock(one, oid)


@pytest.mark.real
async def test_other_tables_are_not_in_the_way(database: Database) -> None:
    async with database.session("vectorops:one:1") as one, database.session("vectorops:two:2") as two:
        assert await try_table_lock(one, 1)
        assert await try_table_lock(two, 2)
