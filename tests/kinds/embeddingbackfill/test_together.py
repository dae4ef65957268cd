"""Fields that meet in one request: each is kept beside the other. Real Postgres, real provider: table and bill."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stand.provider import Provider
from vectorops.kinds.embeddingbackfill import batching_queue

from .driver import DIMENSIONS, ROWS, World, missing, wrong_rows

pytestmark = pytest.mark.real

FOREIGN = f"array_fill(1::real, ARRAY[{DIMENSIONS}])::vector"  # what somebody else wrote
TIMES = "SELECT count(*) FROM vectorops.embedding_state WHERE embedded_at >= $1"


async def now_of(db: Any) -> datetime:
    now: datetime = await db.fetchval("SELECT clock_timestamp()")
    return now


async def test_it_is_complete_only_when_a_query_proves_it(world: World, db: Any, provider: Provider) -> None:
    """Rows that come behind the sweep, and one that loses its embedding meanwhile, are found before it says so."""
    await db.execute(
        """CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE public.products SET embedding = NULL WHERE id = 1; RETURN NULL; END $$;
           CREATE TRIGGER lose AFTER UPDATE ON products FOR EACH ROW WHEN (NEW.id = 200) EXECUTE FUNCTION lose()"""
    )
    provider.control(holdRequests="Billed")
    backfill = world.backfill(batchSize=100, concurrency=1)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    await db.execute("INSERT INTO products OVERRIDING SYSTEM VALUE VALUES (-1, 'late', 'row')")
    provider.control(holdRequests=None)
    await backfill.until(lambda v: v.complete, timeout=20)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    rows = backfill.status.rows
    assert rows is not None and (rows.remaining, rows.failed, rows.skipped) == (0, 0, 0)


async def test_a_budget_pays_for_texts_and_never_for_copies(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'text', description = repeat('useful ', 9) || id % 40")
    backfill = world.backfill(budget={"maxTokens": 200}, batchSize=10, concurrency=2)
    await backfill.until_reason("BudgetExhausted")
    bill, rows, cost = provider.bill(), backfill.status.rows, backfill.status.cost
    assert 0 < bill["tokens"] <= 200 and set(bill["perText"].values()) == {1}
    assert rows is not None and cost is not None
    assert rows.done == ROWS - await missing(db) > len(bill["perText"]) and cost.tokens == bill["tokens"]
    backfill.change(budget={"maxTokens": 100_000})
    await backfill.until(lambda v: v.complete)
    assert set(provider.bill()["perText"].values()) == {1} and len(provider.bill()["perText"]) == 40
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_all_with_a_limit_goes_on_to_its_limit_in_another_process(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    spec: dict[str, Any] = {"select": "All", "limit": 60, "batchSize": 5, "concurrency": 2}
    first = world.backfill(**spec, budget={"maxTokens": 500})
    await first.until_reason("BudgetExhausted")
    rows = first.status.rows
    assert rows is not None and 0 < rows.done < 60
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        again = restarted.backfill(**spec)
        assert str((await again.until(lambda v: v.complete)).reason) == "LimitReached"
    written = await db.fetch("SELECT id FROM products WHERE embedding IS NOT NULL ORDER BY id")
    assert [row["id"] for row in written] == list(range(1, 61))
    assert set(provider.bill()["perText"].values()) == {1}


async def test_what_a_failed_all_has_made_is_not_bought_again_when_it_is_applied_anew(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'cursed' || id WHERE id IN (150, 160)")
    provider.control(poison=["cursed"])
    backfill = world.backfill(select="All", maxFailedRows=1, batchSize=20, concurrency=1)
    assert str((await backfill.until(lambda v: v.failed)).reason) == "TooManyFailedRows"
    await db.execute("UPDATE products SET title = 'blessed' || id WHERE id IN (150, 160)")
    assert str((await backfill.created_again().until(lambda v: v.complete)).reason) == "Succeeded"
    paid = provider.bill()["perText"]
    assert set(paid.values()) == {1} and len(paid) == ROWS
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_a_new_run_token_while_it_works_ends_that_run_and_begins_another(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(holdRequests="Billed")
    backfill = world.backfill(select="All", batchSize=20, concurrency=1, runToken="a")
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    changed = await now_of(db)
    backfill.change(runToken="b")
    await backfill.one_pass()
    provider.control(holdRequests=None)
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await db.fetchval(TIMES, changed) == ROWS
    accounts = await db.fetch("SELECT run_token, rows_done FROM vectorops.spend ORDER BY run_token")
    assert [tuple(row) for row in accounts] == [("a", 20), ("b", ROWS)], "what was in flight is of the run that sent it"
    rows = backfill.status.rows
    assert rows is not None and (rows.done, rows.total, backfill.status.run_token) == (ROWS, ROWS, "b")
    paid = sorted(provider.bill()["perText"].values())
    assert paid == [1] * (ROWS - 20) + [2] * 20


async def test_a_new_run_token_begins_where_the_former_run_had_used_up_its_budget(
    world: World, db: Any, provider: Provider
) -> None:
    backfill = world.backfill(select="All", limit=30, batchSize=5, budget={"maxTokens": 300})
    await backfill.until_reason("BudgetExhausted")
    bought = provider.bill()["tokens"]
    backfill.change(runToken="again")
    await backfill.until(lambda v: v.action is not None)
    await backfill.until_reason("BudgetExhausted")
    assert provider.bill()["tokens"] > bought, "another run has an account of its own"
    assert provider.bill()["tokens"] - bought <= 300


async def test_stale_with_a_limit_adopts_all_and_buys_up_to_the_limit(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(f"UPDATE products SET embedding = {FOREIGN} WHERE id % 2 = 0")
    backfill = world.backfill(select="Stale", limit=10)
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "LimitReached" and "90 are left" in verdict.message
    assert provider.bill()["texts"] == 10 and await missing(db) == 90
    assert await db.fetchval("SELECT count(*) FROM vectorops.embedding_state") == 110, "those of others are all known"
    plan, rows = backfill.status.plan, backfill.status.rows
    assert plan is not None and (plan.rows, plan.unknown_rows) == (10, 100)
    assert rows is not None and (rows.done, rows.remaining) == (10, 0)


async def test_without_money_the_vectors_of_others_are_adopted_all_the_same(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(f"UPDATE products SET embedding = {FOREIGN}")
    backfill = world.backfill(select="Stale", budget={"maxTokens": 0})
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await db.fetchval("SELECT count(*) FROM vectorops.embedding_state") == ROWS
    assert provider.requests() == []


async def test_figures_and_coverage_are_of_the_selected_rows(world: World, db: Any, provider: Provider) -> None:
    where = [{"column": "id", "operator": "LessOrEqual", "value": "50"}]
    backfill = world.backfill(where=where)
    await backfill.until(lambda v: v.complete)
    rows = backfill.status.rows
    assert rows is not None and (rows.total, rows.done, backfill.status.coverage_percent) == (50, 50, 100)
    assert await missing(db) == ROWS - 50


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at batches in hundredths of their seconds."""
    monkeypatch.setattr(batching_queue, "FIRST_LOOK", 0.02)
    monkeypatch.setattr(batching_queue, "LAST_LOOK", 0.05)


@pytest.mark.usefixtures("quick")
async def test_ids_go_in_a_batch_and_nothing_beside_them(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id IN (42, 43, 44)")
    backfill = world.backfill(select="All", ids=["42", "43", "7", "9999"], mode="Batch")
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "Succeeded" and "1 of spec.ids name no row" in verdict.message
    written = await db.fetch("SELECT id FROM products WHERE embedding IS NOT NULL ORDER BY id")
    assert [row["id"] for row in written] == [7, 42, 43] and await wrong_rows(db) == []
    assert provider.bill()["texts"] == 2, "rows of one text are one line"


@pytest.mark.usefixtures("quick")
async def test_a_window_that_closes_leaves_its_batch_and_the_next_one_takes_the_results(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"holdAfter": 50})
    now = datetime.now(UTC)
    world.ahead = now.replace(hour=12, minute=0, second=0, microsecond=0) - now
    backfill = world.backfill(mode="Batch", window={"schedule": "0 11 * * *", "durationSeconds": 7200})
    await backfill.until_reason("WaitingForBatch")
    world.ahead += timedelta(hours=1)
    verdict = await backfill.until_reason("WindowClosed")
    assert verdict.suspended
    await backfill.until_idle()
    await backfill.one_pass()
    assert [batch.texts for batch in backfill.status.batches] == [ROWS], "still shown"
    cost = backfill.status.cost
    assert cost is not None and cost.at_risk_tokens > 0
    provider.control(batches={"holdAfter": None})
    world.ahead += timedelta(hours=22, minutes=1)
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}
