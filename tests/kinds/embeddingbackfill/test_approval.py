"""What an approval binds: which plan it is of, how far it reaches, what asks for a new one. Pure; then whole runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from stand.provider import Provider
from vectorops.clients.approvals import Approved
from vectorops.clients.texttemplate import parse_template
from vectorops.kinds.embeddingbackfill import batching_queue
from vectorops.kinds.embeddingbackfill.actions import Adjust, Begin, Stop
from vectorops.kinds.embeddingbackfill.bound import terms_hash
from vectorops.kinds.embeddingbackfill.figures import figures
from vectorops.kinds.embeddingbackfill.observation import (
    Counts,
    End,
    Estimate,
    Observation,
    OpenBatch,
    Spend,
    Terms,
    WorkSeen,
)
from vectorops.kinds.embeddingbackfill.plan import decide
from vectorops.kinds.embeddingbackfill.planning import plan_of
from vectorops.kinds.embeddingbackfill.resource import Reason, Spec, Status
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target
from vectorops.runtime.kind import Subject, View

from .driver import ROWS, Backfill, World, missing
from .test_plan import NOW

KEY = KeyColumn("id", "bigint", builtin=True, not_null=True)
DECLARED = Declared("shop", "model", 384, Decimal("0.02"), "public", "products", "embedding", "{title}", "", "products")
TARGET = Target(DECLARED, 1, (KEY,), "public", parse_template("{title}"))
COUNTS = Counts(rows=900, embedded=0, blank=0, failed=0, pending=800, pending_bytes=40_000, to_adopt=100)
PLANNED = Observation(
    declared=DECLARED,
    target=TARGET,
    fingerprint="account",
    database="db",
    place="place",
    seal="seal",
    counts=COUNTS,
    estimate=Estimate(texts=800, tokens=10_000, error_percent=15, longest=100),
)


def view(seen: Observation = PLANNED, uid: str = "uid", status: Status | None = None, **spec: Any) -> Any:
    subject = Subject("EmbeddingBackfill", "shop", "products", uid, 1, NOW)
    stated = {"storeRef": {"name": "shop"}, "tableName": "products", "approval": "Manual", **spec}
    return View(subject, Spec.model_validate(stated), seen, status or Status(), NOW)


def shown(of: Any) -> Plan:
    plan = plan_of(of)
    assert plan is not None
    return plan


def of_table(**changed: Any) -> Observation:
    declared = replace(DECLARED, **changed)
    return replace(PLANNED, declared=declared, target=replace(TARGET, declared=declared))


OTHER_TEMPLATE = replace(PLANNED, target=replace(TARGET, template=parse_template("{title}!")))
OTHERWISE: dict[str, Any] = {
    "price": view(of_table(price=Decimal("0.13"))),
    "no price": view(of_table(price=None)),
    "model": view(of_table(model="another")),
    "dimensions": view(of_table(dimensions=512)),
    "table": view(of_table(table="orders")),
    "column": view(of_table(column="other")),
    "template": view(OTHER_TEMPLATE),
    "place of the database": view(replace(PLANNED, place="elsewhere")),
    "base URL or key": view(replace(PLANNED, seal="others")),
    "embeddings to adopt": view(replace(PLANNED, counts=replace(COUNTS, to_adopt=900))),
    "rows": view(replace(PLANNED, counts=replace(COUNTS, pending=3000))),
    "budget": view(budget={"maxTokens": 1_000_000}),
    "object created again": view(uid="uid-2"),
    "run": view(runToken="again"),
    "selection": view(select="Stale"),
    "ids": view(ids=["1"]),
    "mode": view(mode="Batch"),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_an_approval_is_of_one_plan_and_of_nothing_else(what: str) -> None:
    given, changed = shown(view()).hash, OTHERWISE[what]
    assert isinstance(decide(view(approvedPlan=given)).action, Begin)
    stale = replace(changed, spec=changed.spec.model_copy(update={"approved_plan": given}))
    verdict = decide(stale)
    assert (verdict.reason, verdict.suspended, verdict.stalled, verdict.action) == (
        Reason.WaitingForApproval, True, False, None,
    )  # fmt: skip
    assert shown(stale).hash != given and verdict.message.startswith("What was approved is not this plan.")


@pytest.mark.parametrize(
    "changed", [{"maxTokens": 20_000}, {"maxTokens": 5_000}, {"maxCostUSD": "0.0003"}, {"maxCostUSD": "5"}, None]
)
def test_another_budget_is_another_plan_whatever_it_is_written_in(changed: dict[str, Any] | None) -> None:
    given = shown(view(budget={"maxTokens": 10_000})).hash
    assert shown(view(budget={"maxCostUSD": "0.0002"})).hash == given, "as many tokens"
    assert decide(view(budget=changed, approvedPlan=given)).reason is Reason.WaitingForApproval


def test_what_only_slows_down_or_tidies_up_is_no_part_of_what_is_approved() -> None:
    given = shown(view()).hash
    harmless = view(approvedPlan=given, rateLimits={"tokensPerMinute": 5}, ttlSecondsAfterFinished=5)
    assert isinstance(decide(harmless).action, Begin)


def test_an_approval_allows_the_tokens_with_their_error_or_one_text_more_and_never_more_than_the_budget() -> None:
    assert shown(view()).most_tokens == 11_500
    exact = replace(PLANNED, estimate=Estimate(800, 10_000, 0, longest=100))
    assert shown(view(exact)).most_tokens == 10_100
    spending = replace(PLANNED, spend=Spend(billed=1000, reserved=500, started_at=NOW))
    assert shown(view(spending, budget={"maxTokens": 9000})).most_tokens == 7500


def test_the_figures_that_were_shown_with_a_hash_are_those_that_are_approved() -> None:
    """A table that grows by a fifth has the same plan still; whoever approved it has seen the former figures."""
    first = figures(view())
    grown = replace(PLANNED, counts=replace(COUNTS, pending=960), estimate=Estimate(960, 11_300, 15, 100))
    assert shown(view(grown)).tokens == 11_300 and first.plan is not None
    approved = view(grown, status=first, approvedPlan=first.plan.hash)
    action = decide(approved).action
    assert isinstance(action, Begin) and action.consent is not None
    assert (action.consent.tokens, action.consent.most_tokens, action.consent.rows) == (10_000, 11_500, 800)


def test_a_status_that_others_have_written_does_not_raise_what_is_approved() -> None:
    first = figures(view())
    assert first.plan is not None
    forged = first.model_copy(update={"plan": first.plan.model_copy(update={"most_tokens": 10**12})})
    action = decide(view(status=forged, approvedPlan=first.plan.hash)).action
    assert isinstance(action, Begin) and action.consent is not None and action.consent.most_tokens == 11_500


# -- under way -------------------------------------------------------------------------------------------------------


def kept(of: Any = None, ceiling: int = 11_500) -> Approved:
    """What was kept when work began under that view."""
    of = of or view()
    return Approved(shown(of).hash, of.subject.uid, terms_hash(of), 800, 10_000, 15, "0.0002", 11_500, ceiling, NOW)


def under_way(of: Any = None, ceiling: int = 11_500, **changed: Any) -> Observation:
    spend = Spend(billed=4000, reserved=500, rows_done=300, started_at=NOW)
    return replace(PLANNED, **{"approved": kept(of, ceiling), "spend": spend, **changed})


def working(**changed: Any) -> WorkSeen:
    return replace(WorkSeen(True, TARGET, Terms(budget=11_500), "account", COUNTS, database="db"), **changed)


def test_work_goes_on_in_another_process_up_to_what_was_approved_and_keeps_nothing_anew() -> None:
    action = decide(view(under_way())).action
    assert action == Begin(Terms(budget=11_500))
    assert decide(view(under_way(work=working()))).action is None, "and while it runs nothing is asked"


def test_who_died_between_keeping_the_approval_and_opening_the_account_goes_on_under_it() -> None:
    seen = view(under_way(spend=Spend()))
    assert decide(seen).action == Begin(Terms(budget=11_500)) and plan_of(seen) is None


@pytest.mark.parametrize("what", sorted(OTHERWISE.keys() - {"budget", "rows", "embeddings to adopt"}))
def test_work_stops_when_what_it_was_approved_for_is_something_else(what: str) -> None:
    changed = OTHERWISE[what]
    seen = {"declared": changed.observed.declared, "target": changed.observed.target}
    seen |= {"place": changed.observed.place, "seal": changed.observed.seal}
    verdict = decide(replace(changed, observed=under_way(work=working(), **seen)))
    assert (verdict.reason, verdict.suspended, verdict.action) == (Reason.WaitingForApproval, True, Stop())
    ended = replace(changed, observed=under_way(**seen))
    verdict = decide(ended)
    assert (verdict.reason, verdict.action) == (Reason.WaitingForApproval, None)
    assert f"vectorops.dev/approve={shown(ended).hash}" in verdict.message


@pytest.mark.parametrize("work", [working(), None])
def test_a_request_that_began_without_an_approval_waits_once_it_is_manual(work: WorkSeen | None) -> None:
    verdict = decide(view(under_way(approved=None, work=work)))
    assert verdict.reason is Reason.WaitingForApproval
    assert isinstance(verdict.action, Stop) is (work is not None)


def test_a_budget_that_is_raised_reaches_no_further_than_the_approval_and_a_lower_one_holds() -> None:
    raised = decide(view(under_way(work=working()), budget={"maxTokens": 10**9}))
    assert (raised.reason, raised.action) == (Reason.Embedding, None)
    lowered = decide(view(under_way(work=working()), budget={"maxTokens": 6000}))
    assert lowered.action == Adjust(Terms(budget=6000))
    used = under_way(spend=Spend(billed=6000, started_at=NOW), counts=replace(COUNTS, to_adopt=0))
    assert decide(view(used, budget={"maxTokens": 6000})).reason is Reason.BudgetExhausted
    assert decide(view(used, budget={"maxTokens": 10**9})).action == Begin(Terms(budget=11_500))


USED_UP = [
    under_way(spend=Spend(billed=11_000, reserved=500, started_at=NOW), counts=replace(COUNTS, to_adopt=0)),
    under_way(work=working(running=False, end=End.BUDGET)),
]


@pytest.mark.parametrize("seen", USED_UP, ids=["all of it is billed or at risk", "the next call might not fit"])
def test_what_was_approved_is_used_up_and_a_new_plan_waits(seen: Observation) -> None:
    former = shown(view()).hash
    waiting = view(seen, approvedPlan=former, budget={"maxTokens": 10**9})
    verdict, plan = decide(waiting), shown(waiting)
    assert (verdict.reason, verdict.suspended, verdict.stalled, verdict.action) == (
        Reason.WaitingForApproval, True, False, None,
    )  # fmt: skip
    assert "of 11500 that were approved; 800 rows are left" in verdict.message
    assert plan.hash != former and f"vectorops.dev/approve={plan.hash}" in verdict.message
    assert figures(waiting).plan == plan, "the new one is shown"
    action = decide(view(seen, approvedPlan=plan.hash, budget={"maxTokens": 10**9})).action
    assert isinstance(action, Begin) and action.consent is not None
    assert (action.consent.plan_hash, action.terms.budget) == (plan.hash, 10**9)


def test_the_same_figures_again_are_not_approved_again() -> None:
    """Rows that came meanwhile may make the very same plan: an approval is of one of the two."""
    again = replace(USED_UP[1], counts=COUNTS, estimate=PLANNED.estimate)
    assert decide(view(again, approvedPlan=shown(view()).hash)).reason is Reason.WaitingForApproval


def test_what_is_at_the_provider_is_fetched_before_anything_is_asked() -> None:
    spend = Spend(billed=0, reserved=11_500, started_at=NOW)
    batch = OpenBatch("b", "in_progress", 5, 0, 0, NOW)
    batched = view(mode="Batch")
    seen = under_way(batched, spend=spend, batches=(batch,))
    assert decide(view(seen, mode="Batch")).action == Begin(Terms(budget=11_500)), "and nothing beyond is sent"


def test_free_work_is_done_though_all_tokens_are_used() -> None:
    spend = Spend(billed=11_500, started_at=NOW)
    assert isinstance(decide(view(under_way(spend=spend))).action, Begin), "embeddings to adopt cost nothing"


def test_who_may_set_auto_lifts_the_bound() -> None:
    assert decide(view(under_way(), approval="Auto")).action == Begin(Terms())


# -- whole runs: real Postgres, real provider -------------------------------------------------------------------------

ANY_MODEL = {"model": "some-model"}  # whose tokenizer nobody knows: the mock bills four bytes a token
GROW = """INSERT INTO products (title, description)
          SELECT 'more ' || n, repeat('useful ', 1 + n % 7) || n FROM generate_series(1, $1::int) n"""
SPENT = "SELECT sum(tokens_billed + tokens_reserved) FROM vectorops.spend"


async def approve(backfill: Backfill) -> Plan:
    """Wait for a plan and approve it."""
    await backfill.until(lambda v: str(v.reason) == "WaitingForApproval" and v.action is None and planned(backfill))
    plan = backfill.status.plan
    assert plan is not None and plan.tokens is not None and plan.most_tokens is not None
    backfill.change(approvedPlan=plan.hash)
    return plan


def planned(backfill: Backfill) -> bool:
    """Whether it waits for a plan that is not the approved one."""
    plan = backfill.status.plan
    return plan is not None and plan.hash != backfill.spec.get("approvedPlan")


@pytest.fixture(params=["Online", "Batch"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(batching_queue, "FIRST_LOOK", 0.02)
    monkeypatch.setattr(batching_queue, "LAST_LOOK", 0.05)
    return str(request.param)


@pytest.mark.real
async def test_a_table_that_grows_tenfold_is_billed_what_was_approved_and_the_rest_after_a_new_approval(
    world: World, db: Any, provider: Provider, database_url: str, mode: str
) -> None:
    world.embeddings = ANY_MODEL
    world.declare()
    backfill = world.backfill(approval="Manual", mode=mode)
    plan = await approve(backfill)
    assert plan.tokens is not None and plan.most_tokens is not None and provider.bill()["requests"] == 0
    assert plan.most_tokens <= plan.tokens * 1.5 + 100, "the stated error, or a text"
    provider.control(holdRequests="Received")
    await backfill.one_pass()
    await db.execute(GROW, 9 * ROWS)
    provider.control(holdRequests=None)
    verdict = await backfill.until(lambda v: str(v.reason) == "WaitingForApproval" and planned(backfill))
    assert verdict.suspended and not verdict.stalled
    assert 0.5 * plan.tokens < provider.bill()["tokens"] <= plan.most_tokens
    assert await db.fetchval(SPENT) <= plan.most_tokens
    async with World(database_url, provider.base_url, provider.api_key, embeddings=ANY_MODEL) as other:
        again = Backfill(other, {**backfill.spec, "budget": {"maxTokens": 10**9}})
        second = await approve(again)
        assert provider.bill()["tokens"] <= plan.most_tokens, "nor in another process, without a status, on more budget"
        assert second.tokens is not None and second.tokens > 5 * plan.tokens
        await again.until(lambda v: v.complete)
    bill = provider.bill()
    assert await missing(db) == 0 and set(bill["perText"].values()) == {1}
    stored = await db.fetch("SELECT * FROM vectorops.approval ORDER BY approved_at")
    assert [(r["plan_hash"], r["tokens"], r["most_tokens"]) for r in stored] == [
        (plan.hash, plan.tokens, plan.most_tokens), (second.hash, second.tokens, second.most_tokens),
    ]  # fmt: skip
    assert stored[1]["ceiling_tokens"] >= bill["tokens"] and again.status.approved is not None
    assert again.status.approved.ceiling_tokens == stored[1]["ceiling_tokens"]


@pytest.mark.real
async def test_an_object_created_again_asks_again_and_its_account_goes_on(
    world: World, db: Any, provider: Provider
) -> None:
    world.embeddings = ANY_MODEL
    world.declare()
    backfill = world.backfill(approval="Manual", select="All", budget={"maxTokens": 1000})
    plan = await approve(backfill)
    await backfill.until_reason("BudgetExhausted")
    billed = provider.bill()["tokens"]
    again = backfill.created_again()
    again.change(approvedPlan=plan.hash, budget={"maxTokens": 10**6})
    assert str((await again.until(lambda v: v.action is None)).reason) == "WaitingForApproval"
    assert provider.bill()["tokens"] == billed <= 1000
    await approve(again)
    await again.until(lambda v: v.complete)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


@pytest.mark.real
@pytest.mark.parametrize("changed", ["key", "url", "database"])
async def test_rows_and_money_go_nowhere_but_where_they_were_approved_to_go(
    world: World, db: Any, provider: Provider, changed: str
) -> None:
    """Another key, base URL or database behind the same VectorStore stops the work, and none of it is used."""
    backfill = world.backfill(approval="Manual", batchSize=10, concurrency=1)
    await approve(backfill)
    provider.control(holdRequests="Received")
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    secrets = world.kubernetes.secrets
    if changed == "database":
        secrets["db"]["url"] = secrets["db"]["url"].replace("127.0.0.1", "localhost")
    else:
        secrets["ai"][changed] = {"key": "sk-another", "url": provider.base_url + "/"}[changed] + "x"
    for name in ("db", "ai"):
        world.ctx.secrets.forget("shop", name)
    verdict = await backfill.one_pass()
    assert (str(verdict.reason), verdict.action) == ("WaitingForApproval", Stop())
    provider.control(holdRequests=None)
    await backfill.until_idle()
    sent = len(provider.requests())
    await backfill.until(lambda v: str(v.reason) == "WaitingForApproval" and v.action is None)
    assert planned(backfill) and len(provider.requests()) == sent
    assert await missing(db) >= ROWS - 20, "what was in flight is written, and no more"


@pytest.mark.real
async def test_tokens_at_risk_count_as_used(world: World, db: Any, provider: Provider) -> None:
    world.embeddings = ANY_MODEL
    world.declare()
    backfill = world.backfill(approval="Manual", batchSize=10, concurrency=1)
    plan = await approve(backfill)
    provider.control(holdRequests="Received")
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    backfill.change(suspend=True)
    await backfill.one_pass()
    provider.control(holdRequests=None)
    await backfill.until_idle()
    await db.execute("UPDATE vectorops.spend SET tokens_reserved = tokens_reserved + $1", plan.tokens)
    backfill.change(suspend=False)
    await backfill.until(lambda v: str(v.reason) == "WaitingForApproval" and planned(backfill))
    assert plan.most_tokens is not None and await db.fetchval(SPENT) <= plan.most_tokens
