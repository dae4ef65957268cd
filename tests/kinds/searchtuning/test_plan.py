"""What a tuning does next, by the world it sees; which values it tries; what an answer of the service says. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vectorops.errors import Reason as Shared
from vectorops.kinds.searchtuning.asking import points_of
from vectorops.kinds.searchtuning.choosing import Bisection, grid, growing, sweep
from vectorops.kinds.searchtuning.figures import figures
from vectorops.kinds.searchtuning.observation import Findings, Observation, Trouble, WorkSeen
from vectorops.kinds.searchtuning.plan import CHECKS, Begin, BeginComparing, CleanUp, Stop, decide, holds
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Applied, Point, Spec, Status
from vectorops.runtime import conditions
from vectorops.runtime.kind import Expire, Family, Subject, Verdict, View

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEAST = {"storeRef": {"name": "shop"}, "indexRef": {"name": "products"}}
COMPARING = {"compare": [{"storage": "HalfVec"}]}
POINT = Point(ef_search=80, recall_percent=97, lower_bound_percent=95, p95_milliseconds=6, buffers=900, sampled=256)
TODAY = Point(ef_search=40, recall_percent=91, lower_bound_percent=89, p95_milliseconds=4, buffers=500, sampled=256)
FOUND = Findings("idx", 1000, (TODAY, POINT), POINT, TODAY, queries=256)
NOTHING = Observation()
WORK = WorkSeen("", True, Reason.Searching, FOUND, NOW, done=100, total=1000)
FINISHED = replace(WORK, running=False, finished=True, ended_at=NOW)


def view(
    observed: Observation = NOTHING,
    status: Status | None = None,
    now: datetime = NOW,
    deleting: bool = False,
    **spec: Any,
) -> View[Spec, Observation, Status]:
    subject = Subject("SearchTuning", "shop", "products", "uid", 1, NOW, NOW if deleting else None, deleting)
    return View(subject, Spec.model_validate({**LEAST, **spec}), observed, status or Status(), now)


def told(verdict: Verdict) -> tuple[str, str]:
    word = (
        "complete" if verdict.complete else "failed" if verdict.failed else "suspended" if verdict.suspended else "on"
    )
    return str(verdict.reason), word


def over(verdict: Verdict, **status: Any) -> Status:
    stated = conditions.merge([], conditions.from_verdict(verdict, Family.RUN_TO_COMPLETION), 1, NOW)
    return Status.model_validate({"conditions": stated, **status})


def test_it_begins_and_a_second_pass_on_running_work_plans_nothing() -> None:
    assert decide(view()).action == Begin()
    verdict = decide(view(Observation(work=WORK)))
    assert (verdict.reason, verdict.action, verdict.reconciling) == (Reason.Searching, None, True)


def test_every_check_may_be_the_one_that_answers_and_the_last_always_does() -> None:
    assert CHECKS[-1](view()) is not None
    assert len(CHECKS) == len(set(CHECKS))


@pytest.mark.parametrize(
    ("found", "spec", "expected"),
    [
        (FOUND, {}, (Reason.Succeeded, "complete")),
        (replace(FOUND, chosen=None), {}, (Reason.TargetNotReached, "failed")),
        (Findings(queries=31), {}, (Reason.TooFewQueries, "failed")),
        (FOUND, {"p95BudgetMilliseconds": 5}, (Reason.BudgetExceeded, "failed")),
        (FOUND, {"p95BudgetMilliseconds": 6}, (Reason.Succeeded, "complete")),
        (replace(FOUND, declared=40), {"apply": "Role"}, (Reason.DeclaredByVectorStore, "complete")),
        (replace(FOUND, declared=80), {"apply": "Role"}, (Reason.Succeeded, "complete")),
        (replace(FOUND, declared=40), {}, (Reason.Succeeded, "complete")),
        (replace(FOUND, applied=Applied(role="api", ef_search=80)), {"apply": "Role"}, (Reason.Succeeded, "complete")),
    ],
)
def test_what_was_found_decides_the_end(found: Findings, spec: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told(decide(view(Observation(work=replace(FINISHED, found=found)), **spec))) == expected


@pytest.mark.parametrize(
    ("observed", "spec", "expected"),
    [
        (Observation(work=WORK), {"suspend": True}, (Shared.Suspended, "suspended")),
        (Observation(work=WORK, store=Trouble(Shared.StoreSuspended, "")), {}, (Shared.StoreSuspended, "suspended")),
        (Observation(work=WORK, store=Trouble(Shared.StoreNotFound, "", True)), {}, (Shared.StoreNotFound, "on")),
        (Observation(work=WORK), {"runToken": "again"}, (Reason.Searching, "on")),
    ],
)
def test_running_work_is_ended_when_it_is_not_wanted(
    observed: Observation, spec: dict[str, Any], expected: tuple[str, str]
) -> None:
    verdict = decide(view(observed, **spec))
    assert (told(verdict), verdict.action) == (expected, Stop())
    assert observed.work is not None
    stopping = replace(observed, work=replace(observed.work, stopping=True))
    assert decide(view(stopping, **spec)).action is None


def test_trouble_is_told_and_rested_from_then_tried_again_without_turning_a_condition() -> None:
    trouble = Trouble(Shared.DatabaseUnavailable, "gone")
    seen = Observation(work=replace(WORK, running=False, error=trouble, ended_at=NOW))
    verdict = decide(view(seen))
    assert (verdict.reason, verdict.action) == (Shared.DatabaseUnavailable, None)
    later = decide(view(seen, now=NOW + timedelta(minutes=2)))
    assert (later.reason, later.action) == (Shared.DatabaseUnavailable, Begin())
    again = decide(view(Observation(work=replace(WORK, former=trouble))))
    assert (again.reason, again.action) == (Shared.DatabaseUnavailable, None)


def test_what_has_ended_stays_until_a_new_run_token_and_expires() -> None:
    done = over(decide(view(Observation(work=FINISHED))), completionTime=NOW.isoformat())
    assert told(decide(view(Observation(over=True), done))) == (Reason.Succeeded, "complete")
    assert decide(view(NOTHING, done, runToken="again")).action == Begin()
    kept = decide(view(Observation(over=True), done, ttlSecondsAfterFinished=60))
    assert (kept.action, kept.look_again) == (None, 60)
    late = NOW + timedelta(seconds=61)
    assert decide(view(Observation(over=True), done, late, ttlSecondsAfterFinished=60)).action == Expire()
    assert decide(view(Observation(over=True), done, late, True, ttlSecondsAfterFinished=60)).action is None


def test_a_deadline_counts_from_the_first_begin_and_spares_what_has_just_ended() -> None:
    begun, late = Status(start_time=NOW), NOW + timedelta(seconds=61)
    verdict = decide(view(Observation(work=WORK), begun, late, activeDeadlineSeconds=60))
    assert (told(verdict), verdict.action) == ((Reason.DeadlineExceeded, "failed"), Stop())
    assert told(decide(view(Observation(work=FINISHED), begun, late, activeDeadlineSeconds=60)))[1] == "complete"
    assert decide(view(NOTHING, begun, late, activeDeadlineSeconds=60, runToken="again")).action == Begin()


def test_the_copy_holds_the_object_and_is_dropped_by_whoever_comes() -> None:
    left = Observation(leftover=True)
    assert holds(view(left, **COMPARING))
    assert holds(view(Observation(work=WORK), **COMPARING))
    assert not holds(view(Observation(work=WORK)))
    assert decide(view(left, deleting=True, **COMPARING)).action == CleanUp()
    assert decide(view(Observation(leftover=True, work=WORK), deleting=True, **COMPARING)).action == Stop()
    done = over(decide(view(Observation(work=FINISHED))))
    verdict = decide(view(Observation(over=True, leftover=True), done, **COMPARING))
    assert verdict.action == CleanUp()
    assert decide(view(left, **COMPARING)).action == BeginComparing()  # the work drops it first
    assert (Begin.leaves, BeginComparing.leaves) == (False, True)


def test_dropping_the_copy_after_the_end_does_not_undo_the_end() -> None:
    done = over(decide(view(Observation(work=FINISHED))), completionTime=NOW.isoformat())
    verdict = decide(view(Observation(over=True, leftover=True), done, **COMPARING))
    assert told(verdict) == (Reason.Succeeded, "complete")


def test_the_figures_are_of_this_run_and_stay_after_its_end() -> None:
    shown = figures(view(Observation(work=WORK)))
    assert shown.progress is not None
    assert (shown.progress.percent, shown.start_time, shown.completion_time) == (10, NOW, None)
    assert shown.gain == "ef_search 40 -> 80: recall 91 -> 97 %, p95 4 -> 6 ms, 500 -> 900 blocks a search."
    ended = figures(view(Observation(work=FINISHED), now=NOW + timedelta(seconds=9)))
    assert ended.completion_time == NOW + timedelta(seconds=9)
    assert figures(view(Observation(over=True), ended)) == ended
    fresh = figures(view(NOTHING, ended, runToken="again"))
    assert (fresh.curve, fresh.chosen, fresh.start_time, fresh.run_token) == ([], None, None, "again")


# -- which values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(10))
def test_halving_finds_the_first_value_that_meets_with_few_answers(first: int) -> None:
    values = grid(10, 200)
    search, asked = Bisection(values), 0
    while (value := search.next) is not None:
        search.answer(first < len(values) and value >= values[first])
        asked += 1
    assert search.found == (values[first] if first < len(values) else None)
    assert asked <= 4


def test_the_values_stay_within_the_range() -> None:
    assert grid(40, 200) == (40, 56, 80, 113, 160, 200)
    assert grid(50, 50) == (50,)
    assert sweep(40, 200, 20) == tuple(range(40, 201, 20))
    assert sweep(7, 7, 1) == (7,)
    assert 50 <= len(sweep(1, 1000, 1)) <= 60
    assert all(1 <= value <= 1000 for value in sweep(1, 1000, 1))


@pytest.mark.parametrize("total", [32, 64, 100, 256, 2048])
def test_a_growing_sample_takes_every_query_once(total: int) -> None:
    assert [number for part in growing(total) for number in part] == list(range(total))


# -- the service's answer
# ------------------------------------------------------------------------------------------------


def test_what_is_no_result_is_left_out() -> None:
    good = {"efSearch": 50, "recall": 0.9, "p95Milliseconds": 3}
    bad: list[Any] = [{**good, "efSearch": 0}, {**good, "recall": 97}, {**good, "recall": float("nan")}, None, "60"]
    bad += [{**good, "efSearch": True}, {"efSearch": 50, "recall": 0.9}]
    results = [{**good, "efSearch": 60, "recall": 0.97}, {**good, "efSearch": 40, "recall": 0.949}, *bad]
    assert [(p.ef_search, p.recall_percent) for p in points_of({"results": results})] == [(40, 94), (60, 97)]
    assert points_of({"results": {"a": 1}}) == points_of([]) == points_of(None) == ()
    many = [{"efSearch": n, "recall": 0.5, "p95Milliseconds": 1} for n in range(1, 500)]
    assert len(points_of({"results": many})) == 64
