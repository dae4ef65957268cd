"""Counting is long work: no pass waits for it, nothing is decided meanwhile, and looking again turns nothing."""

from __future__ import annotations

import asyncio

import pytest

from vectorops.kinds.embeddingbackfill import counting
from vectorops.kinds.embeddingbackfill.actions import Begin
from vectorops.kinds.embeddingbackfill.counting import work_key
from vectorops.kinds.embeddingbackfill.observation import Observation
from vectorops.kinds.embeddingbackfill.resource import Reason

from .driver import Backfill, World

pytestmark = pytest.mark.real


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table so large that no pass waits for the end of its counting."""
    monkeypatch.setattr(counting, "PATIENCE_SECONDS", 0.0)


async def woken(world: World, backfill: Backfill) -> None:
    """Wait until the object is woken, as its loop does."""
    event = world.woken.setdefault(backfill.uid, asyncio.Event())
    async with asyncio.timeout(20):
        await event.wait()
    event.clear()


@pytest.mark.usefixtures("large")
async def test_a_pass_does_not_wait_for_the_counting_and_its_end_wakes_the_object(world: World) -> None:
    backfill = world.backfill()
    first = await backfill.one_pass()
    assert (first.reason, first.action, first.reconciling) == (Reason.Counting, None, True)
    await woken(world, backfill)
    assert isinstance((await backfill.one_pass()).action, Begin)
    assert world.work.find(work_key(backfill.uid)) is None, "a count is used once"


@pytest.mark.usefixtures("large")
async def test_what_was_said_stays_said_while_it_is_counted_again(world: World) -> None:
    backfill = world.backfill(approval="Manual")
    await backfill.one_pass()
    await woken(world, backfill)
    waits = await backfill.one_pass()
    assert waits.reason == Reason.WaitingForApproval
    plan = backfill.status.plan
    again = await backfill.one_pass()
    assert (again.reason, again.message, again.suspended, again.stalled) == (
        waits.reason, waits.message, waits.suspended, waits.stalled,
    )  # fmt: skip
    assert again.action is None
    assert backfill.status.plan == plan
    await woken(world, backfill)
    assert (await backfill.one_pass()).reason == Reason.WaitingForApproval


@pytest.mark.usefixtures("large")
async def test_a_count_of_what_nobody_asks_for_any_more_is_not_used(world: World) -> None:
    backfill = world.backfill()
    await backfill.one_pass()
    former = world.work.find(work_key(backfill.uid))
    backfill.spec["limit"] = 5
    await backfill.one_pass()
    assert world.work.find(work_key(backfill.uid)) is not former


async def test_a_small_table_is_counted_within_the_pass_and_wakes_nobody(world: World) -> None:
    backfill = world.backfill()
    observed = await backfill.look()
    assert isinstance(observed, Observation)
    assert observed.counts is not None
    assert not observed.counting
    assert backfill.uid not in world.woken, "or the next pass would come at once, and count, and be woken"


@pytest.mark.usefixtures("large")
async def test_a_count_that_was_cancelled_is_begun_anew(world: World) -> None:
    backfill = world.backfill()
    await backfill.one_pass()
    await world.work.cancel(work_key(backfill.uid))
    assert (await backfill.one_pass()).reason == Reason.Counting
