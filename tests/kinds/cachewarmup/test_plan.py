"""What a warm-up does next, by the world it sees; how it paces itself; what a sample says. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vectorops.clients.service_figures import PoolFigures
from vectorops.errors import Reason as Shared
from vectorops.kinds.cachewarmup.figures import figures
from vectorops.kinds.cachewarmup.measuring import cached, hit_rate_percent, p95_seconds
from vectorops.kinds.cachewarmup.observation import Ledger, Observation, Trouble, WorkSeen
from vectorops.kinds.cachewarmup.pace import GIVE_UP, Pace, Room, crowded, room
from vectorops.kinds.cachewarmup.plan import CHECKS, Adjust, Begin, Stop, decide, pacing_of
from vectorops.kinds.cachewarmup.resource import Measured, Reason, Spec, Status
from vectorops.kinds.cachewarmup.source import Chosen, listed, usable
from vectorops.runtime import conditions
from vectorops.runtime.kind import Expire, Family, Subject, Verdict, View

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEAST = {"storeRef": {"name": "shop"}, "queries": {"inline": ["red shoes", "blue shoes"]}}
PACING = pacing_of(Spec.model_validate(LEAST))
DONE = Ledger(
    attempts=1, started_at=NOW, list_hash="h", position=2, selected=2, warmed=2,
    before=Measured(cache_hit_rate_percent=10), after=Measured(cache_hit_rate_percent=80),
)  # fmt: skip
NOTHING = Observation()
WORK = WorkSeen(True, Ledger(attempts=1, started_at=NOW, selected=2, position=1, warmed=1), PACING, Reason.Warming)
FINISHED = replace(WORK, running=False, finished=True, ledger=DONE, ended_at=NOW)


def view(
    observed: Observation = NOTHING, status: Status | None = None, now: datetime = NOW, **spec: Any
) -> View[Spec, Observation, Status]:
    subject = Subject("CacheWarmup", "shop", "popular", "uid", 1, NOW)
    return View(subject, Spec.model_validate({**LEAST, **spec}), observed, status or Status(), now)


def seen(work: WorkSeen, **more: Any) -> Observation:
    return Observation(work=work, ledger=work.ledger, **more)


def told(verdict: Verdict) -> tuple[str, str]:
    word = (
        "complete" if verdict.complete else "failed" if verdict.failed else "suspended" if verdict.suspended else "on"
    )
    return str(verdict.reason), word


def over(verdict: Verdict, **status: Any) -> Status:
    stated = conditions.merge([], conditions.from_verdict(verdict, Family.RUN_TO_COMPLETION), 1, NOW)
    return Status.model_validate({"conditions": stated, **status})


def test_it_begins_and_a_second_pass_on_running_work_plans_nothing() -> None:
    assert decide(view()).action == Begin(Ledger(), PACING)
    verdict = decide(view(seen(WORK)))
    assert (verdict.reason, verdict.action, verdict.reconciling) == (Reason.Warming, None, True)


def test_success_is_the_target_reached_and_not_requests_sent() -> None:
    assert told(decide(view(seen(FINISHED)))) == ("Succeeded", "complete")
    assert decide(view(seen(FINISHED))).ready == "True"
    verdict = decide(view(seen(FINISHED), target={"cacheHitRatePercent": 81}, backoffLimit=0))
    assert told(verdict) == ("TargetNotReached", "failed")
    assert "10 % -> 80 %" in verdict.message
    assert told(decide(view(seen(FINISHED), target={"cacheHitRatePercent": 80}))) == ("Succeeded", "complete")


def test_a_missed_target_is_tried_again_as_often_as_backoff_limit_says_and_without_clearing_the_cache_again() -> None:
    ledger = replace(DONE, invalidated=True, removed=7)
    first = decide(view(seen(replace(FINISHED, ledger=ledger)), target={"cacheHitRatePercent": 90}, backoffLimit=1))
    assert isinstance(first.action, Begin)
    again = first.action.ledger
    assert (again.attempts, again.position, again.warmed, again.invalidated, again.before) == (
        2,
        0,
        0,
        True,
        DONE.before,
    )
    last = replace(FINISHED, ledger=replace(ledger, attempts=2))
    assert told(decide(view(seen(last), target={"cacheHitRatePercent": 90}, backoffLimit=1))) == (
        "TargetNotReached", "failed",
    )  # fmt: skip


def test_a_message_says_what_the_selection_could_bring_at_best() -> None:
    ledger = replace(DONE, covered_percent=31)
    verdict = decide(view(seen(replace(FINISHED, ledger=ledger)), target={"cacheHitRatePercent": 90}, backoffLimit=0))
    assert "cover 31 % of the log" in verdict.message


@pytest.mark.parametrize(
    ("ledger", "spec", "reason"),
    [
        (replace(DONE, selected=0, ignored=9), {}, "NoQueries"),
        (replace(DONE, warmed=0, failed=2), {}, "NothingWarmed"),
        (replace(DONE, after=Measured()), {}, "HitRateUnknown"),
    ],
)
def test_what_is_no_success_fails_and_says_what_to_do(ledger: Ledger, spec: Any, reason: str) -> None:
    verdict = decide(view(seen(replace(FINISHED, ledger=ledger)), **spec))
    assert told(verdict) == (reason, "failed")
    assert Reason(reason).next_step in verdict.message


def test_without_a_target_it_is_enough_that_they_were_sent() -> None:
    ledger = replace(DONE, after=Measured(), failed=1, warmed=1)
    verdict = decide(view(seen(replace(FINISHED, ledger=ledger)), target={"cacheHitRatePercent": 0}))
    assert told(verdict) == ("CompletedWithFailures", "complete")


@pytest.mark.parametrize(("removed", "words"), [(7, "7 entries removed"), (None, "The cache is cleared.")])
def test_clearing_alone_succeeds(removed: int | None, words: str) -> None:
    ledger = Ledger(invalidated=True, removed=removed)
    verdict = decide(view(seen(replace(FINISHED, ledger=ledger)), queries=None, invalidate="All"))
    assert told(verdict) == ("Succeeded", "complete")
    assert words in verdict.message


def test_a_run_that_has_ended_stays_ended_until_its_token_changes_and_goes_when_its_time_is_over() -> None:
    status = over(decide(view(seen(FINISHED))), completionTime=NOW)
    ended = Observation(over=True)
    assert (told(decide(view(ended, status))), decide(view(ended, status)).action) == (("Succeeded", "complete"), None)
    assert figures(view(ended, status)) is status
    again = decide(view(Observation(), status, runToken="again"))
    assert isinstance(again.action, Begin)
    waits = decide(view(ended, status, ttlSecondsAfterFinished=100))
    assert (waits.action, waits.look_again) == (None, 100)
    later = NOW + timedelta(seconds=100)
    assert decide(view(ended, status, later, ttlSecondsAfterFinished=100)).action == Expire()


def test_a_deadline_fails_what_has_not_ended_but_not_what_just_has() -> None:
    later = NOW + timedelta(seconds=60)
    verdict = decide(view(seen(WORK), now=later, activeDeadlineSeconds=60))
    assert (told(verdict), verdict.action) == (("DeadlineExceeded", "failed"), Stop())
    assert told(decide(view(seen(FINISHED), now=later, activeDeadlineSeconds=60))) == ("Succeeded", "complete")


def test_suspend_stops_the_work_once_and_a_suspended_store_does_too() -> None:
    verdict = decide(view(seen(WORK), suspend=True))
    assert (told(verdict), verdict.action) == (("Suspended", "suspended"), Stop())
    assert decide(view(seen(replace(WORK, stopping=True)), suspend=True)).action is None
    trouble = Trouble(Shared.StoreSuspended, "suspended")
    assert told(decide(view(seen(WORK, store=trouble)))) == ("StoreSuspended", "suspended")
    lacking = decide(view(Observation(store=Trouble(Shared.ServiceNotDeclared, "none", True))))
    assert (lacking.stalled, lacking.action) == (True, None)


def test_another_warmup_of_the_same_service_goes_first() -> None:
    verdict = decide(view(Observation(other="shop/first")))
    assert (verdict.reason, verdict.action) == (Reason.WaitingForWarmup, None)
    assert decide(view(seen(WORK, other="shop/first"))).reason == Reason.Warming  # ours runs already


def test_running_work_is_adjusted_and_another_token_ends_it() -> None:
    faster = decide(view(seen(WORK), requestsPerSecond=50))
    assert faster.action == Adjust(pacing_of(Spec.model_validate({**LEAST, "requestsPerSecond": 50})))
    assert decide(view(seen(WORK), runToken="other")).action == Stop()


def test_work_that_ended_in_trouble_is_told_and_taken_up_again_after_a_minute() -> None:
    trouble = Trouble(Shared.ServiceUnavailable, "down")
    broken = replace(WORK, running=False, error=trouble, ended_at=NOW)
    assert (decide(view(seen(broken))).reason, decide(view(seen(broken))).action) == (Shared.ServiceUnavailable, None)
    later = decide(view(seen(broken), now=NOW + timedelta(seconds=61)))
    assert later.action == Begin(WORK.ledger, PACING)  # from where it was
    asked = decide(view(Observation(work=broken, ledger=Ledger(token="t")), runToken="t"))
    assert asked.action == Begin(Ledger(token="t"), PACING)  # a person asks for it now
    stalled = replace(broken, error=replace(trouble, stalled=True))
    assert decide(view(seen(stalled))).stalled


def test_what_is_waited_for_is_said() -> None:
    waiting = replace(WORK, waiting=Trouble(Reason.WaitingForPool, "crowded"))
    assert (decide(view(seen(waiting))).reason, decide(view(seen(waiting))).reconciling) == (
        Reason.WaitingForPool,
        True,
    )


def test_the_last_check_always_answers_and_every_check_has_a_sentence() -> None:
    assert CHECKS[-1](view()) is not None
    assert all(check.__doc__ for check in CHECKS)


def test_the_status_keeps_what_a_killed_operator_needs() -> None:
    status = figures(view(seen(replace(FINISHED, ledger=replace(DONE, failures={"HTTP 400": 2, "ServiceTimeout": 5})))))
    assert (status.bookmark, status.hit_rate) == (status.bookmark, "10% -> 80%")
    assert status.bookmark is not None
    assert (status.bookmark.position, status.bookmark.list_hash) == (2, "h")
    assert [(one.reason, one.count) for one in status.failures] == [("ServiceTimeout", 5), ("HTTP 400", 2)]
    assert (status.completion_time, status.start_time) == (NOW, NOW)
    halfway = figures(view(seen(replace(WORK, ledger=replace(WORK.ledger, before=Measured(cache_hit_rate_percent=9))))))
    assert (halfway.hit_rate, halfway.completion_time) == ("9%", None)
    assert halfway.progress is not None
    assert (halfway.progress.done, halfway.progress.total, halfway.progress.summary) == (1, 2, "50%")


# -- pace -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concurrency", "share", "sizes", "expected"),
    [
        (2, 20, [5], Room(1)), (8, 40, [5], Room(2)), (8, 100, [5], Room(5)), (2, 100, [50], Room(2)),
        (8, 20, [20, 5, 20], Room(1)),  # the smallest pool of all
        (8, 20, [], Room(1)), (8, 20, [0], Room(1)),  # not known
        (8, 10, [5], Room(1, 1.0)),  # half a connection: one, half of the time
        (8, 1, [10], Room(1, 9.0)),
    ],
)  # fmt: skip
def test_the_share_of_the_smallest_pool_is_never_exceeded(
    concurrency: int, share: int, sizes: list[int], expected: Room
) -> None:
    found = room(concurrency, share, sizes)
    assert (found.slots, round(found.rest, 6)) == (expected.slots, expected.rest)


def test_a_pool_is_crowded_by_its_use_and_where_that_is_not_told_by_who_waits() -> None:
    assert crowded([PoolFigures(utilization_percent=10.0), PoolFigures(utilization_percent=96.0)], 95)
    assert not crowded([PoolFigures(utilization_percent=95.0, waiting=1)], 95)
    assert crowded([PoolFigures(waiting=1)], 95)
    assert not crowded([PoolFigures(), PoolFigures(waiting=0)], 95)


def test_requests_are_spread_over_the_second_and_a_late_one_is_not_made_up_for() -> None:
    pace = Pace(4)
    pace.sent(10.0)
    assert pace.wait(10.0) == 0.25
    pace.sent(20.0)
    assert pace.wait(20.0) == 0.25


def test_trouble_halves_the_rate_and_pauses_longer_each_time_and_good_answers_bring_it_back() -> None:
    pace = Pace(8)
    pauses = []
    for _ in range(8):
        pace.bad(0.0)
        pauses.append(pace.wait(0.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pace.rate == 8 / 64
    pace.bad(0.0, after=300)
    assert pace.wait(0.0) == 300
    for _ in range(20):
        pace.good()
    assert (pace.rate, pace.troubles) == (8, 0)
    pace.slow()
    assert pace.rate == 4


def test_it_gives_up_only_after_many_troubles_in_a_row() -> None:
    pace = Pace(8)
    for _ in range(GIVE_UP - 1):
        pace.bad(0.0)
    assert not pace.hopeless(reached=True)
    assert pace.hopeless(reached=False)  # nobody is there at all: that is known sooner
    pace.good()
    pace.bad(0.0)
    assert not pace.hopeless(reached=True)
    assert not pace.hopeless(reached=False)
    for _ in range(GIVE_UP):
        pace.bad(0.0)
    assert pace.hopeless(reached=True)


def test_a_changed_rate_keeps_the_caution_of_the_former() -> None:
    pace = Pace(8)
    pace.bad(0.0)
    pace.adjust(16)
    assert (pace.most, pace.rate) == (16, 8)
    pace.adjust(1)
    assert (pace.most, pace.rate) == (1, 0.5)


# -- queries and samples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  ", "\t", "a\x00b", "two\nlines", "a\x7f", "x" * 2001, "\u00e4" * 4001])
def test_what_nobody_typed_is_no_query(text: str) -> None:
    assert not usable(text)


def test_lines_are_taken_once_each_in_their_order_and_the_rest_is_counted() -> None:
    assert listed(["b", " a ", "", "b", "x" * 5000]) == Chosen(("b", "a"), 2)


def test_the_hash_knows_order_and_borders() -> None:
    hashes = {Chosen(queries).list_hash for queries in [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), ()]}
    assert len(hashes) == 5


def test_a_query_drawn_three_times_counts_three_times() -> None:
    sample = [(3, 0.1, True), (1, 0.9, False), (1, 0.5, None)]
    assert hit_rate_percent(sample) == 75
    assert p95_seconds(sample) == 0.9
    assert p95_seconds([(19, 0.1, True), (1, 0.9, True)]) == 0.1
    assert (hit_rate_percent([(1, 0.1, None)]), p95_seconds([])) == (None, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"cached": True}, True), ({"cached": False}, False), ({"cached": "l2"}, True), ({"cached": None}, False),
        ({"cached": "MISS"}, False), ({}, None), ([], None), (None, None), ({"cached": 0}, False),
    ],
)  # fmt: skip
def test_an_answer_says_whether_it_was_cached(body: Any, expected: bool | None) -> None:
    assert cached(body) is expected
