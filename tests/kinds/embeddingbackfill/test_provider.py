"""What a provider may do to a backfill: real provider process, real Postgres, a clock that tests can hurry."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from stand.provider import Provider, vector_for
from stand.proxy import Proxy
from vectorops.clients.embedding_limits import Clock
from vectorops.clients.embedding_packing import MAX_TEXT_TOKENS, OPTIMISTIC_BYTES, cut
from vectorops.clients.embeddings import Embedders

from .driver import DIMENSIONS, World, missing, wrong_rows

pytestmark = pytest.mark.real

HURRY = 600.0


@pytest.fixture
async def hurried(world: World) -> AsyncIterator[World]:
    """The same world, whose provider's minutes are tenths of a second."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / HURRY)

    await world.embedders.close()
    world.embedders = Embedders(timeout=world.timeout, clock=Clock(lambda: time.monotonic() * HURRY, sleep))
    world.ctx.embedders = world.embedders
    yield world


@pytest.mark.parametrize("fault", ["Shuffled", "ShortList", "NotANumber", "Zero"])
async def test_whatever_is_wrong_with_an_answer_no_wrong_vector_is_written(
    hurried: World, db: Any, provider: Provider, fault: str
) -> None:
    provider.fail_next(fault, times=2)
    verdict = await hurried.backfill(batchSize=20).until(lambda v: v.complete)
    assert (str(verdict.reason), await missing(db), await wrong_rows(db)) == ("Succeeded", 0, [])


async def test_a_wrong_dimension_stalls_and_nothing_is_written(hurried: World, db: Any, provider: Provider) -> None:
    rows = await missing(db)
    provider.control(faults=[{"kind": "WrongDimension"}])
    verdict = await hurried.backfill().until(lambda v: v.stalled)
    assert (str(verdict.reason), await missing(db)) == ("ProviderRejected", rows)


async def test_ten_minutes_of_429_fail_no_row_and_count_no_attempt(hurried: World, db: Any, provider: Provider) -> None:
    provider.control(faults=[{"kind": "RateLimited", "retryAfter": 20}])
    backfill = hurried.backfill(backoffLimit=0, batchSize=20)
    began = time.monotonic()
    while (passed := (time.monotonic() - began) * HURRY) < 600 or "RateLimited" not in backfill.reasons:
        await backfill.one_pass()  # ten minutes at least, and as many more as a busy machine needs to be refused
        await asyncio.sleep(0.05)
    assert not {"Failed", "BackoffLimitExceeded"} & set(backfill.reasons)
    assert len(provider.requests()) < passed / 20 * 8, "Retry-After is kept by all requests together"
    provider.control(faults=[])
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0
    assert set(provider.bill()["perText"].values()) == {1}


async def test_an_outage_opens_the_breaker_and_costs_no_row(hurried: World, db: Any, provider: Provider) -> None:
    provider.control(faults=[{"kind": "Status", "status": 503}])
    backfill = hurried.backfill(batchSize=20)
    opened: list[Any] = []

    def seen_open(_: Any) -> bool:
        opened[:] = [one for one in hurried.embedders._open.values() if one.breaker.open]
        return bool(opened)

    await backfill.until(seen_open)
    assert opened[0].flow.allowed < 4, "and fewer are sent at a time"
    provider.control(faults=[])
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert not opened[0].breaker.open
    assert (await missing(db), await db.fetchval("SELECT count(*) FROM vectorops.failure")) == (0, 0)
    assert set(provider.bill()["perText"].values()) == {1}


async def test_a_poison_text_among_500_costs_one_row_and_a_few_requests(
    hurried: World, db: Any, provider: Provider
) -> None:
    await db.execute(
        "INSERT INTO products (title, description) SELECT 'more ' || n, 'of it' FROM generate_series(1, 300) n"
    )
    await db.execute("UPDATE products SET title = 'cursed' WHERE id = 333")
    provider.control(poison=["cursed"])
    backfill = hurried.backfill(batchSize=500)
    assert str((await backfill.until(lambda v: v.complete)).reason) == "CompletedWithFailures"
    assert await db.fetch("SELECT row_key FROM vectorops.failure") == [("333",)]
    assert await missing(db) == 1 and await wrong_rows(db) == []
    assert len(provider.requests()) <= 2 * math.ceil(math.log2(500)) + 1
    assert set(provider.bill()["perText"].values()) == {1}, "no innocent text is paid twice"


async def test_limits_that_nobody_stated_are_learnt_from_one_request_before_others_are_sent(
    hurried: World, db: Any, provider: Provider
) -> None:
    provider.control(timeScale=HURRY, latencySeconds=0.6)
    provider.control(limits={"tokensPerMinute": 1_200, "requestsPerMinute": 600}, tokenizer="cl100k")
    await hurried.backfill(batchSize=40, concurrency=4).until(lambda v: v.complete)
    assert await missing(db) == 0
    requests = provider.requests()
    assert sum(one["tokens"] for one in requests) > 1_200, "more than a minute's worth, or nothing is shown"
    assert {one["status"] for one in requests} == {200}


async def test_a_limit_that_shrinks_is_kept_without_one_refusal(hurried: World, db: Any, provider: Provider) -> None:
    provider.control(timeScale=HURRY, latencySeconds=0.6)
    provider.control(
        limits={"tokensPerMinute": 60_000},
        laterLimits={"afterRequests": 4, "tokensPerMinute": 3_000},
        tokenizer="cl100k",
    )
    await hurried.backfill(batchSize=5, concurrency=1).until(lambda v: v.complete)
    assert await missing(db) == 0
    assert {one["status"] for one in provider.requests()} == {200}


async def test_texts_beyond_the_models_limit_are_cut_counted_and_embedded(
    hurried: World, db: Any, provider: Provider
) -> None:
    texts = {1: "<|endoftext|>", 2: "The quick brown fox. " * 5_000, 3: "😀🎉 " * 9_000, 4: "漢字かな" * 6_000}
    for key, text in texts.items():
        await db.execute("UPDATE products SET title = $2, description = '' WHERE id = $1", key, text)
    provider.control(tokenizer="cl100k")
    backfill = hurried.backfill()
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0 and backfill.status.rows is not None and backfill.status.rows.truncated == 3
    sent = provider.bill()["perText"]
    assert sent["<|endoftext|>\n\n"] == 1
    for key in (2, 3, 4):
        [kept] = [text for text in sent if texts[key].startswith(text[:20])]
        assert texts[key].startswith(kept) and len(kept) > MAX_TEXT_TOKENS / 2
        assert len(kept.encode()) <= OPTIMISTIC_BYTES and kept == cut(kept, OPTIMISTIC_BYTES)
        vector = await db.fetchval("SELECT embedding FROM products WHERE id = $1", key)
        assert list(vector.to_numpy()) == list(vector_for(kept, DIMENSIONS))


async def test_an_answer_is_in_the_table_within_two_seconds_and_until_then_at_risk(
    hurried: World, db: Any, provider: Provider
) -> None:
    hurried.state_limits()
    provider.control(holdRequests="Billed")
    backfill = hurried.backfill(batchSize=50, concurrency=2)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    await backfill.one_pass()
    assert backfill.status.cost is not None
    in_flight = sum(one["tokens"] for one in provider.requests("Held"))
    assert backfill.status.cost.at_risk_tokens >= in_flight, "what a kill would pay again is shown"
    rows = await missing(db)
    provider.control(holdRequests=None)
    async with asyncio.timeout(2):
        while await missing(db) > rows - 100:
            await asyncio.sleep(0.02)
    await backfill.until(lambda v: v.complete)
    assert backfill.status.cost is not None and backfill.status.cost.at_risk_tokens == 0


async def test_a_backfill_behind_a_private_ca_goes_on_as_soon_as_the_right_one_is_in_the_secret(
    world: World, db: Any, provider: Provider
) -> None:
    ours, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)
    front = Proxy(provider.port, tls=context)
    await front.start()
    held = world.kubernetes.secrets["ai"]
    held |= {"url": f"https://localhost:{front.port}/v1", "ca.crt": trustme.CA().cert_pem.bytes().decode()}
    world.embeddings["caSecretRef"] = {"name": "ai", "key": "ca.crt"}
    world.declare()
    backfill = world.backfill()
    verdict = await backfill.until(lambda v: v.stalled)
    assert (str(verdict.reason), provider.bill()["requests"]) == ("ProviderTLSFailed", 0)
    assert "caSecretRef" in verdict.message
    held["ca.crt"] = ours.cert_pem.bytes().decode()
    world.ctx.secrets.forget("shop", "ai")  # a minute has passed
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0
    await front.stop()
