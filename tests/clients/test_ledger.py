"""The ledger on a real server: what has run once does not run again, what runs goes on, what failed may be repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from vectorops.clients import ledger
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.ledger import Request, State, guarded
from vectorops.clients.postgres import Database, Databases, Target

CONTENT = {"tableName": "products", "select": "All", "ids": None, "limit": 5}
REQUEST = guarded("cluster", "EmbeddingBackfill", "shop", "all", "", CONTENT)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    yield databases.open(Target(SecretStr(database_url)))
    await databases.close()


def test_a_key_is_of_all_that_makes_two_requests_the_same_and_of_nothing_else() -> None:
    same = guarded("cluster", "EmbeddingBackfill", "shop", "all", "", dict(reversed(CONTENT.items())))
    assert same == guarded("cluster", "EmbeddingBackfill", "shop", "all", "", {**CONTENT, "where": None}) == REQUEST
    others = [
        guarded("other", "EmbeddingBackfill", "shop", "all", "", CONTENT),
        guarded("cluster", "VectorRestore", "shop", "all", "", CONTENT),
        guarded("cluster", "EmbeddingBackfill", "shops", "all", "", CONTENT),
        guarded("cluster", "EmbeddingBackfill", "shop", "al", "l", CONTENT),
        guarded("cluster", "EmbeddingBackfill", "shop", "all", "again", CONTENT),
        guarded("cluster", "EmbeddingBackfill", "shop", "all", "", {**CONTENT, "limit": 6}),
        guarded("cluster", "EmbeddingBackfill", "shop", "all", "", {**CONTENT, "limit": "5"}),
    ]
    assert len({request.key for request in (REQUEST, *others)}) == 8


@pytest.mark.real
async def test_nothing_is_found_where_nothing_was_ever_kept(database: Database) -> None:
    assert await ledger.find(database, REQUEST) is None


@pytest.mark.real
async def test_what_runs_is_gone_on_with_on_its_account_and_from_its_beginning(database: Database) -> None:
    await ensure_bookkeeping(database)
    first = await ledger.begin(database, REQUEST, "uid-1")
    assert (first.request_uid, first.state) == ("uid-1", State.RUNNING)
    assert await ledger.begin(database, REQUEST, "uid-2") == first == await ledger.find(database, REQUEST)


@pytest.mark.real
async def test_what_is_complete_stays_complete(database: Database) -> None:
    await ensure_bookkeeping(database)
    await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.COMPLETE, "Succeeded")
    ended = await ledger.find(database, REQUEST)
    assert ended is not None and (ended.state, ended.reason) == (State.COMPLETE, "Succeeded")
    assert ended.ended_at is not None and ended.ended_at >= ended.begun_at
    assert await ledger.begin(database, REQUEST, "uid-2") == ended
    await ledger.finish(database, REQUEST, State.FAILED, "TooLate")
    assert await ledger.find(database, REQUEST) == ended


@pytest.mark.real
async def test_what_failed_runs_again_from_its_beginning_on_another_account(database: Database) -> None:
    await ensure_bookkeeping(database)
    first = await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.FAILED, "DeadlineExceeded")
    again = await ledger.begin(database, REQUEST, "uid-2")
    assert again == replace(first, request_uid="uid-2")


@pytest.mark.real
async def test_another_token_is_another_request(database: Database) -> None:
    await ensure_bookkeeping(database)
    await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.COMPLETE, "Succeeded")
    other: Request = guarded("cluster", "EmbeddingBackfill", "shop", "all", "night 2", CONTENT)
    assert await ledger.find(database, other) is None
    assert (await ledger.begin(database, other, "uid-1")).state is State.RUNNING
