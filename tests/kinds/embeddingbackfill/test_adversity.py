"""What happens to a table, a database and a network while a backfill works: each ends well, or says what to do.

Real Postgres, a real provider with a bill. At the end of each: no row wrong, no row left, and nothing paid twice but
what was in flight when its session was lost.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pgvector.asyncpg import register_vector

from stand.postgres import Postgres
from stand.proxy import Proxy
from vectorops.errors import OperatorError
from vectorops.kinds.embeddingbackfill import KIND
from vectorops.runtime.kind import Subject

from .driver import DIMENSIONS, ROWS, Backfill, World, missing, wrong_rows

if TYPE_CHECKING:
    from stand.provider import Provider

pytestmark = pytest.mark.real

IN_FLIGHT = 10  # texts: batchSize times concurrency
SHAPE = {"batchSize": 5, "concurrency": 2}
LATENCY = 0.1  # seconds of the provider: what happens in the middle finds requests in flight
MAKE = f"""
CREATE TABLE products (id int PRIMARY KEY, title text, description text, embedding vector({DIMENSIONS}));
INSERT INTO products SELECT n, 'thing ' || n, repeat('useful ', n % 7) FROM generate_series(1, {ROWS}) n"""
FLOOD = """
INSERT INTO products (title, description) SELECT 'flood ' || $1::int || ' ' || n, '' FROM generate_series(1, 100) n"""
A_PERSON_LATER = timedelta(minutes=2)  # after an error that a person mends it is tried again within that


async def until(backfill: Backfill, reached: Callable[[], bool], timeout: float = 60.0) -> None:
    """Pass after pass, also those that end in an error, as the runtime does."""
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, f"not reached after {backfill.reasons}"
        try:
            await backfill.one_pass()
        except OperatorError as error:
            if error.reason not in backfill.reasons[-1:]:
                backfill.reasons.append(error.reason)
        await asyncio.sleep(0.05)


def done(backfill: Backfill) -> int:
    rows = backfill.status.rows
    return rows.done if rows is not None else 0


async def at_work(backfill: Backfill, rows: int = 1) -> None:
    """Passes until so many rows are embedded."""
    await until(backfill, lambda: done(backfill) >= rows)


async def succeeds(backfill: Backfill) -> None:
    """Passes until it is Complete."""
    await until(backfill, lambda: backfill.verdict is not None and backfill.verdict.complete)
    assert backfill.verdict is not None and str(backfill.verdict.reason) == "Succeeded"


async def settled(backfill: Backfill, db: Any, provider: Provider, losses: int = 0) -> None:
    """Complete, every row right, and bought once but for what so many lost sessions had in flight."""
    provider.control(latencySeconds=0)
    await succeeds(backfill)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    bill = provider.bill()
    assert bill["texts"] <= len(bill["perText"]) + losses * IN_FLIGHT
    cost = backfill.status.cost
    assert cost is not None and cost.tokens <= bill["tokens"] <= cost.tokens + cost.at_risk_tokens


@pytest.fixture
async def slow(world: World, provider: Provider) -> World:
    """The world, with a provider that thinks."""
    provider.control(latencySeconds=LATENCY)
    return world


# -- server and network -----------------------------------------------------------------------------------------------


async def test_connections_cut_again_and_again_cost_what_was_in_flight(
    world: World, db: Any, provider: Provider, proxy: Proxy, postgres: Postgres
) -> None:
    provider.control(latencySeconds=LATENCY)
    url = world.url.replace(f":{postgres.port}/", f":{proxy.port}/")
    async with World(url, provider.base_url, provider.api_key) as far:
        backfill = far.backfill(**SHAPE)
        for cut in range(4):
            await at_work(backfill, 1 + 20 * cut)
            proxy.cut()
        await settled(backfill, db, provider, losses=4)
        assert "BackoffLimitExceeded" not in backfill.reasons


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_restarted_mid_run_is_waited_for_and_nothing_written_is_lost(
    tmp_path_factory: pytest.TempPathFactory, provider: Provider, mode: Any
) -> None:
    with Postgres(tmp_path_factory.mktemp("restarted")) as server:
        url = server.create_database("shop")
        server.sql(f"CREATE EXTENSION vector; {MAKE}", "shop")
        provider.reset()
        provider.control(latencySeconds=LATENCY)
        async with World(url, provider.base_url, provider.api_key) as world:
            backfill = world.backfill(**SHAPE, backoffLimit=0)
            await at_work(backfill, 20)
            await asyncio.to_thread(server.restart, mode)
            await until(backfill, lambda: done(backfill) > 40)
            connection = await asyncpg.connect(url)
            await register_vector(connection)
            await settled(backfill, connection, provider, losses=1)
            await connection.close()
        provider.reset()


# -- the table --------------------------------------------------------------------------------------------------------


async def test_a_table_locked_by_somebody_is_waited_for_and_what_is_paid_for_is_written_then(
    slow: World, db: Any, provider: Provider, database_url: str
) -> None:
    backfill = slow.backfill(**SHAPE, where=[{"column": "id", "operator": "Greater", "value": "0"}])
    await at_work(backfill)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
    sent = len(provider.requests())
    until_then = time.monotonic() + 5
    await until(backfill, lambda: time.monotonic() > until_then)  # longer than any short statement waits for a lock
    assert len(provider.requests()) <= sent + 2, "nothing is sent for while nothing can be written"
    await transaction.rollback()
    await other.close()
    await settled(backfill, db, provider)


async def test_a_column_dropped_and_made_again_mid_run_is_filled_anew(slow: World, db: Any, provider: Provider) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    await db.execute("ALTER TABLE products DROP COLUMN embedding")
    await until(backfill, lambda: "ColumnNotFound" in backfill.reasons)
    await db.execute(f"ALTER TABLE products ADD COLUMN embedding vector({DIMENSIONS})")
    slow.ahead += A_PERSON_LATER
    provider.control(latencySeconds=0)
    await succeeds(backfill)
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_a_column_replaced_in_a_moment_is_filled_without_anybody_being_asked(
    slow: World, db: Any, provider: Provider
) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    await db.execute(
        f"ALTER TABLE products DROP COLUMN embedding; ALTER TABLE products ADD COLUMN embedding vector({DIMENSIONS})"
    )
    provider.control(latencySeconds=0)
    await succeeds(backfill)
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_a_right_taken_away_mid_run_is_named_and_given_back_it_goes_on(
    slow: World, db: Any, provider: Provider, database_url: str
) -> None:
    await db.execute(
        f"""DROP ROLE IF EXISTS vfill_writer; CREATE ROLE vfill_writer LOGIN PASSWORD 'x';
            GRANT SELECT, UPDATE ON products TO vfill_writer;
            GRANT CREATE ON DATABASE {urlsplit(database_url).path[1:]} TO vfill_writer"""
    )
    parts = urlsplit(database_url)
    url = f"postgresql://vfill_writer:x@{parts.hostname}:{parts.port}{parts.path}"
    async with World(url, provider.base_url, provider.api_key) as other:
        backfill = other.backfill(**SHAPE)
        await at_work(backfill)
        await db.execute("REVOKE UPDATE ON products FROM vfill_writer")
        await until(backfill, lambda: "UpdateRightMissing" in backfill.reasons)
        await backfill.until_idle()
        sent = len(provider.requests())
        await backfill.one_pass()
        assert len(provider.requests()) == sent
        await db.execute("GRANT UPDATE ON products TO vfill_writer")
        other.ahead += A_PERSON_LATER
        await settled(backfill, db, provider, losses=1)
    await db.execute("DROP OWNED BY vfill_writer; DROP ROLE vfill_writer")


@pytest.mark.parametrize(
    "bad", [(7, 77, 78), range(1, 21), range(ROWS - 50, ROWS + 1), range(150, 801), range(501, 901)], ids=len
)
@pytest.mark.parametrize("mode", ["Online", "Batch"])
async def test_rows_that_a_constraint_refuses_are_recorded_and_the_rows_beside_them_are_written(
    world: World, db: Any, provider: Provider, mode: str, bad: Sequence[int]
) -> None:
    if max(bad) > ROWS:
        await db.execute("INSERT INTO products (title, description) SELECT 'm', n::text FROM generate_series(1, 700) n")
    rows = await missing(db)
    await db.execute("UPDATE products SET title = 'of old' WHERE id = ANY ($1)", list(bad))
    await db.execute("ALTER TABLE products ADD CONSTRAINT newer CHECK (title <> 'of old') NOT VALID")
    backfill = world.backfill(mode=mode, backoffLimit=0)
    assert str((await backfill.until(lambda v: v.complete)).reason) == "CompletedWithFailures"
    assert await missing(db) == len(bad) and await wrong_rows(db) == []
    recorded = await db.fetch("SELECT row_key::int, reason FROM vectorops.failure ORDER BY 1")
    assert [tuple(row) for row in recorded] == [(key, "WritesDiscarded") for key in bad]
    bill = provider.bill()
    assert set(bill["perText"].values()) == {1}
    assert await db.fetch("SELECT tokens_reserved, tokens_billed, rows_done FROM vectorops.spend") == [
        (0, bill["tokens"], rows - len(bad))
    ]


async def test_a_run_of_nothing_but_rows_that_are_refused_records_them_again_and_ends(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'of old' WHERE id <= 3")
    await db.execute("ALTER TABLE products ADD CONSTRAINT newer CHECK (title <> 'of old') NOT VALID")
    await world.backfill(backoffLimit=0).until(lambda v: v.complete)
    sent = len(provider.requests())
    for shape in ({}, {"batchSize": 1, "concurrency": 1}):
        again = world.backfill(backoffLimit=0, runToken=f"mended {len(shape)}", **shape)
        assert str((await again.until(lambda v: v.complete or v.failed)).reason) == "CompletedWithFailures"
        assert again.status.rows is not None and again.status.rows.failed == 3
    assert len(provider.requests()) == sent + 1 + 3


async def test_a_row_that_refuses_a_copy_does_not_make_the_texts_beside_it_be_bought(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'same', description = 'for ' || id % 10")
    await world.backfill(limit=50).until(lambda v: v.complete)
    await db.execute("UPDATE products SET title = 'same', description = 'unknown' WHERE id = 78")
    await db.execute(
        """CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'P0001'; END $$;
           CREATE TRIGGER no BEFORE UPDATE ON products FOR EACH ROW WHEN (NEW.id IN (77, 78)) EXECUTE FUNCTION no()"""
    )
    backfill = replace(world.backfill(backoffLimit=0), uid="6f1d0c7e-0000-4000-8000-000000000003")
    assert str((await backfill.until(lambda v: v.complete)).reason) == "CompletedWithFailures"
    assert await missing(db) == 2 and await wrong_rows(db) == []
    bill = provider.bill()["perText"]
    assert bill.pop("same\n\nfor 7") == 2, "that of the row itself, for want of a row that says no beforehand"
    assert set(bill.values()) == {1}


async def test_a_vector_that_is_never_a_number_is_billed_and_not_kept_at_risk(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(faults=[{"kind": "NotANumber"}])  # the first text of every request
    backfill = world.backfill(batchSize=4, concurrency=1, limit=12)
    await backfill.until(lambda v: v.complete)
    bill, cost = provider.bill()["tokens"], backfill.status.cost
    assert cost is not None and (cost.tokens, cost.at_risk_tokens) == (bill, 0)
    assert await wrong_rows(db) == []


async def test_a_constraint_that_refuses_every_row_blames_the_table_and_no_row(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("ALTER TABLE products ADD CONSTRAINT none CHECK (embedding IS NULL)")
    verdict = await world.backfill(backoffLimit=0).until(lambda v: v.failed)
    assert str(verdict.reason) == "BackoffLimitExceeded"
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0
    spent = await db.fetch("SELECT tokens_reserved, tokens_billed FROM vectorops.spend")
    assert spent == [(0, provider.bill()["tokens"])]
    assert len(provider.requests()) == 1


async def test_rows_that_come_all_the_time_are_embedded_and_it_ends_when_they_stop(
    slow: World, db: Any, provider: Provider, database_url: str
) -> None:
    provider.control(latencySeconds=0.01)
    backfill = slow.backfill()
    await backfill.one_pass()

    async def flood() -> None:
        other = await asyncpg.connect(database_url)
        for part in range(30):
            await other.execute(FLOOD, part)
        await other.close()

    flooding = asyncio.create_task(flood())
    await settled(backfill, db, provider)
    await flooding
    assert await db.fetchval("SELECT count(*) FROM products") == ROWS + 3000


# -- our own records --------------------------------------------------------------------------------------------------


async def test_records_dropped_mid_run_are_made_again_and_the_rest_is_embedded(
    slow: World, db: Any, provider: Provider
) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    await db.execute("DROP SCHEMA vectorops CASCADE")
    await until(backfill, lambda: "TargetNotFound" in backfill.reasons)
    slow.ahead += A_PERSON_LATER
    provider.control(latencySeconds=0)
    await succeeds(backfill)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    assert provider.bill()["texts"] <= ROWS + IN_FLIGHT


# -- store, Secret, object, another operator --------------------------------------------------------------------------


async def test_a_deleted_store_ends_the_work_and_a_new_one_goes_on(slow: World, db: Any, provider: Provider) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    slow.ctx.stores.seen("shop", "shop", None)
    await until(backfill, lambda: "StoreNotFound" in backfill.reasons)
    await backfill.until_idle()
    assert 0 < await missing(db) < ROWS
    slow.declare()
    await settled(backfill, db, provider)


async def test_a_secret_that_names_another_database_mid_run_ends_the_work_in_the_former(
    provider: Provider, postgres: Postgres
) -> None:
    provider.reset()
    provider.control(latencySeconds=LATENCY)
    former = postgres.create_database("former_shop", template="template_vector")
    postgres.sql(MAKE, "former_shop")
    copied = postgres.create_database("copied_shop", template="former_shop")  # the table's oid is the same there
    try:
        async with World(former, provider.base_url, provider.api_key) as world:
            backfill = world.backfill(**SHAPE)
            await at_work(backfill)
            world.kubernetes.secrets["db"]["url"] = copied
            world.ctx.secrets.forget("shop", "db")
            await backfill.one_pass()
            await backfill.until_idle()
            left = postgres.sql("SELECT count(*) FROM products WHERE embedding IS NULL", "former_shop")
            assert int(left) > 0, "the former database is left alone"
            provider.control(latencySeconds=0)
            await succeeds(backfill)
            assert postgres.sql("SELECT count(*) FROM products WHERE embedding IS NULL", "copied_shop") == "0"
            assert postgres.sql("SELECT count(*) FROM products WHERE embedding IS NULL", "former_shop") == left
    finally:
        provider.reset()
        postgres.drop_database("copied_shop")
        postgres.drop_database("former_shop")


async def test_a_request_deleted_mid_run_and_applied_again_at_once_buys_nothing_twice(
    slow: World, db: Any, provider: Provider
) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    again = backfill.created_again()
    subject = Subject("EmbeddingBackfill", "shop", "products", backfill.uid, 1, backfill.created)
    assert KIND.stop is not None
    stopping = asyncio.create_task(KIND.stop(slow.ctx, subject))
    await succeeds(again)
    await stopping
    assert await missing(db) == 0 and await wrong_rows(db) == []
    assert set(provider.bill()["perText"].values()) == {1}
    assert await db.fetch("SELECT sum(tokens_reserved) FROM vectorops.spend") == [(0,)]


async def test_a_request_deleted_while_its_provider_hangs_lets_go_of_the_table(
    world: World, db: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("act", "filling"):
        monkeypatch.setattr(importlib.import_module(f"vectorops.kinds.embeddingbackfill.{module}"), "GRACE", 0.5)
    world.state_limits()
    provider.control(holdRequests="Received")
    backfill = world.backfill(**SHAPE)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    subject = Subject("EmbeddingBackfill", "shop", "products", backfill.uid, 1, backfill.created)
    assert KIND.stop is not None
    await KIND.stop(world.ctx, subject)
    again = backfill.created_again()
    await until(again, lambda: len(provider.requests()) >= 4, timeout=10)
    assert (
        await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vfill:%'") == 1
    )
    provider.control(holdRequests=None)
    await succeeds(again)
    assert await missing(db) == 0 and await wrong_rows(db) == []
    assert provider.bill()["texts"] <= ROWS + IN_FLIGHT


async def test_two_operators_at_once_work_one_after_the_other(
    slow: World, db: Any, provider: Provider, database_url: str
) -> None:
    backfill = slow.backfill(**SHAPE)
    await at_work(backfill)
    async with World(database_url, provider.base_url, provider.api_key) as newer:
        same = newer.backfill(**SHAPE)
        await until(same, lambda: "WaitingForTableLock" in same.reasons)
        stopping = asyncio.create_task(slow.work.stop(grace=10))
        await settled(same, db, provider)
        await stopping
