"""What a backfill does next, by the world it sees. Pure: each case is a sentence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from vectorops.clients.texttemplate import parse_template
from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.courtesy import Courtesy, Demand
from vectorops.kinds.embeddingbackfill.figures import figures, usd
from vectorops.kinds.embeddingbackfill.observation import Counts, End, Observation, Spend, Terms, Trouble, WorkSeen
from vectorops.kinds.embeddingbackfill.plan import CHECKS, Adjust, Begin, Stop, decide, terms_of
from vectorops.kinds.embeddingbackfill.resource import Reason, Spec, Status
from vectorops.kinds.embeddingbackfill.target import Declared, Facts, Flaw, KeyColumn, Target, target_of
from vectorops.runtime import conditions
from vectorops.runtime.kind import Family, Subject, Verdict, View
from vectorops.runtime.rounding import duration, rate_text

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = KeyColumn("id", "bigint", builtin=True, not_null=True)
DECLARED = Declared("shop", "model", 384, Decimal("0.02"), "public", "products", "embedding", "{title}", "", "products")
FACTS = Facts("r", 1, ("id", "title", "embedding"), (), (KEY,), True, "vector", 384, "public", role="op")
TARGET = Target(DECLARED, 1, (KEY,), "public", parse_template("{title}"))
COUNTS = Counts(rows=100, embedded=40, blank=0, failed=0, pending=60, pending_bytes=6000)
WORK = WorkSeen(True, TARGET, Terms(), "account", COUNTS)
SOUND = Observation(declared=DECLARED, target=TARGET, fingerprint="account", counts=COUNTS)


def view(observed: Observation = SOUND, status: Status | None = None, **spec: Any) -> View[Spec, Observation, Status]:
    subject = Subject("EmbeddingBackfill", "shop", "products", "uid", 1, NOW)
    read = Spec.model_validate({"storeRef": {"name": "shop"}, "tableName": "products", **spec})
    return View(subject, read, observed, status or Status(), NOW)


def ended(verdict: Verdict, **status: Any) -> Status:
    stated = conditions.merge([], conditions.from_verdict(verdict, Family.RUN_TO_COMPLETION), 1, NOW)
    return Status.model_validate({"conditions": stated, **status})


def test_rows_without_an_embedding_are_embedded() -> None:
    verdict = decide(view())
    assert (verdict.reason, verdict.action, verdict.reconciling) == (Reason.Embedding, Begin(Terms()), True)


def test_a_second_pass_on_running_work_plans_nothing() -> None:
    verdict = decide(view(replace(SOUND, work=WORK)))
    assert (verdict.reason, verdict.action) == (Reason.Embedding, None)


def test_nothing_left_is_success_and_ready_only_then() -> None:
    verdict = decide(view(replace(SOUND, counts=replace(COUNTS, pending=0))))
    assert (verdict.reason, verdict.ready, verdict.complete, verdict.action) == (Reason.Succeeded, "True", True, None)


def test_recorded_failures_are_told_and_do_not_hold_up_the_end() -> None:
    verdict = decide(view(replace(SOUND, counts=replace(COUNTS, pending=0, failed=2))))
    assert (verdict.reason, verdict.complete) == (Reason.CompletedWithFailures, True)


def test_more_failures_than_allowed_fail_the_request() -> None:
    seen = replace(SOUND, counts=replace(COUNTS, failed=3))
    assert decide(view(seen, maxFailedRows=2)).reason is Reason.TooManyFailedRows
    assert decide(view(seen, maxFailedRows=3)).reason is Reason.Embedding


def test_a_limit_counts_rows_of_earlier_processes_too() -> None:
    seen = replace(SOUND, spend=Spend(rows_done=10))
    assert decide(view(seen, limit=10)).reason is Reason.LimitReached
    assert decide(view(seen, limit=11)).reason is Reason.Embedding


@pytest.mark.parametrize("reason", [Reason.Succeeded, Reason.CompletedWithFailures, Reason.LimitReached])
def test_a_completed_run_stays_completed_whatever_the_world_is_now(reason: Reason) -> None:
    status = ended(Verdict(reason, "done", "True", complete=True), runToken="a")
    verdict = decide(view(Observation(over=True), status, runToken="a", suspend=True))
    assert (verdict.reason, verdict.complete, verdict.ready, verdict.action) == (reason, True, "True", None)


def test_a_failed_run_stays_failed() -> None:
    status = ended(Verdict(Reason.TooManyFailedRows, "no", failed=True))
    verdict = decide(view(Observation(over=True), status))
    assert (verdict.reason, verdict.failed, verdict.ready) == (Reason.TooManyFailedRows, True, "False")


def test_a_new_run_token_runs_an_ended_request_again() -> None:
    status = ended(Verdict(Reason.Succeeded, "done", "True", complete=True), runToken="a")
    assert isinstance(decide(view(SOUND, status, runToken="b")).action, Begin)


def test_suspend_ends_running_work_once() -> None:
    verdict = decide(view(replace(SOUND, work=WORK), suspend=True))
    assert (verdict.reason, verdict.suspended, verdict.action) == (Reason.Suspended, True, Stop())
    assert decide(view(replace(SOUND, work=replace(WORK, stopping=True)), suspend=True)).action is None
    assert decide(view(suspend=True)).action is None


def test_a_suspended_store_suspends_its_dependants() -> None:
    seen = Observation(store=Trouble(Shared.StoreSuspended, "suspended"), work=WORK)
    verdict = decide(view(seen))
    assert (verdict.reason, verdict.suspended, verdict.stalled, verdict.action) == (
        "StoreSuspended",
        True,
        False,
        Stop(),
    )


def test_a_vanished_store_stalls() -> None:
    verdict = decide(view(Observation(store=Trouble(Shared.StoreNotFound, "none", stalled=True))))
    assert (verdict.reason, verdict.stalled) == ("StoreNotFound", True)


def test_a_flaw_of_the_table_stalls_and_ends_the_work() -> None:
    flaw = Flaw(Reason.TemplateInvalid, "names colour")
    verdict = decide(view(replace(SOUND, target=flaw, work=WORK)))
    assert (verdict.reason, verdict.stalled, verdict.action) == (Reason.TemplateInvalid, True, Stop())


def test_work_begun_with_another_template_or_key_is_ended() -> None:
    other = replace(TARGET, template=parse_template("{title}!"))
    assert decide(view(replace(SOUND, work=replace(WORK, target=other)))).action == Stop()
    assert decide(view(replace(SOUND, work=replace(WORK, fingerprint="old key")))).action == Stop()


def test_a_changed_budget_or_limit_reaches_the_running_work() -> None:
    verdict = decide(view(replace(SOUND, work=WORK), budget={"maxTokens": 5}, rateLimits={"requestsPerMinute": 6}))
    assert verdict.action == Adjust(Terms(5, 6, None))


def test_what_the_work_waits_for_is_shown() -> None:
    seen = replace(SOUND, work=replace(WORK, waiting=Trouble("RateLimited", "429")))
    assert (decide(view(seen)).reason, decide(view(seen)).stalled) == ("RateLimited", False)


@pytest.mark.parametrize(("reason", "minutes"), [("QuotaExhausted", 5), ("DiskFull", 1)])
def test_after_trouble_it_waits_for_a_person_and_then_tries_again(reason: str, minutes: int) -> None:
    work = replace(WORK, running=False, error=Trouble(reason, "no", stalled=True))
    just = replace(SOUND, work=replace(work, ended_at=NOW - timedelta(minutes=minutes, seconds=-1)))
    verdict = decide(view(just))
    assert (verdict.reason, verdict.stalled, verdict.action) == (reason, True, None)
    long = replace(SOUND, work=replace(work, ended_at=NOW - timedelta(minutes=minutes)))
    assert isinstance(decide(view(long)).action, Begin)


def test_a_new_key_is_tried_without_waiting() -> None:
    error = Trouble("ProviderAuthenticationFailed", "401", stalled=True)
    work = replace(WORK, running=False, fingerprint="old key", error=error, ended_at=NOW)
    assert isinstance(decide(view(replace(SOUND, work=work))).action, Begin)


def test_a_new_run_token_is_tried_without_waiting() -> None:
    error = Trouble("InvalidAnswer", "no JSON", stalled=True)
    work = replace(WORK, running=False, error=error, ended_at=NOW)
    assert decide(view(replace(SOUND, work=work))).action is None
    assert isinstance(decide(view(replace(SOUND, work=work), runToken="again")).action, Begin)
    assert decide(view(replace(SOUND, work=replace(work, token="again")), runToken="again")).action is None


def test_an_index_build_goes_first_and_is_not_disturbed_by_counting() -> None:
    verdict = decide(view(replace(SOUND, build="building index", counts=None)))
    assert (verdict.reason, verdict.action) == (Reason.WaitingForIndexBuild, None)


def test_a_spent_budget_suspends_and_a_higher_one_goes_on() -> None:
    spent = replace(SOUND, spend=Spend(billed=90, reserved=10))
    verdict = decide(view(spent, budget={"maxTokens": 100}))
    assert (verdict.reason, verdict.suspended, verdict.failed, verdict.action) == (
        Reason.BudgetExhausted,
        True,
        False,
        None,
    )
    assert isinstance(decide(view(spent, budget={"maxTokens": 101})).action, Begin)


def test_work_that_found_nothing_to_fit_the_budget_is_not_begun_again_until_it_changes() -> None:
    work = replace(WORK, running=False, terms=Terms(budget=100), end=End.BUDGET, ended_at=NOW)
    seen = replace(SOUND, work=work, spend=Spend(billed=95))
    assert decide(view(seen, budget={"maxTokens": 100})).reason is Reason.BudgetExhausted
    assert isinstance(decide(view(seen, budget={"maxTokens": 200})).action, Begin)
    assert isinstance(decide(view(seen)).action, Begin)


def test_the_lower_of_two_budgets_holds_and_dollars_need_a_price() -> None:
    spec = view(budget={"maxCostUSD": "0.5", "maxTokens": 30_000_000}).spec
    assert terms_of(spec, Decimal("0.02")).budget == 25_000_000
    seen = replace(SOUND, declared=replace(DECLARED, price=None))
    assert decide(view(seen, budget={"maxCostUSD": "0.5"})).reason is Reason.PriceMissing
    assert decide(view(seen, budget={"maxTokens": 1})).reason is Reason.Embedding


def test_the_last_check_always_answers() -> None:
    assert CHECKS[-1](view()) is not None


FLAWS: dict[str, tuple[Declared, Facts, Reason]] = {
    "no table": (DECLARED, Facts(None), Reason.TableNotFound),
    "a view": (DECLARED, replace(FACTS, kind="v"), Reason.TableNotFound),
    "no template": (replace(DECLARED, template=""), FACTS, Reason.NoTextTemplate),
    "an unknown column": (replace(DECLARED, template="{colour}"), FACTS, Reason.TemplateInvalid),
    "an open brace": (replace(DECLARED, template="{title"), FACTS, Reason.TemplateInvalid),
    "the embedding as text": (replace(DECLARED, template="{embedding}"), FACTS, Reason.TemplateInvalid),
    "no embedding column": (replace(DECLARED, column="vec"), FACTS, Reason.ColumnNotFound),
    "an unknown key": (DECLARED, replace(FACTS, missing_keys=("nr",)), Reason.ColumnNotFound),
    "a text column": (DECLARED, replace(FACTS, type="text"), Reason.NotAVectorColumn),
    "other dimensions": (DECLARED, replace(FACTS, dimensions=3), Reason.DimensionMismatch),
    "no key": (DECLARED, replace(FACTS, keys=()), Reason.NoPrimaryKey),
    "a key that is not unique": (DECLARED, replace(FACTS, unique=False), Reason.NoPrimaryKey),
    "a key that may be NULL": (DECLARED, replace(FACTS, keys=(replace(KEY, not_null=False),)), Reason.NoPrimaryKey),
    "a key of an extension's type": (
        DECLARED,
        replace(FACTS, keys=(replace(KEY, builtin=False),)),
        Reason.KeyNotSupported,
    ),
    "no right": (DECLARED, replace(FACTS, may_update=False), Reason.UpdateRightMissing),
}


@pytest.mark.parametrize("what", FLAWS)
def test_what_does_not_fit_is_named_with_its_reason(what: str) -> None:
    declared, facts, reason = FLAWS[what]
    found = target_of(declared, facts)
    assert isinstance(found, Flaw) and found.reason is reason and found.message


def test_a_column_without_stated_dimensions_takes_any() -> None:
    assert isinstance(target_of(DECLARED, replace(FACTS, dimensions=-1)), Target)


def test_figures_of_a_running_request() -> None:
    work = replace(WORK, rate=63.4, advanced_at=NOW)
    counts = replace(COUNTS, embedded=70, pending=30, pending_bytes=3000)
    seen = replace(SOUND, work=work, counts=counts, spend=Spend(100, 105_000, 30, NOW))
    status = figures(view(seen))
    assert status.rows is not None and status.progress is not None and status.cost is not None
    assert (status.rows.total, status.rows.done, status.rows.remaining) == (60, 30, 30)
    assert (status.coverage, status.rate, status.progress.percent, status.progress.eta) == ("70%", "63/s", 50, "0s")
    assert (status.cost.usd, status.cost.summary, status.cost.at_risk_tokens) == ("0.0021", "$0.0021", 100)
    assert status.completion_time is None


def test_figures_stay_when_nothing_could_be_counted_and_begin_anew_with_a_new_token() -> None:
    former = figures(view())
    kept = figures(view(replace(SOUND, counts=None, build="x"), former))
    assert kept.rows == former.rows
    assert figures(view(replace(SOUND, counts=None, build="x"), former, runToken="new")).rows is None


def test_figures_of_an_ended_request_are_left_alone() -> None:
    status = ended(Verdict(Reason.Succeeded, "done", "True", complete=True), coverage="99%")
    assert figures(view(Observation(over=True), status)) is status


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (130, "2m10s"), (3600, "1h"), (11_100, "3h5m"), (187_200, "2d4h")]
)
def test_a_duration_reads_like_an_age(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(63.4, "63"), (1234.0, "1200"), (0.0521, "0.052"), (9.96, "10")])
def test_rates_have_rate_text(value: float, text: str) -> None:
    assert rate_text(value) == text


def test_small_amounts_of_money_keep_their_digits() -> None:
    assert (usd(105_000, Decimal("0.02")), usd(10**9, Decimal("0.02")), usd(1, None)) == ("0.0021", "20.00", None)


def demand(*waiting: int, building: bool = False, free: bool = False) -> Demand:
    return Demand(building, free, frozenset(waiting))


def test_a_build_that_runs_is_always_given_the_table() -> None:
    courtesy = Courtesy()
    assert courtesy.lets_go(demand(building=True), 0.0)
    assert courtesy.lets_go(demand(building=True, free=True), 3600.0)
    assert not courtesy.lets_go(demand(), 3601.0)


def test_a_session_that_may_want_the_table_gets_a_chance_once() -> None:
    courtesy = Courtesy()
    assert courtesy.lets_go(demand(7), 0.0)
    assert courtesy.lets_go(demand(7), 60.0), "as long as the table was not free it had none"
    assert courtesy.lets_go(demand(7, free=True), 61.0)
    assert courtesy.lets_go(demand(7, free=True), 65.9)
    assert not courtesy.lets_go(demand(7, free=True), 66.0)
    assert not courtesy.lets_go(demand(7), 67.0)
    assert courtesy.lets_go(demand(7, 8), 68.0), "another one gets its own"


def test_a_pid_that_comes_again_is_another_session() -> None:
    courtesy = Courtesy()
    assert courtesy.lets_go(demand(7, free=True), 0.0)
    assert not courtesy.lets_go(demand(7, free=True), 5.0)
    assert not courtesy.lets_go(demand(), 6.0)
    assert courtesy.lets_go(demand(7), 7.0)
