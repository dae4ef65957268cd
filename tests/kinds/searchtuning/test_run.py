"""A tuning on a real database: what it measures, chooses, sets, compares, and leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from vectorops.errors import OperatorError, Reason
from vectorops.kinds.searchtuning.reasons import Reason as Why

from .driver import BROAD, DIMENSIONS, ROWS, UID, TuningService, World, ask

pytestmark = pytest.mark.real

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vtune:%'"
SET = "SELECT count(*) FROM pg_db_role_setting WHERE setrole = $1::text::regrole"


@pytest.fixture
def service() -> Iterator[TuningService]:
    service = TuningService()
    yield service
    service.stop()


async def tables(world: World) -> list[str]:
    sql = "SELECT array_agg(relname::text) FROM pg_class WHERE relname LIKE 'candidate%' AND relkind IN ('r', 'i')"
    return await ask(world, sql) or []


# -- what it finds -------------------------------------------------------------------------------------------------


async def test_it_chooses_the_first_value_that_surely_meets_the_target(world: World) -> None:
    tuning = world.tuning(range=BROAD)
    verdict = await tuning.to_end()
    assert (verdict.reason, verdict.complete) == (Why.Succeeded, True)
    status = tuning.status
    assert status.chosen is not None
    assert status.chosen.lower_bound_percent is not None
    assert status.chosen.lower_bound_percent >= 95
    assert 11 < status.chosen.ef_search < 400
    assert status.rows == ROWS
    assert status.index_name == "poor"
    assert [point.ef_search for point in status.curve] == sorted(point.ef_search for point in status.curve)
    below = [p for p in status.curve if p.ef_search < status.chosen.ef_search]
    assert all((p.lower_bound_percent or 0) < 95 for p in below)
    assert status.progress is not None
    assert status.progress.percent == 100


async def test_both_strategies_agree_within_a_step(world: World) -> None:
    halved, swept = (
        world.tuning(range=BROAD),
        world.tuning(uid=UID[:-1] + "4", strategy="Sweep", range={**BROAD, "step": 15}),
    )
    await halved.to_end()
    await swept.to_end()
    assert halved.status.chosen is not None and swept.status.chosen is not None
    ratio = halved.status.chosen.ef_search / swept.status.chosen.ef_search
    assert 0.6 <= ratio <= 1.7
    assert len(swept.status.curve) == 26
    assert len(halved.status.curve) <= 6
    costs = [point.buffers or 0 for point in swept.status.curve]
    assert costs == sorted(costs)  # a wider search never reads less


async def test_the_value_of_today_is_measured_beside_the_choice(world: World) -> None:
    name = await ask(world, "SELECT current_database()")
    await ask(world, "CREATE ROLE tuned_reader")
    try:
        await ask(world, f"ALTER ROLE tuned_reader IN DATABASE {name} SET hnsw.ef_search = 300")
        tuning = world.tuning(range=BROAD, apply="Role", role="tuned_reader")
        await tuning.to_end()
        status = tuning.status
        assert status.chosen is not None and status.current is not None and status.applied is not None
        assert status.current.ef_search == 300
        assert status.gain is not None and "300 ->" in status.gain
        assert (status.applied.role, status.applied.before) == ("tuned_reader", "300")
        sql = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'tuned_reader'::regrole"
        assert await ask(world, sql) == [f"hnsw.ef_search={status.chosen.ef_search}"]
    finally:
        await ask(world, f"ALTER ROLE tuned_reader IN DATABASE {name} RESET ALL")
        await ask(world, "DROP ROLE tuned_reader")


async def test_searches_of_a_log_are_used_as_vectors(world: World) -> None:
    sql = (
        f"CREATE TABLE log AS SELECT id, embedding AS asked, 'red shoes ' || id AS words FROM item "
        f"UNION ALL SELECT 0, NULL, NULL UNION ALL SELECT -1, array_fill(0, ARRAY[{DIMENSIONS}])::vector, '' "
    )
    await ask(world, sql)
    tuning = world.tuning(range=BROAD, queries={"fromTable": {"table": "log", "embeddingColumn": "asked", "rows": 128}})
    verdict = await tuning.to_end()
    assert verdict.reason == Why.Succeeded
    assert tuning.status.chosen is not None
    assert 126 <= (tuning.status.chosen.sampled or 0) <= 128


# -- what goes wrong -----------------------------------------------------------------------------------------------


async def test_a_target_that_no_value_meets_fails_with_what_was_reached(world: World) -> None:
    tuning = world.tuning(range={"min": 11, "max": 14}, recallTargetPercent=99)
    verdict = await tuning.to_end()
    assert (verdict.reason, verdict.failed) == (Why.TargetNotReached, True)
    assert "ef_search 14 finds" in verdict.message
    assert tuning.status.chosen is None
    assert tuning.status.curve


async def test_a_budget_that_is_exceeded_fails_and_sets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await ask(world, "CREATE ROLE tuned_budget")
    monkeypatch.setattr("vectorops.recall.searching.Measured.p95_seconds", 2.5)
    try:
        tuning = world.tuning(range=BROAD, p95BudgetMilliseconds=2000, apply="Role", role="tuned_budget")
        verdict = await tuning.to_end()
        assert (verdict.reason, verdict.failed) == (Why.BudgetExceeded, True)
        assert "the budget is 2000 ms" in verdict.message
        assert tuning.status.applied is None
        assert await ask(world, SET, "tuned_budget") == 0
    finally:
        await ask(world, "DROP ROLE tuned_budget")


async def test_a_table_with_a_few_rows_needs_no_tuning(world: World) -> None:
    await ask(world, "DELETE FROM item WHERE id > 20")
    verdict = await world.tuning().to_end()
    assert (verdict.reason, verdict.failed) == (Why.TooFewQueries, True)


@pytest.mark.parametrize(
    ("source", "reason", "said"),
    [
        (
            {"table": "payroll", "embeddingColumn": "e"},
            Why.QueriesInvalid,
            'no table "public"."payroll"; add it to its',
        ),
        ({"table": "nowhere", "embeddingColumn": "e"}, Why.QueriesInvalid, 'no table "public"."nowhere"'),
        ({"table": "item", "embeddingColumn": "e"}, Why.QueriesInvalid, 'no column "public"."item"."e"'),
        ({"table": "item", "embeddingColumn": "id"}, Why.QueriesInvalid, f"not of type vector({DIMENSIONS})"),
        ({"table": "item", "queryColumn": "id"}, Why.EmbeddingsNotDeclared, "embeddingColumn"),
    ],
)
async def test_a_log_that_cannot_be_used_is_told(world: World, source: dict[str, str], reason: Why, said: str) -> None:
    tuning = world.tuning(queries={"fromTable": source})
    with pytest.raises(OperatorError) as told:
        verdict = await tuning.until(lambda verdict: verdict.stalled)
        raise OperatorError(str(verdict.reason), verdict.message)
    assert told.value.reason == reason
    assert said in told.value.message.replace('public."', '"public"."').replace('""', '"')


async def test_without_an_index_it_waits_and_says_for_what(world: World) -> None:
    await ask(world, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'poor'::regclass")
    tuning = world.tuning(range=BROAD)
    verdict = await tuning.one_pass()
    assert (verdict.reason, verdict.stalled) == (Why.WaitingForIndex, False)
    world.kubernetes.indexes.clear()
    verdict = await tuning.one_pass()
    assert (verdict.reason, verdict.stalled) == (Why.IndexNotFound, True)
    await world.index(method="IVFFlat")
    assert (await tuning.one_pass()).reason == Why.MethodUnsupported
    await world.index(storeRef={"name": "other"})
    assert (await tuning.one_pass()).reason == Why.IndexNotFound


async def test_it_waits_while_an_index_of_the_table_is_built(world: World) -> None:
    holder = await asyncpg.connect(world.url)
    builder = await asyncpg.connect(world.url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT 1; UPDATE item SET id = id WHERE id = 1")
            building = asyncio.ensure_future(builder.execute("CREATE INDEX CONCURRENTLY other ON item (id)"))
            tuning = world.tuning(range=BROAD)
            verdict = await tuning.until(lambda verdict: verdict.reason == Why.WaitingForIndexBuild)
            assert verdict.reconciling
        await building
        assert (await tuning.to_end()).complete
    finally:
        await builder.close()
        await holder.close()


async def test_a_role_that_is_not_there_is_told_before_anything_is_searched(world: World) -> None:
    verdict = await world.tuning(apply="Role", role="nobody_here").until(lambda verdict: verdict.stalled)
    assert verdict.reason == Why.RoleNotFound
    with pytest.raises(OperatorError) as told:
        await world.tuning(uid=UID[:-1] + "5", apply="Role").until(lambda verdict: verdict.stalled)
    assert told.value.reason == Why.RoleNotNamed


async def test_the_store_declares_the_value_so_only_the_word_is_given(world: World) -> None:
    await ask(world, "CREATE ROLE tuned_declared")
    try:
        world.declare(search={"role": "tuned_declared", "efSearch": 399})
        tuning = world.tuning(range=BROAD, apply="Role")
        verdict = await tuning.to_end()
        assert (verdict.reason, verdict.complete) == (Why.DeclaredByVectorStore, True)
        assert "declares 399" in verdict.message
        assert tuning.status.applied is None
        assert await ask(world, SET, "tuned_declared") == 0
    finally:
        await ask(world, "DROP ROLE tuned_declared")


# -- it begins and ends ----------------------------------------------------------------------------------------------


async def test_what_has_ended_stays_ended_until_another_run_token(world: World) -> None:
    tuning = world.tuning(range=BROAD)
    await tuning.to_end()
    chosen, ended = tuning.status.chosen, tuning.status.completion_time
    world.work.forget(UID)  # as after a restart
    verdict = await tuning.one_pass()
    assert verdict.complete
    assert (tuning.status.chosen, tuning.status.completion_time) == (chosen, ended)
    tuning.spec["runToken"] = "again"
    assert not (await tuning.one_pass()).complete
    assert (await tuning.to_end()).complete
    assert tuning.status.completion_time != ended


async def test_suspended_it_ends_its_searches_and_begins_again(world: World) -> None:
    tuning = world.tuning(strategy="Sweep", range={"min": 11, "max": 1000, "step": 11}, queries={"heldOutRows": 2048})
    await tuning.until(lambda verdict: verdict.reason == Why.Searching)
    tuning.spec["suspend"] = True
    verdict = await tuning.until(lambda verdict: verdict.suspended and not world.work.running())
    assert verdict.reason == Reason.Suspended
    tuning.spec["suspend"] = False
    await tuning.until(lambda verdict: bool(world.work.running()))
    tuning.deleting = True
    await tuning.until(lambda verdict: not world.work.running())


async def test_a_lost_connection_is_said_and_measured_again(world: World) -> None:
    tuning = world.tuning(strategy="Sweep", range={"min": 11, "max": 1000, "step": 11}, queries={"heldOutRows": 2048})
    await tuning.until(lambda verdict: verdict.reason == Why.Searching)
    await ask(world, CUT)
    verdict = await tuning.until(lambda verdict: not world.work.running())
    verdict = await tuning.one_pass()
    assert verdict.reason == Reason.DatabaseUnavailable
    assert not verdict.failed
    tuning.deleting = True
    await tuning.one_pass()


async def test_its_deadline_ends_it(world: World) -> None:
    tuning = world.tuning(
        strategy="Sweep", range={"min": 11, "max": 1000, "step": 11}, queries={"heldOutRows": 2048},
        activeDeadlineSeconds=1,
    )  # fmt: skip
    verdict = await tuning.to_end()
    assert (verdict.reason, verdict.failed) == (Why.DeadlineExceeded, True)
    await tuning.until(lambda verdict: not world.work.running())


async def test_its_time_after_the_end_is_kept(world: World) -> None:
    tuning = world.tuning(range={"min": 11, "max": 14}, ttlSecondsAfterFinished=0)
    await tuning.to_end()
    await tuning.until(lambda verdict: bool(world.kubernetes.deleted))
    assert world.kubernetes.deleted[0] == f"searchtunings/tune {UID}"


# -- comparing -----------------------------------------------------------------------------------------------------


async def test_candidates_are_built_aside_measured_and_dropped(world: World) -> None:
    before = await ask(world, "SELECT array_agg(indexrelid ORDER BY 1) FROM pg_index WHERE indrelid = 'item'::regclass")
    candidates = [
        {"hnsw": {"m": 16, "efConstruction": 64}},
        {"hnsw": {"m": 16, "efConstruction": 64}, "storage": "HalfVec"},
        {"hnsw": {"m": 16, "efConstruction": 64}, "storage": "Bit"},
        {"hnsw": {"m": 16, "efConstruction": 64}, "storage": "Bit"},
    ]
    tuning = world.tuning(range=BROAD, recallTargetPercent=90, compare=candidates)
    verdict = await tuning.to_end()
    assert verdict.complete
    assert tuning.status.comparison[-1].name == "Bit m=16 efConstruction=64 #2"
    rows = {row.name.split(" ")[0]: row for row in tuning.status.comparison}
    assert list(rows) == ["Current", "Vector", "HalfVec", "Bit"]
    assert (rows["HalfVec"].size_bytes or 0) < (rows["Vector"].size_bytes or 0)
    assert (rows["Bit"].size_bytes or 0) < (rows["HalfVec"].size_bytes or 0)
    assert rows["Vector"].ef_search is not None and rows["Current"].ef_search is not None
    assert rows["Vector"].ef_search <= rows["Current"].ef_search  # a better graph
    assert tuning.status.chosen is not None
    assert tuning.status.chosen.ef_search == rows["Current"].ef_search
    assert await tables(world) == []
    after = await ask(world, "SELECT array_agg(indexrelid ORDER BY 1) FROM pg_index WHERE indrelid = 'item'::regclass")
    assert after == before


async def test_the_copy_of_a_killed_operator_is_dropped_by_the_deletion(world: World) -> None:
    tuning = world.tuning(range=BROAD, compare=[{"hnsw": {"m": 64, "efConstruction": 1000}}])
    await tuning.until(lambda verdict: verdict.reason == Why.Comparing)
    while not await tables(world):
        await asyncio.sleep(0.01)
    job = world.work.find(UID)
    assert job is not None and job.task is not None
    assert tuning.held or ((await tuning.one_pass()) and tuning.held)
    await ask(world, CUT)
    await asyncio.wait([job.task])
    world.work.forget(UID)
    assert await tables(world)
    tuning.deleting = True
    verdict = await tuning.one_pass()
    assert (verdict.reason, tuning.held) == (Reason.Deleting, True)
    await tuning.one_pass()
    assert not tuning.held
    assert await tables(world) == []


# -- the service tunes -----------------------------------------------------------------------------------------------


async def test_the_services_own_answer_is_read(database_url: str, service: TuningService) -> None:
    service.answer = {
        "results": [
            {"efSearch": 60, "recall": 0.97, "p95Milliseconds": 4.2},
            {"efSearch": 40, "recall": 0.949, "p95Milliseconds": 3},
            {"efSearch": "80", "recall": 0.99, "p95Milliseconds": 5},
            {"efSearch": 100, "recall": 7, "p95Milliseconds": 5},
        ],
        "recommended": 40,
    }  # fmt: skip
    async with World(database_url, service.address) as world:
        tuning = world.tuning(runner="Service", range={"min": 40, "max": 60, "step": 20})
        verdict = await tuning.to_end()
    assert (verdict.reason, verdict.complete) == (Why.Succeeded, True)
    assert tuning.status.chosen is not None
    assert (tuning.status.chosen.ef_search, tuning.status.chosen.p95_milliseconds) == (60, 5)
    assert [(p.ef_search, p.recall_percent) for p in tuning.status.curve] == [(40, 94), (60, 97)]
    wanted = {"minEfSearch": 40, "maxEfSearch": 60, "step": 20}
    assert service.asked == [("/api/performance/tune-ef-search", wanted)]


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (404, {}, Reason.EndpointUnsupported),
        (500, {}, Reason.ServiceUnavailable),
        (200, {"results": "none"}, Why.ServiceAnswerUnusable),
        (200, {"results": [1, None, {"efSearch": True}]}, Why.ServiceAnswerUnusable),
        (200, [], Why.ServiceAnswerUnusable),
    ],
)
async def test_a_service_that_cannot_is_told(
    database_url: str, service: TuningService, status: int, answer: Any, reason: str
) -> None:
    service.status, service.answer = status, answer
    async with World(database_url, service.address) as world:
        verdict = await world.tuning(runner="Service").until(lambda verdict: verdict.reason == reason)
    assert not verdict.failed
