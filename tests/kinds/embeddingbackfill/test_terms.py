"""A process that was replaced while it was paused or cut off: it changes nothing, sends nothing, and says so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stand.provider import Provider
from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.observation import Trouble
from vectorops.kinds.embeddingbackfill.run import Run

from .driver import ROWS, Backfill, World, missing, wrong_rows

pytestmark = pytest.mark.real


async def until_held(backfill: Backfill, provider: Provider) -> Run:
    """Pass after pass until requests are with the provider and wait there."""
    provider.control(holdRequests="Billed")
    deadline = time.monotonic() + 30
    while not provider.bill()["requests"]:
        assert time.monotonic() < deadline
        await backfill.one_pass()
        await asyncio.sleep(0.05)
    job = backfill.world.work.find(backfill.uid)
    assert job is not None
    run = job.notes["run"]
    assert isinstance(run, Run)
    return run


async def account(db: Any) -> dict[str, Any]:
    return dict(await db.fetchrow("SELECT term, tokens_billed, tokens_reserved, rows_done FROM vectorops.spend"))


async def test_what_a_deposed_process_has_in_hand_changes_nothing_and_it_sends_no_more(
    world: World, db: Any, provider: Provider
) -> None:
    """Another process has taken the account while the answer was under way (its lock was lost: a failover)."""
    backfill = world.backfill()
    run = await until_held(backfill, provider)
    assert run.term == 1
    await db.execute("UPDATE vectorops.spend SET term = term + 1")
    before, sent = await account(db), provider.bill()["requests"]
    provider.control(holdRequests=None)
    await backfill.until_idle()
    assert isinstance(run.error, Trouble) and run.error.reason == Shared.Deposed
    assert await account(db) == before
    assert await missing(db) == ROWS
    assert provider.bill()["requests"] == sent


async def test_a_process_whose_session_was_lost_does_not_go_on_once_another_has_taken_over(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    """Two processes, one object: the second has the account and the table; the first comes back, and only looks."""
    first = world.backfill()
    run = await until_held(first, provider)
    async with World(database_url, provider.base_url, provider.api_key) as other:
        second = other.backfill()
        await second.one_pass()
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
            f"vectorops:vfill:{first.uid}",
        )
        deadline = time.monotonic() + 30
        while (await account(db))["term"] < 2:
            assert time.monotonic() < deadline
            await second.one_pass()
            await asyncio.sleep(0.05)
        provider.control(holdRequests=None)
        await second.until(lambda v: v.complete)
        told = await account(db)
        await first.until_idle()
    assert isinstance(run.error, Trouble) and run.error.reason == Shared.Deposed
    assert await account(db) == told
    assert (await missing(db), await wrong_rows(db)) == (0, [])
