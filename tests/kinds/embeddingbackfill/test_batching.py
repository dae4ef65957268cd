"""Whole runs in batch mode against a real Postgres and the mock's batch interface over HTTP: the table and the bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector

from stand.provider import Provider, tokens_of, vector_for
from vectorops.clients.locks import lock_key
from vectorops.kinds.embeddingbackfill import KIND, batching_effects, batching_queue
from vectorops.kinds.embeddingbackfill.batching_figures import seconds_left
from vectorops.kinds.embeddingbackfill.observation import Observation, OpenBatch
from vectorops.runtime.kind import Subject

from .driver import DIMENSIONS, Backfill, World

pytestmark = pytest.mark.real

ROWS = 200
TEXT = "title || E'\\n\\n' || description"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and pauses in hundredths of their seconds."""
    monkeypatch.setattr(batching_queue, "LAST_LOOK", 0.05)
    monkeypatch.setattr(batching_queue, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(batching_queue, "LAST_PAUSE", 0.2)
    monkeypatch.setattr(batching_effects, "UNANSWERED_SECONDS", 0.3)
    monkeypatch.setattr(batching_effects, "ORPHAN_SECONDS", 0.3)
    monkeypatch.setattr(batching_queue, "FIRST_LOOK", 0.02)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database_url)
    await register_vector(connection)
    await connection.execute(
        f"""CREATE TABLE products (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, description text,
                                  embedding vector({DIMENSIONS}));
            INSERT INTO products (title, description)
            SELECT 'thing ' || n || '!', repeat('useful ', 1 + n % 7) || n FROM generate_series(1, {ROWS}) n"""
    )
    yield connection
    await connection.close()


@pytest.fixture
async def world(database_url: str, provider: Provider, db: asyncpg.Connection[Any]) -> AsyncIterator[World]:
    provider.reset()
    async with World(database_url, provider.base_url, provider.api_key) as world:
        yield world
        provider.reset()


def in_batches(world: World, **spec: Any) -> Backfill:
    return world.backfill(mode="Batch", **spec)


async def wrong_rows(db: asyncpg.Connection[Any]) -> list[str]:
    rows = await db.fetch(f"SELECT {TEXT} AS text, embedding FROM products WHERE embedding IS NOT NULL")
    return [
        r["text"]
        for r in rows
        if not np.array_equal(np.asarray(r["embedding"].to_numpy()), vector_for(r["text"], DIMENSIONS))
    ]


async def missing(db: asyncpg.Connection[Any]) -> int:
    count: int = await db.fetchval("SELECT count(*) FROM products WHERE embedding IS NULL")
    return count


async def account(db: asyncpg.Connection[Any]) -> tuple[int, int, int]:
    row = await db.fetchrow("SELECT tokens_reserved, tokens_billed, rows_done FROM vectorops.spend")
    return tuple(row)  # type: ignore[return-value]


async def nothing_is_left(db: asyncpg.Connection[Any], provider: Provider) -> None:
    """No batch is remembered, and the provider keeps no file of ours."""
    assert await db.fetchval("SELECT count(*) FROM vectorops.batch") == 0
    assert await db.fetchval("SELECT count(*) FROM vectorops.batch_row") == 0
    assert provider.batches()["files"] == []


async def at_provider(provider: Provider, met: Callable[[list[dict[str, Any]]], bool], timeout: float = 20) -> None:
    """Wait for a state of the provider's batches."""
    async with asyncio.timeout(timeout):
        while not met(provider.batches()["batches"]):
            await asyncio.sleep(0.02)


def done(lines: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda batches: bool(batches) and batches[-1]["completed"] + batches[-1]["failed"] >= lines


async def ended_well(backfill: Backfill, db: Any, provider: Provider, reason: str = "Succeeded") -> None:
    verdict = await backfill.until(lambda v: v.complete)
    assert (str(verdict.reason), await wrong_rows(db)) == (reason, [])
    await nothing_is_left(db, provider)


async def test_every_row_gets_its_own_vector_and_is_paid_once(world: World, db: Any, provider: Provider) -> None:
    provider.control(batches={"holdAfter": 80})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    await at_provider(provider, done(80))
    await backfill.until(lambda v: bool(backfill.status.batches) and backfill.status.batches[0].done == 80)
    shown, progress = backfill.status.batches[0], backfill.status.progress
    assert (shown.state, shown.texts, shown.failed) == ("in_progress", ROWS, 0) and shown.id.startswith("batch_")
    assert progress is not None and progress.eta_seconds is not None and backfill.status.rate is None
    locks = await db.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vfill:%' AND state <> 'idle'"
    )
    assert locks == 0 and await db.fetchval("SELECT pg_try_advisory_lock($1, $2)", *await table_lock(db)), "not held"
    await db.fetchval("SELECT pg_advisory_unlock($1, $2)", *await table_lock(db))
    provider.control(batches={"holdAfter": None})
    await ended_well(backfill, db, provider)
    bill = provider.bill()
    assert await missing(db) == 0 and set(bill["perText"].values()) == {1} and bill["texts"] == ROWS
    assert await account(db) == (0, bill["tokens"], ROWS) and backfill.status.batches == []
    states = await db.fetch("SELECT row_key FROM vectorops.embedding_state")
    assert len(states) == ROWS
    assert provider.requests() == [], "nothing was asked online, at the full price"


async def table_lock(db: Any) -> tuple[int, int]:
    return lock_key(await db.fetchval("SELECT 'products'::regclass::oid::int8"))


async def test_several_batches_are_open_at_a_time_and_no_text_is_in_two(
    world: World, db: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorops.kinds.embeddingbackfill.batching_build.MAX_BYTES", 20_000)
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id % 10 = 0")
    backfill = in_batches(world)
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0 and len(provider.batches()["batches"]) > 2
    assert set(provider.bill()["perText"].values()) == {1}


async def test_a_row_edited_while_its_text_is_at_the_provider_keeps_no_stale_vector(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"holdAfter": 5})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    former = await db.fetchval(f"SELECT {TEXT} FROM products WHERE id = 7")
    await db.execute("UPDATE products SET title = 'edited' WHERE id = 7")
    await db.execute("DELETE FROM products WHERE id = 8")
    provider.control(batches={"holdAfter": None})
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0
    bill = provider.bill()
    assert bill["texts"] == ROWS + 1 and bill["perText"][former] == 1


@pytest.mark.parametrize("end", ["expired", "cancelled"])
async def test_what_a_batch_had_done_when_it_ended_early_is_written_and_the_rest_sent_again(
    world: World, db: Any, provider: Provider, end: str
) -> None:
    provider.control(batches={"holdAfter": 150})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    await at_provider(provider, done(150))
    if end == "expired":
        provider.control(batches={"end": "expired"})
        await at_provider(provider, lambda batches: batches[0]["status"] == "expired")
        provider.control(batches={"end": None, "holdAfter": None})
    else:
        job = world.work.find(backfill.uid)
        assert job is not None
        await job.notes["run"].embedder.batches.cancel(provider.batches()["batches"][0]["id"])
        await at_provider(provider, lambda batches: batches[0]["status"] == "cancelled")
        provider.control(batches={"holdAfter": None})
    await ended_well(backfill, db, provider)
    bill = provider.bill()
    assert await missing(db) == 0 and set(bill["perText"].values()) == {1}
    assert await account(db) == (0, bill["tokens"], ROWS)
    assert [batch["lines"] for batch in provider.batches()["batches"]] == [ROWS, ROWS - 150]


async def test_a_poison_text_costs_its_rows_and_nothing_beside_them(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'cursed', description = 'text' WHERE id IN (17, 90)")
    provider.control(poison=["cursed"])
    backfill = in_batches(world)
    await ended_well(backfill, db, provider, "CompletedWithFailures")
    assert await missing(db) == 2
    found = await db.fetch("SELECT row_key, reason, attempts FROM vectorops.failure ORDER BY row_key")
    assert [tuple(row) for row in found] == [("17", "RejectedInput", 1), ("90", "RejectedInput", 1)]
    assert "cursed" not in backfill.status.model_dump_json()
    assert len(provider.batches()["batches"]) == 1


async def test_lines_that_fail_for_a_while_are_sent_again_and_nonsense_is_given_up_in_the_end(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(
        batches={
            "lines": [
                {"text": "thing 3!", "kind": "Status", "status": 500, "times": 1},
                {"text": "thing 4!", "kind": "Status", "status": 429, "times": 2},
                {"text": "thing 5!", "kind": "NotANumber", "times": 1},
                {"text": "thing 6!", "kind": "Zero"},
                {"text": "thing 7!", "kind": "Missing", "times": 1},
            ]
        }
    )
    backfill = in_batches(world)
    await ended_well(backfill, db, provider, "CompletedWithFailures")
    assert await db.fetch("SELECT id FROM products WHERE embedding IS NULL") == [(6,)]
    assert await db.fetch("SELECT row_key, reason FROM vectorops.failure") == [("6", "InvalidAnswer")]
    assert await account(db) == (0, provider.bill()["tokens"], ROWS - 1)


async def test_vectors_of_a_wrong_dimension_are_not_written_and_not_bought_again(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"lines": [{"text": "thing", "kind": "WrongDimension"}]})
    backfill = in_batches(world)
    verdict = await backfill.until(lambda v: v.stalled)
    assert str(verdict.reason) == "ProviderRejected" and "385 dimensions" in verdict.message
    assert await missing(db) == ROWS
    again = backfill.created_again()
    assert str((await again.until(lambda v: v.stalled)).reason) == "ProviderRejected"
    assert provider.bill()["texts"] == ROWS, "the batch stays open, so its texts are not bought a second time"


async def test_an_output_file_that_is_cut_off_loses_the_texts_behind_the_cut_and_no_more(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"cutOutput": 5000})
    backfill = in_batches(world)
    await at_first_batch_then(provider, backfill, cutOutput=None)
    await ended_well(backfill, db, provider)
    bill = provider.bill()
    assert await missing(db) == 0 and ROWS < bill["texts"] < ROWS + 5


async def at_first_batch_then(provider: Provider, backfill: Backfill, **orders: Any) -> None:
    await backfill.until(lambda v: bool(provider.batches()["batches"]))
    await at_provider(provider, lambda batches: batches[0]["status"] == "completed")
    provider.control(batches=orders)


async def test_a_text_too_long_for_the_model_is_cut_to_what_every_tokeniser_accepts(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = repeat('ä', 20000) WHERE id = 9")
    provider.control(poison=["ä" * 8000])
    backfill = in_batches(world)
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "Succeeded" and await missing(db) == 0
    assert len(provider.batches()["batches"]) == 2


async def test_the_budget_is_kept_to_the_token_and_goes_on_when_raised(
    world: World, db: Any, provider: Provider
) -> None:
    total = sum(tokens_of(row["text"]) for row in await db.fetch(f"SELECT {TEXT} AS text FROM products"))
    backfill = in_batches(world, budget={"maxTokens": total // 2})
    verdict = await backfill.until(lambda v: v.suspended)
    assert str(verdict.reason) == "BudgetExhausted"
    bill = provider.bill()
    longest = 100  # tokens: the most that one more text can count as
    assert total // 2 - longest <= bill["tokens"] <= total // 2
    assert 0 < await missing(db) < ROWS
    backfill.change(budget={"maxTokens": 100 * total})
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


async def test_the_limit_is_kept_to_the_row(world: World, db: Any, provider: Provider) -> None:
    backfill = in_batches(world, limit=30)
    await ended_well(backfill, db, provider, "LimitReached")
    assert await missing(db) == ROWS - 30 and provider.bill()["texts"] == 30


async def test_a_suspended_request_leaves_its_batch_and_takes_the_results_when_it_goes_on(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"holdAfter": 50})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    backfill.change(suspend=True)
    await backfill.until_reason("Suspended")
    await backfill.until_idle()
    await backfill.one_pass()
    assert [batch.texts for batch in backfill.status.batches] == [ROWS], "still shown"
    provider.control(batches={"holdAfter": None})
    await at_provider(provider, lambda batches: batches[0]["status"] == "completed")
    assert await missing(db) == ROWS, "nothing is written while it is suspended"
    backfill.change(suspend=False)
    await ended_well(backfill, db, provider)
    assert provider.bill()["texts"] == ROWS and len(provider.batches()["batches"]) == 1


async def test_a_deleted_request_cancels_its_batch_and_what_was_done_is_written(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"holdAfter": 50})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    await at_provider(provider, done(50))
    assert KIND.stop is not None
    await KIND.stop(world.ctx, Subject("EmbeddingBackfill", "shop", "products", backfill.uid, 1, None))  # type: ignore[arg-type]
    assert provider.batches()["batches"][0]["status"] == "cancelled"
    assert await missing(db) == ROWS - 50 and await wrong_rows(db) == []
    await nothing_is_left(db, provider)
    assert await account(db) == (0, provider.bill()["tokens"], 50)


async def test_another_request_takes_over_the_batch_of_one_that_is_gone(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    provider.control(batches={"holdAfter": 50})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    await world.work.stop(grace=20)  # the operator ends, and nobody is there when the object is deleted
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        provider.control(batches={"holdAfter": None})
        other = in_batches(restarted).created_again()
        await ended_well(other, db, provider)
    assert await missing(db) == 0 and provider.bill()["texts"] == ROWS


async def test_a_provider_without_batches_stalls_before_anything_is_paid(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"supported": False})
    verdict = await in_batches(world).until(lambda v: v.stalled)
    assert str(verdict.reason) == "BatchNotSupported" and "Online" in verdict.message
    assert await account(db) == (0, 0, 0) and await db.fetchval("SELECT count(*) FROM vectorops.batch") == 0


async def test_a_wrong_key_stalls_and_a_mended_one_goes_on(world: World, db: Any, provider: Provider) -> None:
    provider.control(apiKeys=["sk-right"])
    backfill = in_batches(world)
    verdict = await backfill.until(lambda v: v.stalled)
    assert str(verdict.reason) == "ProviderAuthenticationFailed"
    world.rotate_key("sk-right")
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0


async def test_a_full_queue_at_the_provider_is_waited_for_with_smaller_batches(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"failWith": "token_limit_exceeded", "failTimes": 2})
    backfill = in_batches(world)
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}
    sizes = [batch["lines"] for batch in provider.batches()["batches"]]
    assert sizes[:2] == [0, 0] and max(sizes) < ROWS, sizes


async def test_batches_that_fail_for_another_reason_stall_after_some(world: World, db: Any, provider: Provider) -> None:
    provider.control(batches={"failWith": "model_not_found", "failTimes": 99})
    verdict = await in_batches(world).until(lambda v: v.stalled)
    assert str(verdict.reason) == "ProviderRejected" and "model_not_found" in verdict.message
    assert await account(db) == (0, 0, 0)


async def test_a_provider_that_refuses_every_text_blames_no_row(world: World, db: Any, provider: Provider) -> None:
    provider.control(poison=["thing"])
    verdict = await in_batches(world).until(lambda v: v.stalled)
    assert str(verdict.reason) == "ProviderRejected"
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0 and await account(db) == (0, 0, 0)


@pytest.mark.parametrize("lost", ["upload", "create"])
async def test_an_answer_that_is_lost_costs_nothing_twice(world: World, db: Any, provider: Provider, lost: str) -> None:
    provider.control(batches={"lose": lost})
    backfill = in_batches(world)
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}
    assert len(provider.batches()["batches"]) == 1
    assert await account(db) == (0, provider.bill()["tokens"], ROWS)


async def test_a_batch_that_no_row_waits_for_any_more_is_cancelled(world: World, db: Any, provider: Provider) -> None:
    provider.control(batches={"holdAfter": 50})
    backfill = in_batches(world)
    await backfill.until_reason("WaitingForBatch")
    await db.execute(f"UPDATE products SET embedding = (SELECT array_agg(1) FROM generate_series(1, {DIMENSIONS}))")
    backfill.change(suspend=True)
    await backfill.until_reason("Suspended")
    await backfill.until_idle()
    backfill.change(suspend=False)
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "Succeeded" and provider.batches()["batches"][0]["status"] == "cancelled"
    await nothing_is_left(db, provider)


async def test_a_table_that_takes_no_vector_is_noticed_before_the_batch_is_bought_again(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER keep BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION keep()"""
    )
    backfill = in_batches(world)
    verdict = await backfill.until(lambda v: v.stalled or v.complete)
    assert str(verdict.reason) in ("WritesDiscarded", "CompletedWithFailures")
    assert max(provider.bill()["perText"].values()) <= 3


def test_looks_become_rarer_the_longer_nothing_happens_and_frequent_again_after_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    queue = batching_queue.Queue()
    assert [queue.looked() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    queue.fruitful()
    assert queue.looked() == 1


async def test_too_many_failed_rows_fail_the_request_and_cancel_its_other_batches(
    world: World, db: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorops.kinds.embeddingbackfill.batching_build.MAX_BYTES", 20_000)
    await db.execute("UPDATE products SET title = 'cursed ' || id WHERE id <= 20")
    provider.control(poison=["cursed"])
    backfill = in_batches(world, maxFailedRows=3)
    verdict = await backfill.until(lambda v: v.failed)
    assert str(verdict.reason) == "TooManyFailedRows"
    assert await db.fetchval("SELECT count(*) FROM vectorops.batch") == 0
    assert {batch["status"] for batch in provider.batches()["batches"]} <= {"completed", "cancelled"}
    assert (await account(db))[1] == provider.bill()["tokens"], "what was done is billed, and written"


async def test_a_provider_that_is_down_while_a_batch_is_open_is_waited_for_and_costs_no_attempt(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(batches={"holdAfter": 50})
    backfill = in_batches(world, backoffLimit=0)
    await backfill.until_reason("WaitingForBatch")
    provider.control(batches={"down": 503})
    await backfill.until_reason("ProviderUnavailable")
    provider.control(batches={"down": 429})
    await backfill.until_reason("RateLimited")
    provider.control(batches={"down": None, "holdAfter": None})
    await ended_well(backfill, db, provider)
    assert await missing(db) == 0 and provider.bill()["texts"] == ROWS


async def test_rows_that_are_stale_or_selected_by_force_get_new_vectors_for_half_the_price(
    world: World, db: Any, provider: Provider
) -> None:
    await world.backfill().until(lambda v: v.complete)
    await db.execute("UPDATE products SET title = 'changed ' || id WHERE id <= 5")
    stale = in_batches(world, select="Stale").created_again()
    await ended_well(stale, db, provider)
    assert provider.batches()["batches"][-1]["lines"] == 5 and await missing(db) == 0
    forced = in_batches(world, select="All", ids=["42", "43"])
    forced.uid = "6f1d0c7e-0000-4000-8000-000000000003"
    await ended_well(forced, db, provider)
    assert provider.batches()["batches"][-1]["lines"] == 2
    rows, cost = forced.status.rows, forced.status.cost
    assert rows is not None and cost is not None and rows.done == 2
    again = in_batches(world, select="All", ids=["42", "43"])
    again.uid = "6f1d0c7e-0000-4000-8000-000000000004"
    await again.until(lambda v: v.complete)
    assert len(provider.batches()["batches"]) == 2, "the very request has ended before"


def seen_with(*batches: OpenBatch) -> Observation:
    return Observation(batches=batches)


def test_the_time_that_is_left_is_that_of_the_slowest_batch_and_unknown_before_the_provider_counts() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    one = OpenBatch("b1", "in_progress", 1000, 400, 100, now - timedelta(minutes=10))
    slow = OpenBatch("b2", "in_progress", 1000, 100, 0, now - timedelta(minutes=10))
    new = OpenBatch("b3", "validating", 1000, 0, 0, now)
    assert seconds_left(seen_with(one), 900, now) == 600
    assert seconds_left(seen_with(one, slow), 1500, now) == 5400
    assert seconds_left(seen_with(one, new), 1500, now) is None
    assert seconds_left(seen_with(one), 5000, now) is None, "other rows are in no batch yet"
