"""Whole runs against a real Postgres and a real provider process. What is asserted is the table and the bill."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from stand.provider import Provider, tokens_of
from vectorops.clients.locks import lock_key
from vectorops.kinds.embeddingbackfill.courtesy import CHANCE

from .driver import DIMENSIONS, ROWS, Backfill, World, missing, wrong_rows

pytestmark = pytest.mark.real


async def test_every_row_gets_its_own_vector_and_is_paid_once(world: World, db: Any, provider: Provider) -> None:
    backfill = world.backfill()
    verdict = await backfill.until(lambda v: v.complete)
    assert (str(verdict.reason), await missing(db), await wrong_rows(db)) == ("Succeeded", 0, [])
    bill = provider.bill()
    assert set(bill["perText"].values()) == {1} and bill["texts"] == ROWS
    rows, cost = backfill.status.rows, backfill.status.cost
    assert rows is not None and (rows.total, rows.done, rows.failed, rows.remaining) == (ROWS, ROWS, 0, 0)
    assert cost is not None and (cost.tokens, cost.at_risk_tokens) == (bill["tokens"], 0)
    assert (backfill.status.coverage, backfill.status.completion_time is not None) == ("100%", True)
    states = await db.fetchval(
        'SELECT count(*) FROM vectorops.embedding_state WHERE table_name = \'"public"."products"\''
    )
    assert states == ROWS


async def test_a_run_that_ended_is_not_looked_at_again_until_its_token_changes(world: World, db: Any) -> None:
    backfill = world.backfill()
    await backfill.until(lambda v: v.complete)
    before = backfill.status.model_copy()
    await db.execute("INSERT INTO products (title, description) VALUES ('late', 'comer')")
    verdict = await backfill.one_pass()
    assert verdict.complete and verdict.action is None
    assert backfill.status.rows == before.rows and await missing(db) == 1
    backfill.change(runToken="again")
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0 and backfill.status.rows is not None and backfill.status.rows.done == 1


async def test_a_poison_text_costs_one_row_and_is_asked_again_by_a_new_token(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'cursed ' || id WHERE id IN (17, 90)")
    provider.control(poison=["cursed"])
    backfill = world.backfill()
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "CompletedWithFailures"
    assert await missing(db) == 2 and await wrong_rows(db) == []
    assert await db.fetch("SELECT row_key, reason, attempts FROM vectorops.failure ORDER BY row_key") == [
        ("17", "RejectedInput", 1), ("90", "RejectedInput", 1)
    ]  # fmt: skip
    assert [(f.reason, f.attempts) for f in backfill.status.failures] == [("RejectedInput", 1)] * 2
    assert "cursed" not in backfill.status.model_dump_json()
    sent = len(provider.requests())
    other = backfill.created_again()
    assert str((await other.until(lambda v: v.complete)).reason) == "CompletedWithFailures"
    assert len(provider.requests()) == sent, "what was recorded is not asked again"
    provider.control(poison=[])
    backfill.change(runToken="mended")
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0


async def test_a_mended_text_is_tried_again_by_another_request(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'cursed' WHERE id = 17")
    provider.control(poison=["cursed"])
    backfill = world.backfill()
    await backfill.until(lambda v: v.complete)
    await db.execute("UPDATE products SET title = 'blessed' WHERE id = 17")
    await backfill.created_again().until(lambda v: v.complete)
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_too_many_failed_rows_fail_the_request(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'cursed' || id WHERE id <= 20")
    provider.control(poison=["cursed"])
    backfill = world.backfill(maxFailedRows=3, batchSize=10)
    verdict = await backfill.until(lambda v: v.failed)
    assert str(verdict.reason) == "TooManyFailedRows"


async def test_a_row_edited_while_its_vector_is_made_keeps_no_stale_vector(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(holdRequests="Billed")
    backfill = world.backfill()
    passes = asyncio.create_task(backfill.until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held")
    await db.execute("UPDATE products SET title = 'edited' WHERE id = 1")
    provider.control(holdRequests=None)
    await passes
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_no_transaction_is_open_while_the_provider_thinks(world: World, db: Any, provider: Provider) -> None:
    world.state_limits()
    provider.control(holdRequests="Received")
    backfill = world.backfill(batchSize=50)
    passes = asyncio.create_task(backfill.until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held", at_least=4)
    states = await db.fetch(
        "SELECT state, xact_start, backend_xmin FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vfill:%'"
    )
    provider.control(holdRequests=None)
    await passes
    assert [(s["state"], s["xact_start"], s["backend_xmin"]) for s in states] == [("idle", None, None)]


async def test_rows_with_the_same_text_are_paid_once_a_batch(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id <= 100")
    await world.backfill(batchSize=200).until(lambda v: v.complete)
    assert provider.bill()["perText"]["same\n\ntext"] == 1
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_rows_without_text_are_skipped_and_counted(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = NULL, description = E' \\n' WHERE id <= 5")
    backfill = world.backfill()
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    rows = backfill.status.rows
    assert rows is not None and (rows.skipped, rows.done, rows.total) == (5, ROWS - 5, ROWS)
    assert backfill.status.coverage == "97%"


@pytest.mark.parametrize(
    "fault", ["RateLimited", "Status", "Html", "InvalidJson", "Truncated", "ShortList", "NotANumber", "Zero"]
)
async def test_an_answer_that_is_none_writes_nothing_wrong_and_is_asked_again(
    world: World, db: Any, provider: Provider, fault: str
) -> None:
    provider.fail_next(fault, times=2)
    verdict = await world.backfill().until(lambda v: v.complete)
    assert (str(verdict.reason), await missing(db), await wrong_rows(db)) == ("Succeeded", 0, [])
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0


async def test_a_provider_that_bills_for_no_usable_vector_stalls_before_it_costs_much(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(faults=[{"kind": "AllZero"}])
    verdict = await world.backfill().until(lambda v: v.stalled)
    assert str(verdict.reason) == "InvalidAnswer"
    assert provider.bill()["requests"] <= 8, "three in a row, and those in flight beside them"
    assert await missing(db) == ROWS
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0, "no row is blamed"


async def test_retry_after_is_waited_for_and_shown(world: World, db: Any, provider: Provider) -> None:
    provider.control(faults=[{"kind": "RateLimited", "times": 4, "retryAfter": 2}])
    backfill = world.backfill()
    await backfill.until(lambda v: v.complete)
    assert "RateLimited" in backfill.reasons
    answered = [r for r in provider.requests() if r["status"] == 200]
    refused = [r for r in provider.requests() if r["status"] == 429]
    assert min(r["at"] for r in answered) - max(r["at"] for r in refused) >= 1.9


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("InvalidApiKey", "ProviderAuthenticationFailed"),
        ("InsufficientQuota", "QuotaExhausted"),
        ("WrongDimension", "ProviderRejected"),
        ("Redirect", "ProviderRejected"),
    ],
)
async def test_what_a_person_must_mend_stalls_and_writes_nothing(
    world: World, db: Any, provider: Provider, fault: str, reason: str
) -> None:
    provider.control(faults=[{"kind": fault}])
    backfill = world.backfill()
    verdict = await backfill.until(lambda v: v.stalled)
    assert (str(verdict.reason), await missing(db)) == (reason, ROWS)
    assert provider.api_key not in verdict.message
    assert (await backfill.one_pass()).action is None, "nothing is asked again at once"


async def test_a_new_key_is_tried_at_once(world: World, db: Any, provider: Provider) -> None:
    world.rotate_key("sk-wrong")
    backfill = world.backfill()
    await backfill.until_reason("ProviderAuthenticationFailed")
    world.rotate_key(provider.api_key)
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0


async def test_a_server_that_refuses_every_text_is_not_taken_for_200_poison_texts(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(poison=[""])
    verdict = await world.backfill().until(lambda v: v.stalled)
    assert str(verdict.reason) == "ProviderRejected"
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0


async def test_a_budget_is_kept_and_raising_it_goes_on(world: World, db: Any, provider: Provider) -> None:
    backfill = world.backfill(budget={"maxTokens": 1000})
    verdict = await backfill.until_reason("BudgetExhausted")
    assert verdict.suspended and not verdict.stalled
    spent = provider.bill()["tokens"]
    assert 900 < spent <= 1000 and 0 < await missing(db) < ROWS
    assert (await backfill.one_pass()).action is None
    backfill.change(budget={"maxTokens": 1_000_000})
    await backfill.until(lambda v: v.complete)
    bill = provider.bill()
    assert await missing(db) == 0 and set(bill["perText"].values()) == {1}
    assert backfill.status.cost is not None and backfill.status.cost.tokens == bill["tokens"]


async def test_a_budget_in_dollars_uses_the_price_of_the_store(world: World, db: Any, provider: Provider) -> None:
    backfill = world.backfill(budget={"maxCostUSD": "0.00002"})  # 1,000 tokens
    await backfill.until_reason("BudgetExhausted")
    assert provider.bill()["tokens"] <= 1000
    world.embeddings = {"priceUSDPerMillionTokens": None}
    world.declare()
    assert str((await backfill.one_pass()).reason) == "PriceMissing"


async def test_the_budget_outlives_the_process(world: World, db: Any, provider: Provider, database_url: str) -> None:
    await world.backfill(budget={"maxTokens": 600}).until_reason("BudgetExhausted")
    spent = provider.bill()["tokens"]
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        await restarted.backfill(budget={"maxTokens": 600}).until_reason("BudgetExhausted")
    assert provider.bill()["tokens"] - spent <= 600 - spent


async def test_suspend_ends_after_the_write_in_hand_and_resumes(world: World, db: Any, provider: Provider) -> None:
    world.state_limits()
    provider.control(holdRequests="Billed")
    backfill = world.backfill(batchSize=10, concurrency=2)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    backfill.change(suspend=True)
    assert (await backfill.one_pass()).suspended
    provider.control(holdRequests=None)
    await backfill.until_idle()
    assert await missing(db) == ROWS - 20, "what was paid for was written, and nothing more was sent"
    assert provider.bill()["texts"] == 20
    backfill.change(suspend=False)
    await backfill.until(lambda v: v.complete)
    assert set(provider.bill()["perText"].values()) == {1}


async def test_a_suspended_store_ends_the_work_of_its_dependants(world: World, db: Any, provider: Provider) -> None:
    provider.control(holdRequests="Received")
    backfill = world.backfill(batchSize=10, concurrency=1)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    world.suspended = True
    world.declare()
    verdict = await backfill.one_pass()
    assert (str(verdict.reason), verdict.suspended) == ("StoreSuspended", True)
    provider.control(holdRequests=None)
    await backfill.until_idle()
    assert await missing(db) == ROWS - 10


async def test_a_graceful_stop_writes_what_was_paid_for(world: World, db: Any, provider: Provider) -> None:
    world.state_limits()
    provider.control(holdRequests="Billed")
    backfill = world.backfill(batchSize=10, concurrency=3)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=3)
    stopping = asyncio.create_task(world.work.stop(grace=10))
    await asyncio.sleep(0)
    provider.control(holdRequests=None)
    await stopping
    assert await missing(db) == ROWS - 30 and provider.bill()["texts"] == 30


async def test_a_limit_ends_the_request(world: World, db: Any, provider: Provider) -> None:
    backfill = world.backfill(limit=25, batchSize=10)
    verdict = await backfill.until(lambda v: v.complete)
    assert (str(verdict.reason), await missing(db)) == ("LimitReached", ROWS - 25)
    assert await db.fetchval("SELECT max(id) FROM products WHERE embedding IS NOT NULL") == 25


async def test_it_waits_while_an_index_of_its_table_is_being_built(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    blocker = await asyncpg.connect(database_url)
    builder = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE products IN ROW EXCLUSIVE MODE")
    build = asyncio.create_task(
        builder.execute("CREATE INDEX CONCURRENTLY products_vec ON products USING hnsw (embedding vector_cosine_ops)")
    )
    try:
        backfill = world.backfill()
        await backfill.until_reason("WaitingForIndexBuild")
        assert provider.bill()["texts"] == 0
    finally:
        await transaction.rollback()
        await build
        await blocker.close()
        await builder.close()
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0


async def test_it_lets_go_of_the_table_for_an_index_that_wants_it(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    provider.control(latencySeconds=0.2)
    backfill = world.backfill(batchSize=2, concurrency=1)
    await backfill.until(lambda v: backfill.status.rows is not None and backfill.status.rows.done > 0)
    key = lock_key(await db.fetchval("SELECT 'products'::regclass::oid"))
    assert await db.fetchval("SELECT NOT pg_try_advisory_lock($1::int4, $2::int4)", *key)
    builder = await asyncpg.connect(database_url, server_settings={"application_name": "vectorops:vidx:idx"})
    while not await builder.fetchval("SELECT pg_try_advisory_lock($1::int4, $2::int4)", *key):
        await backfill.one_pass()
        await asyncio.sleep(0.05)
    await backfill.until_reason("WaitingForIndexBuild")
    left = await missing(db)
    await asyncio.sleep(CHANCE + 1)
    assert await missing(db) == left > 0
    await builder.close()
    provider.control(latencySeconds=0)
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


async def test_an_index_of_another_table_holds_it_up_for_seconds_only(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    idle = await asyncpg.connect(database_url, server_settings={"application_name": "vectorops:vidx:other"})
    await world.backfill().until(lambda v: v.complete, timeout=20)
    assert await missing(db) == 0
    await idle.close()


async def test_two_requests_on_one_table_work_one_after_the_other(world: World, db: Any, provider: Provider) -> None:
    provider.control(holdRequests="Received")
    first = world.backfill(batchSize=50, concurrency=1)
    await first.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    second = first.created_again()
    await second.until_reason("WaitingForTableLock")
    provider.control(holdRequests=None)
    await asyncio.gather(first.until(lambda v: v.complete), second.until(lambda v: v.complete))
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


KEYED = {
    "composite": ("shop int, sku text, PRIMARY KEY (sku, shop)", "n % 3, 'sku ' || n"),
    "text": ("name text PRIMARY KEY", "E'odd '' \"key\" \\\\ {é} ' || n"),
    "uuid": ("id uuid PRIMARY KEY", "gen_random_uuid()"),
    "timestamptz": ("at timestamptz PRIMARY KEY", "now() + n * interval '1.000001 second'"),
    "numeric": ("price numeric PRIMARY KEY", "n / 7.0"),
    "domain": ("id positive PRIMARY KEY", "n"),
    "enum and int": (
        "kind mood, n int, UNIQUE (n, kind), PRIMARY KEY (kind, n)",
        "(ARRAY['sad','glad'])[1 + n % 2]::mood, n",
    ),
}


@pytest.mark.parametrize("keys", KEYED)
async def test_a_table_of_any_key_is_filled(world: World, db: Any, provider: Provider, keys: str) -> None:
    columns, values = KEYED[keys]
    await db.execute(
        f"""CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE mood AS ENUM ('sad', 'glad');
            SET TimeZone = 'Asia/Kolkata';
            CREATE TABLE "Odd ""table" ({columns}, "The Text" text, embedding vector({DIMENSIONS}));
            INSERT INTO "Odd ""table" SELECT {values}, 'text ' || n FROM generate_series(1, 1100) n"""
    )
    world.table = {"table": 'Odd "table', "textTemplate": "{The Text}", "documentPrefix": "passage: "}
    world.declare()
    provider.control(poison=["text 77x", "passage: text 99"])
    backfill = world.backfill()
    await backfill.until(lambda v: v.complete)
    failed = await db.fetchval("""SELECT count(*) FROM "Odd ""table" WHERE "The Text" LIKE 'text 99%'""")
    assert await missing(db, '"Odd ""table"') == failed == await db.fetchval("SELECT count(*) FROM vectorops.failure")
    assert await wrong_rows(db, "'passage: ' || \"The Text\"", '"Odd ""table"') == []
    assert str((await backfill.created_again().until(lambda v: v.complete)).reason) == "CompletedWithFailures"


async def test_a_halfvec_column_is_filled(world: World, db: Any, provider: Provider) -> None:
    await db.execute(f"ALTER TABLE products ALTER COLUMN embedding TYPE halfvec({DIMENSIONS})")
    await world.backfill().until(lambda v: v.complete)
    assert await missing(db) == 0


async def test_a_text_beyond_the_models_context_is_cut_and_counted(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET description = repeat('long words ', 20000) WHERE id = 3")
    backfill = world.backfill()
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0
    assert max(tokens_of(text) for text in provider.bill()["perText"]) <= 8191
    assert backfill.status.rows is not None and backfill.status.rows.truncated == 1


async def test_a_table_that_discards_updates_is_not_paid_for_again_and_again(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(
        """CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER discard BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION discard()"""
    )
    verdict = await world.backfill(batchSize=10, concurrency=1).until(lambda v: v.stalled)
    assert str(verdict.reason) == "WritesDiscarded" and provider.bill()["requests"] <= 3


async def test_rows_that_somebody_else_fills_meanwhile_are_left_alone(
    world: World, db: Any, provider: Provider
) -> None:
    world.state_limits()
    provider.control(holdRequests="Billed")
    backfill = world.backfill(batchSize=50, concurrency=4)
    passes = asyncio.create_task(backfill.until(lambda v: v.complete or v.stalled))
    await asyncio.to_thread(provider.wait_for, "Held", at_least=4)
    await db.execute(f"UPDATE products SET embedding = array_fill(1, ARRAY[{DIMENSIONS}])::vector")
    provider.control(holdRequests=None)
    assert str((await passes).reason) == "Succeeded"
    assert len(await wrong_rows(db)) == ROWS, "the others' vectors stay"


async def test_a_server_that_only_talks_nonsense_stalls(world: World, db: Any, provider: Provider) -> None:
    provider.control(faults=[{"kind": "Html"}])
    verdict = await world.backfill(concurrency=1, batchSize=200).until(lambda v: v.stalled, timeout=80)
    assert (str(verdict.reason), await missing(db)) == ("InvalidAnswer", ROWS)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"textTemplate": None}, "NoTextTemplate"),
        ({"textTemplate": "{title} {colour}"}, "TemplateInvalid"),
        ({"textTemplate": "{title"}, "TemplateInvalid"),
        ({"table": "absent"}, "TableNotFound"),
        ({"embeddingColumn": "absent"}, "ColumnNotFound"),
        ({"embeddingColumn": "title", "textTemplate": "{description}"}, "NotAVectorColumn"),
        ({"keyColumns": ["title"]}, "NoPrimaryKey"),
        ({"keyColumns": ["nr"]}, "ColumnNotFound"),
    ],
)
async def test_what_does_not_fit_is_named(world: World, table: dict[str, Any], reason: str) -> None:
    world.table = world.table | table
    world.declare()
    verdict = await world.backfill().one_pass()
    assert (str(verdict.reason), verdict.stalled, verdict.action) == (reason, True, None)


async def test_a_wrong_dimension_is_found_before_anything_is_paid(world: World, provider: Provider) -> None:
    world.embeddings = {"dimensions": 512}
    world.declare()
    assert str((await world.backfill().one_pass()).reason) == "DimensionMismatch"
    assert provider.requests() == []


async def test_a_missing_right_is_named_with_its_grant(
    world: World, db: Any, database_url: str, provider: Provider
) -> None:
    await db.execute(
        "DROP ROLE IF EXISTS vfill_reader; CREATE ROLE vfill_reader LOGIN PASSWORD 'x';"
        "GRANT SELECT ON products TO vfill_reader"
    )
    parts = urlsplit(database_url)
    url = f"postgresql://vfill_reader:x@{parts.hostname}:{parts.port}{parts.path}"
    async with World(url, provider.base_url, provider.api_key) as other:
        verdict = await other.backfill().one_pass()
    assert str(verdict.reason) == "UpdateRightMissing"
    assert 'GRANT UPDATE ("embedding") ON "public"."products" TO "vfill_reader"' in verdict.message
    await db.execute("DROP OWNED BY vfill_reader; DROP ROLE vfill_reader")


async def test_a_lost_session_is_replaced(world: World, db: Any, provider: Provider) -> None:
    provider.control(latencySeconds=0.1)
    backfill: Backfill = world.backfill(batchSize=5, concurrency=1)
    await backfill.until(lambda v: backfill.status.rows is not None and backfill.status.rows.done > 0)
    await db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vfill:%'"
    )
    provider.control(latencySeconds=0)
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    assert provider.bill()["texts"] <= ROWS + 10


async def test_limits_a_minute_are_kept_without_a_refusal(world: World, db: Any, provider: Provider) -> None:
    await db.execute("INSERT INTO products (title) SELECT 'more ' || n FROM generate_series(1, 400) n")
    provider.control(limits={"requestsPerMinute": 1800, "tokensPerMinute": 90_000, "burstSeconds": 12})
    world.embeddings = {"rateLimits": {"requestsPerMinute": 1800, "tokensPerMinute": 90_000}}
    world.declare()
    await world.backfill(batchSize=1, concurrency=8).until(lambda v: v.complete)
    assert {request["status"] for request in provider.requests()} == {200}
    assert await missing(db) == 0


async def test_a_killed_process_pays_again_at_most_what_was_in_flight(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    script = (
        "import asyncio, sys; sys.path[:0] = sys.argv[4].split(':')\n"
        "from driver import World\n"
        "from vectorops.clients.hosts.reaching import POLICY\n"
        "POLICY.allow('127.0.0.0/8')\n"
        "async def main():\n"
        "    async with World(*sys.argv[1:4]) as world:\n"
        "        await world.backfill(batchSize=10, concurrency=3).until(lambda v: v.complete)\n"
        "asyncio.run(main())\n"
    )
    paths = ":".join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", script, database_url, provider.base_url, provider.api_key, paths]
    provider.control(latencySeconds=0.05)
    for _ in range(3):
        before = provider.bill()["requests"]
        process = await asyncio.create_subprocess_exec(*command)
        while provider.bill()["requests"] < before + 4:
            await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
    provider.control(latencySeconds=0)
    backfill = world.backfill(batchSize=10, concurrency=3)
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    assert provider.bill()["texts"] <= ROWS + 3 * 30
    cost = backfill.status.cost
    assert cost is not None and cost.tokens <= provider.bill()["tokens"] <= cost.tokens + cost.at_risk_tokens
