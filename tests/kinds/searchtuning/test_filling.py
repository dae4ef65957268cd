"""A tuning of a table that is yet to be filled: it waits where somebody fills it, and says for whom."""

from __future__ import annotations

from typing import Any

import pytest

from vectorops.kinds.searchtuning.reasons import Reason as Why

from .driver import BROAD, DIMENSIONS, ROWS, World, ask

pytestmark = pytest.mark.real


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is looked at again soon."""
    monkeypatch.setattr("vectorops.kinds.searchtuning.tuning.LEAST_REST", 0.1)
    monkeypatch.setattr("vectorops.kinds.searchtuning.filling.REST", 0.1)
    monkeypatch.setattr("vectorops.kinds.searchtuning.filling.LONG_REST", 0.1)


def a_backfill(**changes: Any) -> dict[str, Any]:
    """An EmbeddingBackfill of the table that has not ended."""
    spec = {"storeRef": {"name": "shop"}, "tableName": "items"} | changes.pop("spec", {})
    return {"metadata": {"name": "items-missing"}, "spec": spec, "status": changes}


COMPLETE = [{"type": "Complete", "status": "True"}]
TABLES = [{"name": "items", "table": "item", "textTemplate": "{id}"}]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("filled", [0, 1000])
async def test_the_first_rows_of_a_table_that_is_being_filled_are_not_taken_for_all_of_it(
    world: World, filled: int
) -> None:
    world.declare(tables=TABLES)
    world.kubernetes.backfills, world.kubernetes.coverage = [a_backfill()], {"items": 100 * filled // ROWS}
    await ask(world, "ALTER TABLE item ADD kept vector")
    await ask(world, "UPDATE item SET kept = embedding, embedding = CASE WHEN id <= $1 THEN embedding END", filled)
    tuning = world.tuning(range=BROAD, activeDeadlineSeconds=60)
    verdict = await tuning.until(lambda verdict: verdict.reason == Why.WaitingForEmbeddings)
    assert verdict.reconciling
    told = f"{100 * filled // ROWS} % of items has an embedding, and EmbeddingBackfill items-missing has not ended."
    assert told in verdict.message
    assert tuning.status.start_time is None, "no deadline runs"
    await ask(world, "UPDATE item SET embedding = kept")
    world.kubernetes.coverage = {"items": 60}
    assert (await tuning.to_end()).complete
    assert tuning.status.rows == ROWS
    assert {*tuning.reasons} & {Why.TooFewQueries, Why.TargetNotReached} == set()


@pytest.mark.usefixtures("impatient")
async def test_a_table_that_somebody_else_is_about_to_fill_is_waited_for(world: World) -> None:
    await ask(world, "ALTER TABLE item ADD kept vector")
    await ask(world, "UPDATE item SET kept = embedding, embedding = CASE WHEN id <= 10 THEN embedding END")
    tuning = world.tuning(range=BROAD)
    verdict = await tuning.until(lambda verdict: verdict.reason == Why.WaitingForEmbeddings)
    assert f"10 of {ROWS} rows have an embedding." in verdict.message
    await ask(world, "UPDATE item SET embedding = kept")
    assert (await tuning.to_end()).complete
    assert tuning.status.rows == ROWS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "backfills",
    [
        [],
        [a_backfill(conditions=COMPLETE)],
        [a_backfill(conditions=[{"type": "Failed", "status": "True"}])],
        [a_backfill(spec={"tableName": "other"}), a_backfill(spec={"storeRef": {"name": "other"}})],
        [a_backfill(spec={"suspend": True})],
    ],
)
async def test_a_table_that_nobody_fills_is_taken_as_it_is(world: World, backfills: list[dict[str, Any]]) -> None:
    world.declare(tables=[*TABLES, {"name": "other", "table": "other", "textTemplate": "{id}"}])
    world.kubernetes.backfills, world.kubernetes.coverage = backfills, {"items": 25, "other": 0}
    await ask(world, "UPDATE item SET embedding = NULL WHERE id > 1000")
    tuning = world.tuning(range=BROAD)
    await tuning.to_end()
    assert tuning.status.rows == 1000
    assert Why.WaitingForEmbeddings not in tuning.reasons


@pytest.mark.usefixtures("impatient")
async def test_a_backfill_of_the_whole_is_waited_for_by_the_tuning_of_a_part(world: World) -> None:
    columns = f"id int NOT NULL, embedding vector({DIMENSIONS})"
    await ask(world, f"CREATE TABLE whole ({columns}) PARTITION BY RANGE (id)")
    await ask(world, "ALTER TABLE whole ATTACH PARTITION item DEFAULT")
    world.declare(tables=[{"name": "items", "table": "whole", "textTemplate": "{id}"}])
    world.kubernetes.backfills = [a_backfill(runToken="former", conditions=COMPLETE)]
    tuning = world.tuning(range=BROAD)
    await tuning.until(lambda verdict: verdict.reason == Why.WaitingForEmbeddings)
    world.kubernetes.backfills = [a_backfill(conditions=COMPLETE)]
    assert (await tuning.to_end()).complete
