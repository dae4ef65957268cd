"""Work that changes nothing in the database is done by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from vectorops.clients import claims
from vectorops.clients.claims import alone
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import Reason, Waiting

pytestmark = pytest.mark.real


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """The database as two processes see it."""
    processes = Databases(), Databases()
    one, other = (each.open(Target(SecretStr(database_url))) for each in processes)
    yield one, other
    await asyncio.gather(*(each.close() for each in processes))


def never() -> None:
    raise AssertionError("nobody has taken it over")


async def test_a_second_process_waits_and_another_work_does_not(two: tuple[Database, Database]) -> None:
    one, other = two
    async with alone(one, "warm a", never):
        with pytest.raises(Waiting) as caught:
            async with alone(other, "warm a", never):
                pass
        async with alone(other, "warm b", never):
            pass
    assert caught.value.reason == Reason.LockHeld
    async with alone(other, "warm a", never):
        pass


async def end_the_holder(through: Database) -> None:
    sql = """SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.classid = $1::int8::oid"""
    await through.fetch(sql, claims.CLAIM_CLASS)


async def test_a_claim_is_taken_again_after_its_connection_was_lost(
    two: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.05)
    one, other = two
    async with alone(one, "warm a", never):
        await end_the_holder(other)
        async with asyncio.timeout(20):
            while not await other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')"):
                await asyncio.sleep(0.02)


async def test_work_that_another_process_has_taken_over_is_ended(
    two: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOK_SECONDS", 2.0)
    (one, other), lost = two, asyncio.Event()
    async with alone(one, "warm a", lost.set):
        await end_the_holder(other)
        async with alone(other, "warm a", never), asyncio.timeout(20):
            await lost.wait()


async def test_a_database_that_does_not_answer_holds_nothing_up(two: tuple[Database, Database]) -> None:
    nowhere = Databases().open(Target(SecretStr("postgresql://u:p@127.0.0.1:1/d")))
    async with alone(nowhere, "warm a", never):
        pass
