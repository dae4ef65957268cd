"""What a backfill does next, by the world it sees. Pure: each case is a sentence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from vectorops.clients.ledger import Entry, Request, State
from vectorops.clients.texttemplate import parse_template
from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.actions import Adjust, Begin, Finish, Stop
from vectorops.kinds.embeddingbackfill.courtesy import Courtesy, Demand
from vectorops.kinds.embeddingbackfill.figures import figures
from vectorops.kinds.embeddingbackfill.look import terms_of, usd
from vectorops.kinds.embeddingbackfill.observation import (
    Counts,
    End,
    Estimate,
    Graph,
    Observation,
    OpenBatch,
    Rates,
    Spend,
    Terms,
    Trouble,
    WorkSeen,
)
from vectorops.kinds.embeddingbackfill.observe import declared_in
from vectorops.kinds.embeddingbackfill.plan import CHECKS, decide
from vectorops.kinds.embeddingbackfill.planning import advice, plan_of, three_digits
from vectorops.kinds.embeddingbackfill.resource import Reason, Spec, Status
from vectorops.kinds.embeddingbackfill.target import Declared, Facts, Flaw, KeyColumn, Target, target_of
from vectorops.runtime import conditions
from vectorops.runtime.kind import Expire, Family, Subject, Verdict, View
from vectorops.runtime.rounding import duration, rate_text

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = KeyColumn("id", "bigint", builtin=True, not_null=True)
DECLARED = Declared("shop", "model", 384, Decimal("0.02"), "public", "products", "embedding", "{title}", "", "products")
FACTS = Facts("r", 1, ("id", "title", "embedding"), (), (KEY,), True, "vector", 384, "public", role="op")
TARGET = Target(DECLARED, 1, (KEY,), "public", parse_template("{title}"))
COUNTS = Counts(rows=100, embedded=40, blank=0, failed=0, pending=60, pending_bytes=6000)
WORK = WorkSeen(True, TARGET, Terms(), "account", COUNTS)
SOUND = Observation(declared=DECLARED, target=TARGET, fingerprint="account", counts=COUNTS)


def view(
    observed: Observation = SOUND,
    status: Status | None = None,
    annotations: dict[str, str] | None = None,
    now: datetime = NOW,
    **spec: Any,
) -> View[Spec, Observation, Status]:
    subject = Subject("EmbeddingBackfill", "shop", "products", "uid", 1, NOW, annotations=annotations or {})
    read = Spec.model_validate({"storeRef": {"name": "shop"}, "tableName": "products", **spec})
    return View(subject, read, observed, status or Status(), now)


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


@pytest.mark.parametrize(
    "now",
    [
        {"runToken": "again"},
        {"fingerprint": "another account"},
        {"target": replace(TARGET, template=parse_template("{title}!"))},
    ],
)
def test_what_did_not_fit_the_budget_of_another_run_says_nothing_of_this_one(now: dict[str, Any]) -> None:
    token = {name: now.pop(name) for name in ("runToken",) if name in now}
    work = replace(WORK, running=False, terms=Terms(budget=100), end=End.BUDGET, ended_at=NOW)
    assert isinstance(decide(view(replace(SOUND, work=work, **now), budget={"maxTokens": 100}, **token)).action, Begin)


def test_what_costs_nothing_is_done_also_without_a_budget() -> None:
    adoptable = replace(SOUND, counts=replace(COUNTS, pending=0, unknown=40, to_adopt=40), spend=Spend(billed=100))
    assert isinstance(decide(view(adoptable, select="Stale", budget={"maxTokens": 100})).action, Begin)
    assert isinstance(decide(view(adoptable, select="Stale", budget={"maxTokens": 0})).action, Begin)
    both = replace(adoptable, counts=replace(COUNTS, unknown=40, to_adopt=40))
    assert isinstance(decide(view(both, select="Stale", budget={"maxTokens": 0})).action, Begin)
    tried = replace(both, work=replace(WORK, running=False, terms=Terms(budget=0), end=End.BUDGET, ended_at=NOW))
    assert decide(view(tried, select="Stale", budget={"maxTokens": 0})).reason is Reason.BudgetExhausted


@pytest.mark.parametrize("waits", [{"suspend": True}, {"budget": {"maxTokens": 0}}, {"approval": "Manual"}])
def test_what_only_a_person_ends_is_not_counted_every_minute(waits: dict[str, Any]) -> None:
    """Whoever changes spec, annotation or store wakes it; until then a scan of the table a minute helps nobody."""
    assert decide(view(PLANNED, **waits)).look_again == 600.0


@pytest.mark.parametrize("spent", [Spend(billed=90, reserved=10), Spend(rows_done=5)])
def test_results_that_are_paid_for_are_fetched_whatever_budget_and_limit_say(spent: Spend) -> None:
    batch = OpenBatch("batch_1", "in_progress", 60, 0, 0, NOW)
    done = replace(COUNTS, embedded=100, pending=0, pending_bytes=0)
    for counts in (COUNTS, done):
        seen = replace(SOUND, spend=spent, counts=counts, batches=(batch,))
        verdict = decide(view(seen, mode="Batch", budget={"maxTokens": 100}, limit=5))
        assert verdict.reason is Reason.WaitingForBatch and isinstance(verdict.action, Begin)
    assert decide(view(replace(seen, batches=()), mode="Batch", limit=5)).complete
    assert decide(view(seen, mode="Batch", suspend=True)).reason is Reason.Suspended


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
    assert isinstance(found, Flaw) and found.reason is reason
    told = found.message.rpartition(". ")[2]
    assert told.startswith(("Correct", "Create", "Give", "Make", "Name", "Run", "Set")), "the next step comes last"


def test_a_store_without_embeddings_or_without_the_table_is_named() -> None:
    store: Any = SimpleNamespace(name="shop", spec=SimpleNamespace(embeddings=None, tables=[]))
    flaw = declared_in(store, "products")
    assert isinstance(flaw, Flaw) and flaw.reason is Reason.NoEmbeddings and "spec.embeddings" in flaw.message
    store.spec.embeddings, store.spec.tables = SimpleNamespace(), [SimpleNamespace(name="orders")]
    flaw = declared_in(store, "products")
    assert isinstance(flaw, Flaw) and flaw.reason is Reason.TableNotDeclared and "it has: orders" in flaw.message
    assert flaw.message.endswith(Reason.TableNotDeclared.next_step)
    verdict = decide(view(Observation(declared=flaw)))
    assert (verdict.stalled, verdict.action) == (True, None)


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


# -- the plan, and who approves it ------------------------------------------------------------------------------------

PLANNED = replace(
    SOUND,
    counts=Counts(rows=20_000, embedded=5_000, blank=0, failed=0, pending=15_000, pending_bytes=3_000_000),
    estimate=Estimate(texts=12_345, tokens=765_432, error_percent=2),
    rates=Rates(tokens_per_minute=100_000),
)


def test_the_plan_says_what_it_costs_before_anything_is_sent() -> None:
    plan = plan_of(view(PLANNED))
    assert plan is not None
    assert (plan.rows, plan.texts, plan.tokens, plan.tokens_error_percent) == (15_000, 12_300, 765_000, 2)
    assert (plan.cost_usd, plan.duration_seconds, plan.duration) == ("0.0153", 460, "7m40s")
    assert plan.why == '15000 rows of "public"."products" are to be embedded with model.'
    assert [statement.split()[0] for statement in plan.statements] == ["SELECT", "WITH"]
    assert decide(view(PLANNED)).action == Begin(Terms(), plan), "and it is shown after it has begun, too"


def test_the_batch_interface_costs_half_and_takes_a_day() -> None:
    plan = plan_of(view(PLANNED, mode="Batch"))
    assert plan is not None and (plan.cost_usd, plan.duration) == ("0.0077", "1d")


def test_a_budget_in_dollars_buys_twice_as_much_in_batches() -> None:
    budget = {"maxCostUSD": "0.01"}
    online, batch = (
        decide(view(PLANNED, budget=budget)).action,
        decide(view(PLANNED, budget=budget, mode="Batch")).action,
    )
    assert isinstance(online, Begin) and isinstance(batch, Begin)
    assert (online.terms.budget, batch.terms.budget) == (500_000, 1_000_000)
    plan = plan_of(view(PLANNED, budget=budget))
    assert plan is not None and plan.why.endswith("; the budget ends it after 500000 tokens ($0.0100).")


def test_a_limit_scales_the_plan() -> None:
    plan = plan_of(view(PLANNED, limit=1500))
    assert plan is not None and (plan.rows, plan.texts, plan.tokens) == (1500, 1240, 76_500)


def test_manual_approval_waits_for_the_hash_in_the_spec_or_in_the_annotation() -> None:
    verdict, plan = decide(view(PLANNED, approval="Manual")), plan_of(view(PLANNED))
    assert plan is not None
    assert (verdict.reason, verdict.suspended, verdict.action) == (Reason.WaitingForApproval, True, None)
    assert f"annotate vfill products vectorops.dev/approve={plan.hash}" in verdict.message
    for approved in (
        view(PLANNED, approval="Manual", approvedPlan=plan.hash),
        view(PLANNED, None, {"vectorops.dev/approve": plan.hash}, approval="Manual"),
    ):
        assert isinstance(decide(approved).action, Begin)
        assert plan_of(approved) == plan, "fields of the approval are no part of what is approved"
    other = decide(view(PLANNED, approval="Manual", approvedPlan="0123456789ab"))
    assert other.reason is Reason.WaitingForApproval and other.message.startswith("What was approved is not this plan.")


@pytest.mark.parametrize(("rows", "tokens", "stale"), [(1.2, 1.2, False), (2, 1, True), (1, 2, True), (0.5, 0.5, True)])
def test_figures_that_doubled_or_halved_make_an_approval_stale(rows: float, tokens: float, stale: bool) -> None:
    plan = plan_of(view(PLANNED))
    assert plan is not None and PLANNED.counts is not None and PLANNED.estimate is not None
    moved = replace(
        PLANNED,
        counts=replace(PLANNED.counts, pending=round(PLANNED.counts.pending * rows)),
        estimate=replace(PLANNED.estimate, tokens=round(PLANNED.estimate.tokens * tokens)),
    )
    verdict = decide(view(moved, approval="Manual", approvedPlan=plan.hash))
    assert (verdict.reason is Reason.WaitingForApproval) is stale
    assert isinstance(verdict.action, Begin) is not stale


def test_the_deadline_does_not_run_while_nobody_has_approved() -> None:
    later = view(PLANNED, now=NOW + timedelta(days=30), approval="Manual", activeDeadlineSeconds=1)
    assert decide(later).reason is Reason.WaitingForApproval


def test_a_new_run_token_is_another_plan() -> None:
    first, second = plan_of(view(PLANNED)), plan_of(view(PLANNED, runToken="again"))
    assert first is not None and second is not None and first.hash != second.hash


def test_an_index_that_is_better_built_afterwards_is_named_with_the_figures() -> None:
    graph = Graph("products_idx", 800_000_000)
    told = advice(graph, 15_000, 20_000)
    assert told is not None and "products_idx (763 MB)" in told and "15000 rows to write" in told and "20000" in told
    assert advice(graph, 4_000, 20_000) is None, "less than a fifth of the rows: it is cheaper to leave it"
    assert advice(graph, 900, 900) is None and advice(None, 15_000, 20_000) is None
    assert "yours may differ" in told, "no seconds are promised: they depend on m, dimensions, memory and cores"
    plan = plan_of(view(replace(PLANNED, graph=graph)))
    assert plan is not None and plan.advice == told


def test_an_index_of_many_other_rows_is_not_to_be_dropped_for_a_few() -> None:
    """ids and where count only what they select; the index is built of all rows."""
    large = replace(PLANNED, graph=Graph("products_idx", 80_000_000_000, rows=10_000_000))
    plan = plan_of(view(large, where=[{"column": "title", "operator": "IsNotNull"}]))
    assert plan is not None and plan.advice is None
    unknown = replace(PLANNED, graph=Graph("products_idx", 800_000_000))
    plan = plan_of(view(unknown, ids=["1"]))
    assert plan is not None and plan.advice is None, "nobody knows how many rows it holds"


def test_the_plan_of_another_run_is_not_shown_as_this_one_s() -> None:
    begun = replace(SOUND, work=replace(WORK, plan=plan_of(view(PLANNED))), spend=Spend(started_at=NOW))
    assert figures(view(begun)).plan is not None
    assert figures(view(begun, runToken="again")).plan is None


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (999, 999), (1234, 1230), (1235, 1240), (765_432, 765_000)])
def test_figures_of_a_plan_have_three_digits(number: int, shown: int) -> None:
    assert three_digits(number) == shown


# -- windows ----------------------------------------------------------------------------------------------------------

NIGHT = {"schedule": "0 22 * * *", "durationSeconds": 8 * 3600, "timeZone": "Europe/Berlin"}  # NOW is 04:04 there


def test_it_works_while_its_window_is_open_and_looks_again_when_it_closes() -> None:
    running = replace(SOUND, work=WORK)
    assert isinstance(decide(view(window=NIGHT)).action, Begin)
    assert decide(view(running, window=NIGHT)).look_again == 5.0
    late = NOW.replace(hour=4, minute=59, second=58)
    assert decide(view(running, now=late, window=NIGHT)).look_again == 2.0


def test_when_the_window_closes_the_work_ends_after_the_write_in_hand_and_the_next_opening_is_told() -> None:
    closed = NOW.replace(hour=5, minute=0, second=0)
    verdict = decide(view(replace(SOUND, work=WORK), now=closed, window=NIGHT))
    assert (verdict.reason, verdict.suspended, verdict.action) == (Reason.WindowClosed, True, Stop())
    assert "opens at 2026-01-02T21:00:00Z" in verdict.message
    assert decide(view(now=closed, window=NIGHT)).action is None
    soon = NOW.replace(hour=20, minute=59, second=0)
    assert decide(view(now=soon, window=NIGHT)).look_again == 60.0


def test_what_came_to_its_end_as_the_window_closed_is_complete() -> None:
    closed = NOW.replace(hour=5, minute=0, second=0)
    assert decide(view(replace(SOUND, counts=replace(COUNTS, pending=0)), now=closed, window=NIGHT)).complete


@pytest.mark.parametrize("wrong", [{"schedule": "99 22 * * *"}, {"timeZone": "Europe/Atlantis"}])
def test_a_window_that_cannot_be_read_stalls(wrong: dict[str, str]) -> None:
    verdict = decide(view(replace(SOUND, work=WORK), window={**NIGHT, **wrong}))
    assert (verdict.reason, verdict.stalled, verdict.action) == (Reason.WindowInvalid, True, Stop())


# -- deadlines, attempts, time to live --------------------------------------------------------------------------------


def test_the_deadline_counts_what_it_has_worked_in_any_process() -> None:
    worked = replace(SOUND, spend=Spend(started_at=NOW, active_seconds=50.0), work=replace(WORK, unsaved_seconds=9.0))
    assert decide(view(worked, activeDeadlineSeconds=60)).look_again == 1.0
    over = replace(worked, work=replace(WORK, unsaved_seconds=10.0))
    verdict = decide(view(over, activeDeadlineSeconds=60))
    assert (verdict.reason, verdict.failed, verdict.action) == (Reason.DeadlineExceeded, False, Stop()), "writes first"
    ended_work = replace(over, work=replace(WORK, running=False), spend=Spend(started_at=NOW, active_seconds=60.0))
    assert decide(view(ended_work, activeDeadlineSeconds=60)).failed
    done = replace(ended_work, counts=replace(COUNTS, pending=0))
    assert decide(view(done, activeDeadlineSeconds=60)).complete, "it came to its end in time"


def test_suspended_time_is_no_working_time() -> None:
    long_ago = replace(SOUND, spend=Spend(started_at=NOW - timedelta(days=30), active_seconds=59.0))
    assert isinstance(decide(view(long_ago, activeDeadlineSeconds=60)).action, Begin)


def test_attempts_beyond_the_limit_fail_the_request_and_the_last_error_is_told() -> None:
    work = replace(WORK, running=False, error=Trouble("DatabaseError", "writing failed."), ended_at=NOW)
    six = replace(SOUND, work=work, spend=Spend(started_at=NOW, attempts=6))
    assert decide(view(six)).reason == "DatabaseError"
    verdict = decide(view(replace(six, spend=Spend(started_at=NOW, attempts=7))))
    assert (verdict.reason, verdict.failed) == (Reason.BackoffLimitExceeded, True)
    assert "writing failed." in verdict.message
    assert decide(view(replace(six, spend=Spend(started_at=NOW, attempts=1)), backoffLimit=0)).failed


def test_an_ended_request_is_deleted_when_its_time_is_over() -> None:
    status = ended(Verdict(Reason.Succeeded, "done", "True", complete=True), completionTime=NOW - timedelta(seconds=50))
    verdict = decide(view(Observation(over=True), status, ttlSecondsAfterFinished=60))
    assert (verdict.action, verdict.look_again) == (None, 10.0)
    assert decide(view(Observation(over=True), status, ttlSecondsAfterFinished=50)).action == Expire()
    assert decide(view(Observation(over=True), status)).action is None


# -- what must not run twice ------------------------------------------------------------------------------------------

REQUEST = Request("EmbeddingBackfill", "shop", "products", "", b"key")
BEFORE = NOW - timedelta(hours=1)


def guarded(state: State, uid: str = "former", ended_at: datetime | None = BEFORE, reason: str = "Succeeded") -> Any:
    entry = Entry(uid, state, "" if state is State.RUNNING else reason, BEFORE, ended_at)
    return replace(SOUND, request=REQUEST, entry=entry)


def test_a_request_that_ended_before_is_not_run_again_by_a_new_object() -> None:
    verdict = decide(view(guarded(State.COMPLETE), select="All"))
    assert (verdict.reason, verdict.complete, verdict.ready, verdict.action) == (
        Reason.AlreadyExecuted,
        True,
        "True",
        None,
    )


def test_what_runs_goes_on_and_what_failed_runs_in_a_new_object() -> None:
    assert isinstance(decide(view(guarded(State.RUNNING, ended_at=None), select="All")).action, Begin)
    assert isinstance(decide(view(guarded(State.FAILED, reason="TooManyFailedRows"), select="All")).action, Begin)


def test_the_ledger_ends_before_the_status_does() -> None:
    done = replace(guarded(State.RUNNING, "uid", None), counts=replace(COUNTS, pending=0))
    verdict = decide(view(done, select="All"))
    assert (verdict.complete, verdict.action) == (True, Finish(State.COMPLETE, "Succeeded"))
    failed = replace(guarded(State.RUNNING, "uid", None), counts=replace(COUNTS, failed=3))
    verdict = decide(view(failed, select="All", maxFailedRows=2))
    assert (verdict.failed, verdict.action) == (True, Finish(State.FAILED, "TooManyFailedRows"))


def test_an_end_that_its_own_status_has_not_seen_is_told_as_it_was() -> None:
    verdict = decide(view(guarded(State.COMPLETE, "uid"), select="All"))
    assert (verdict.reason, verdict.complete, verdict.action) == ("Succeeded", True, None)
    verdict = decide(view(guarded(State.FAILED, "uid", reason="DeadlineExceeded"), select="All"))
    assert (verdict.reason, verdict.failed) == ("DeadlineExceeded", True)
    resumed = decide(view(guarded(State.COMPLETE, ended_at=NOW + timedelta(seconds=1)), select="All"))
    assert resumed.reason == "Succeeded", "begun by an object before it, and ended while it was there"


def test_an_end_that_the_ledger_knows_is_still_told_in_full() -> None:
    work = replace(WORK, running=False, error=Trouble("DatabaseError", "writing failed."), ended_at=NOW)
    used_up = replace(guarded(State.FAILED, "uid", reason="BackoffLimitExceeded"), work=work, spend=Spend(attempts=7))
    verdict = decide(view(used_up, select="All"))
    assert verdict.failed and verdict.action is None and "The last: writing failed." in verdict.message
    absent = replace(guarded(State.COMPLETE, "uid"), counts=replace(COUNTS, pending=0, absent_ids=2))
    verdict = decide(view(absent, select="All", ids=["1", "2", "3"]))
    assert verdict.complete and verdict.action is None and "2 of spec.ids name no row" in verdict.message
    grown = decide(view(guarded(State.COMPLETE, "uid"), select="All"))
    assert (grown.reason, grown.complete) == ("Succeeded", True), "rows that came since are another request's"


def test_a_request_that_ended_before_plans_nothing() -> None:
    before = replace(PLANNED, request=REQUEST, entry=guarded(State.COMPLETE).entry)
    status = figures(view(before, select="All"))
    assert status.plan is None and status.cost is not None and status.cost.estimated_tokens == 0


def test_a_deadline_is_mended_by_what_can_be_changed() -> None:
    """activeDeadlineSeconds is immutable: to raise it takes another request."""
    assert "rateLimits" in Reason.DeadlineExceeded.next_step and "new request" in Reason.DeadlineExceeded.next_step


# -- order ------------------------------------------------------------------------------------------------------------


def test_what_a_person_mends_is_told_before_what_time_mends() -> None:
    closed = NOW.replace(hour=5, minute=0, second=0)
    waits = view(PLANNED, now=closed, approval="Manual", window=NIGHT)
    assert decide(waits).reason is Reason.WaitingForApproval, "so that it can be approved before the night"
    unpriced = replace(PLANNED, declared=replace(DECLARED, price=None))
    assert decide(view(unpriced, now=closed, budget={"maxCostUSD": "1"}, window=NIGHT)).reason is Reason.PriceMissing
    assert decide(view(PLANNED, now=closed, suspend=True, window=NIGHT)).reason is Reason.Suspended


def test_work_that_is_held_up_says_by_what_and_whether_a_person_must_act() -> None:
    held = replace(SOUND, work=replace(WORK, waiting=Trouble(Reason.WaitingForReplica, "lags")))
    assert (decide(view(held)).reason, decide(view(held)).reconciling) == (Reason.WaitingForReplica, True)
    unseen = replace(SOUND, work=replace(WORK, waiting=Trouble(Reason.WaitingForReplica, "GRANT", stalled=True)))
    assert decide(view(unseen)).stalled


def test_work_of_another_run_token_is_ended() -> None:
    assert decide(view(replace(SOUND, work=WORK), runToken="new")).action == Stop()


def test_the_history_tells_how_runs_ended_newest_first() -> None:
    done = replace(SOUND, counts=replace(COUNTS, pending=0))
    first = figures(view(done))
    assert [entry.reason for entry in first.history] == ["Succeeded"] and first.completion_time == NOW
    second = figures(view(replace(SOUND, counts=replace(COUNTS, failed=3)), first, runToken="b", maxFailedRows=1))
    assert [entry.reason for entry in second.history] == ["TooManyFailedRows", "Succeeded"]
    assert figures(view(SOUND, second, runToken="c")).history == second.history


def test_the_plan_stays_in_the_status_and_tells_what_all_of_it_will_cost() -> None:
    planned = figures(view(PLANNED))
    assert planned.plan == plan_of(view(PLANNED)) and planned.cost is not None
    assert planned.cost.estimated_tokens == 765_000
    assert PLANNED.counts is not None
    half = replace(
        PLANNED, estimate=None, work=WORK, spend=Spend(0, 380_000, 7_500, NOW),
        counts=replace(PLANNED.counts, pending=7_500),
    )  # fmt: skip
    later = figures(view(half, planned))
    assert later.plan == planned.plan and later.cost is not None
    assert later.cost.estimated_tokens == 380_000 + 382_500
