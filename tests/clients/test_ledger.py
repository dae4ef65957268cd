"""The ledger on a real server: what has run once does not run again, what runs goes on, what failed may be repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from vectorops.clients import ledger
from vectorops.clients.bookkeeping import ensure_bookkeeping, steps
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
    again = await ledger.begin(database, REQUEST, "uid-2")
    assert again == replace(first, term=first.term + 1) == await ledger.find(database, REQUEST)


@pytest.mark.real
async def test_what_is_complete_stays_complete(database: Database) -> None:
    await ensure_bookkeeping(database)
    begun = await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.COMPLETE, "Succeeded", begun.term)
    ended = await ledger.find(database, REQUEST)
    assert ended is not None and (ended.state, ended.reason) == (State.COMPLETE, "Succeeded")
    assert ended.ended_at is not None and ended.ended_at >= ended.begun_at
    assert await ledger.begin(database, REQUEST, "uid-2") == ended
    await ledger.finish(database, REQUEST, State.FAILED, "TooLate", ended.term)
    assert await ledger.find(database, REQUEST) == ended


@pytest.mark.real
async def test_what_failed_runs_again_from_its_beginning_on_another_account(database: Database) -> None:
    await ensure_bookkeeping(database)
    first = await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.FAILED, "DeadlineExceeded", first.term)
    again = await ledger.begin(database, REQUEST, "uid-2")
    assert again == replace(first, request_uid="uid-2", term=first.term + 1)


@pytest.mark.real
async def test_a_process_that_was_replaced_does_not_end_what_another_goes_on_with(database: Database) -> None:
    await ensure_bookkeeping(database)
    first = await ledger.begin(database, REQUEST, "uid-1")
    second = await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.FAILED, "DeadlineExceeded", first.term)
    assert await ledger.find(database, REQUEST) == second
    await ledger.finish(database, REQUEST, State.COMPLETE, "Succeeded", second.term)
    ended = await ledger.find(database, REQUEST)
    assert ended is not None and ended.state is State.COMPLETE


@pytest.mark.real
async def test_an_entry_of_the_first_release_is_read_before_any_step_is_taken(database: Database) -> None:
    await database.execute("CREATE SCHEMA vectorops")
    await database.execute(steps()[0])
    await database.execute(
        "INSERT INTO vectorops.ledger (key, kind, namespace, name, run_token, request_uid, state)"
        " VALUES ($1, 'k', 'ns', 'n', '', 'uid-1', 'Running')",
        REQUEST.key,
    )
    entry = await ledger.find(database, REQUEST)
    assert entry is not None and (entry.request_uid, entry.term) == ("uid-1", 0)


@pytest.mark.real
async def test_another_token_is_another_request(database: Database) -> None:
    await ensure_bookkeeping(database)
    begun = await ledger.begin(database, REQUEST, "uid-1")
    await ledger.finish(database, REQUEST, State.COMPLETE, "Succeeded", begun.term)
    other: Request = guarded("cluster", "EmbeddingBackfill", "shop", "all", "night 2", CONTENT)
    assert await ledger.find(database, other) is None
    assert (await ledger.begin(database, other, "uid-1")).state is State.RUNNING
