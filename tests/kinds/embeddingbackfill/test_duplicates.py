"""A text is bought once for a table; the vector of an equal text is copied as long as it is one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stand.provider import Provider, tokens_of

from .driver import ROWS, World, missing, wrong_rows

pytestmark = pytest.mark.real

REPEAT = """INSERT INTO products (title, description)
            SELECT title, description FROM products, generate_series(1, 4) n ORDER BY n, id"""
TEXTS = "SELECT DISTINCT title || E'\\n\\n' || description AS text FROM products"


@pytest.mark.parametrize("shape", [{}, {"batchSize": 7, "concurrency": 5}, {"batchSize": 2048, "concurrency": 1}])
@pytest.mark.parametrize("select", ["Missing", "All"])
async def test_a_thousand_rows_of_two_hundred_texts_cost_two_hundred_texts(
    world: World, db: Any, provider: Provider, shape: dict[str, int], select: str
) -> None:
    await db.execute(REPEAT)
    provider.control(latencySeconds=0.02)
    backfill = world.backfill(select=select, **shape)
    await backfill.until(lambda v: v.complete)
    tokens = sum(tokens_of(row["text"]) for row in await db.fetch(TEXTS))
    bill = provider.bill()
    assert (bill["texts"], bill["tokens"]) == (ROWS, tokens)
    rows, cost = backfill.status.rows, backfill.status.cost
    assert rows is not None and (rows.done, rows.remaining) == (5 * ROWS, 0)
    assert cost is not None and (cost.tokens, cost.at_risk_tokens) == (tokens, 0)
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_a_text_in_flight_is_not_sent_a_second_time(world: World, db: Any, provider: Provider) -> None:
    await db.execute("INSERT INTO products (title, description) SELECT 'more', n::text FROM generate_series(1, 800) n")
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id IN (1, 600, 700)")
    world.state_limits()
    provider.control(holdRequests="Received")
    backfill = world.backfill(batchSize=200, concurrency=3)
    passes = asyncio.create_task(backfill.until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held", at_least=3)  # the third needs the second page
    provider.control(holdRequests=None)
    await passes
    assert set(provider.bill()["perText"].values()) == {1} and provider.bill()["texts"] == 1000 - 2
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_what_an_earlier_process_bought_is_copied(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    await world.backfill(limit=ROWS).until(lambda v: v.complete)
    await db.execute(REPEAT)
    provider.reset()
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        await restarted.backfill(runToken="after").until(lambda v: v.complete)
    assert provider.requests() == [] and await missing(db) == 0 and await wrong_rows(db) == []


@pytest.mark.parametrize(
    "spoilt",
    [
        "UPDATE products SET title = 'edited' WHERE id = 1",
        "UPDATE products SET embedding = NULL, title = NULL, description = NULL WHERE id = 1",
        "DELETE FROM products WHERE id = 1",
        "UPDATE vectorops.embedding_state SET model = 'another'",
        "UPDATE vectorops.embedding_state SET template_hash = 'another'",
        "UPDATE vectorops.embedding_state SET dimensions = 3",
        "UPDATE vectorops.embedding_state SET row_key = 'of a former key'",
    ],
)
async def test_what_is_not_of_that_text_any_more_is_not_copied(
    world: World, db: Any, provider: Provider, spoilt: str
) -> None:
    await db.execute("DELETE FROM products WHERE id > 1")
    await world.backfill().until(lambda v: v.complete)
    await db.execute("INSERT INTO products (title, description) SELECT title, description FROM products")
    await db.execute(spoilt)
    provider.reset()
    await world.backfill(runToken="after").until(lambda v: v.complete)
    assert provider.bill()["texts"] == 1
    assert await wrong_rows(db) == ([] if "embedding_state" in spoilt or "DELETE" in spoilt else await edited(db))


async def edited(db: Any) -> list[str]:
    """Rows that Missing does not look at: their text changed after they were embedded."""
    return [row["text"] for row in await db.fetch(f"{TEXTS} WHERE title = 'edited' AND embedding IS NOT NULL")]


async def test_with_all_only_what_this_run_has_made_is_copied(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id <= 100")
    await world.backfill().created_again().until(lambda v: v.complete)
    provider.reset()
    await world.backfill(select="All", batchSize=10).until(lambda v: v.complete)
    assert set(provider.bill()["perText"].values()) == {1} and provider.bill()["texts"] == ROWS - 99


async def test_equal_texts_share_one_request_and_one_refusal(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'cursed', description = 'text' WHERE id % 10 = 0")
    provider.control(poison=["cursed"])
    verdict = await world.backfill().until(lambda v: v.complete)
    assert str(verdict.reason) == "CompletedWithFailures"
    assert await missing(db) == await db.fetchval("SELECT count(*) FROM vectorops.failure") == ROWS // 10
