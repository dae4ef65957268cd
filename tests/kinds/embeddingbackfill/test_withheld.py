"""Money is spent only while somebody could stop it: asked before every request, and gone on with by itself."""

from __future__ import annotations

from typing import Any

import pytest

from stand.provider import Provider
from vectorops.clients.apiserver.contact import PAUSE_AFTER, Contact
from vectorops.clients.locks import lock_key

from .driver import ROWS, World, missing

pytestmark = pytest.mark.real


class Cut:
    """A clock that can be moved on, and contact with an API server that answers or does not."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        self.contact = Contact(lambda: self.now)
        world.ctx.withholding = (self.contact.cut_off,)

    def off(self) -> None:
        self.now += PAUSE_AFTER

    def on(self) -> None:
        self.contact.answered()


async def test_a_run_pauses_after_five_minutes_without_contact_and_goes_on_by_itself(
    world: World, db: Any, provider: Provider
) -> None:
    provider.control(latencySeconds=0.1)
    cut = Cut(world)
    cut.now = PAUSE_AFTER - 1
    backfill = world.backfill(batchSize=2, concurrency=2)
    await backfill.until(lambda v: backfill.status.rows is not None and backfill.status.rows.done > 0)
    cut.off()
    await backfill.until_reason("KubernetesUnavailable")
    key = lock_key(await db.fetchval("SELECT 'products'::regclass::oid"))
    while not await db.fetchval("SELECT pg_try_advisory_lock($1::int4, $2::int4)", *key):
        await backfill.one_pass()  # the table is let go of after the write in hand
    sent, left = provider.bill()["texts"], await missing(db)
    assert 0 < left < ROWS
    for _ in range(20):
        await backfill.until(lambda verdict: True)
    assert (provider.bill()["texts"], await missing(db)) == (sent, left)
    await db.fetchval("SELECT pg_advisory_unlock($1::int4, $2::int4)", *key)
    cut.on()
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0
    assert set(provider.bill()["perText"].values()) == {1}, "and nothing is paid twice for it"


async def test_a_run_that_begins_cut_off_sends_nothing(world: World, db: Any, provider: Provider) -> None:
    cut = Cut(world)
    cut.off()
    backfill = world.backfill()
    await backfill.until_reason("KubernetesUnavailable")
    assert provider.bill()["texts"] == 0
    cut.on()
    await backfill.until(lambda v: v.complete)


async def test_a_batch_is_not_made_while_cut_off(world: World, db: Any, provider: Provider) -> None:
    cut = Cut(world)
    cut.off()
    backfill = world.backfill(mode="Batch")
    await backfill.until_reason("KubernetesUnavailable")
    await backfill.until_reason("KubernetesUnavailable")
    assert "WaitingForBatch" not in backfill.reasons, "none is at the provider"
    cut.on()
    await backfill.until(lambda v: v.complete)
    assert "WaitingForBatch" in backfill.reasons
