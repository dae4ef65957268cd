"""Money and time of whole runs: real Postgres, real provider. What is asserted is the bill, the table, the account."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stand.provider import Provider
from vectorops.errors import Reason as Shared
from vectorops.errors import Stalled
from vectorops.kinds.embeddingbackfill import batching_queue, watching

from .driver import ROWS, Backfill, World, missing, wrong_rows

pytestmark = pytest.mark.real

ANY_MODEL = {"model": "some-model"}  # whose tokenizer nobody knows: the mock bills four bytes a token


async def test_what_was_planned_is_what_is_billed(world: World, db: Any, provider: Provider) -> None:
    """20,000 rows, a third of them sharing texts: a sample of a thousand foretells the bill within five percent."""
    world.embeddings = ANY_MODEL
    world.declare()
    await db.execute(
        """INSERT INTO products (title, description)
           SELECT 'product ' || t, repeat('description of it ', 4 + t % 29) FROM (
               SELECT CASE WHEN n % 3 = 0 THEN n % 2000 ELSE n END AS t FROM generate_series(1, 20000) n) s"""
    )
    backfill = world.backfill(approval="Manual")
    assert str((await backfill.one_pass()).reason) == "WaitingForApproval"
    plan = backfill.status.plan
    assert plan is not None and plan.tokens is not None and plan.cost_usd is not None
    assert plan.rows == 20_200 and provider.bill()["requests"] == 0
    texts = await db.fetchval("SELECT count(DISTINCT title || description) FROM products")
    assert plan.texts is not None and abs(plan.texts / texts - 1) < 0.05
    backfill.change(approvedPlan=plan.hash)
    await backfill.until(lambda v: v.complete, timeout=120)
    bill = provider.bill()
    assert abs(plan.tokens / bill["tokens"] - 1) < 0.05, (plan.tokens, bill["tokens"])
    assert backfill.status.cost is not None and backfill.status.cost.tokens == bill["tokens"]
    assert abs(float(plan.cost_usd) / (bill["tokens"] * 0.02 / 1e6) - 1) < 0.06
    assert backfill.status.plan == plan, "it stays beside the bill"


async def test_batches_are_planned_and_billed_at_half_the_price(
    world: World, db: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching_queue, "FIRST_LOOK", 0.02)
    monkeypatch.setattr(batching_queue, "LAST_LOOK", 0.05)
    world.embeddings = {**ANY_MODEL, "priceUSDPerMillionTokens": "1000"}
    world.declare()
    online = world.backfill(suspend=True)
    await online.one_pass()
    backfill = world.backfill(mode="Batch")
    await backfill.until(lambda v: v.complete)
    plan, cost, full = backfill.status.plan, backfill.status.cost, online.status.plan
    assert plan is not None and cost is not None and full is not None
    assert plan.cost_usd is not None and full.cost_usd is not None and cost.usd is not None
    assert abs(float(plan.cost_usd) / float(full.cost_usd) - 0.5) < 0.01
    assert cost.tokens == provider.bill()["tokens"] and cost.usd == f"{cost.tokens * 500 / 1e6:.2f}"
    assert abs(float(plan.cost_usd) / float(cost.usd) - 1) < 0.05


async def test_approval_is_of_one_plan_and_figures_that_drift_make_it_stale(
    world: World, db: Any, provider: Provider
) -> None:
    backfill = world.backfill(approval="Manual")
    verdict = await backfill.one_pass()
    assert (str(verdict.reason), verdict.suspended, verdict.action) == ("WaitingForApproval", True, None)
    first = backfill.status.plan
    assert first is not None
    assert (await backfill.one_pass()).action is None and backfill.status.plan == first, (
        "the same sample, the same hash"
    )
    await db.execute("INSERT INTO products (title, description) SELECT title || '!', description FROM products")
    backfill.annotations["vectorops.dev/approve"] = first.hash
    verdict = await backfill.one_pass()
    assert str(verdict.reason) == "WaitingForApproval" and verdict.message.startswith("What was approved is not this")
    assert provider.bill()["requests"] == 0
    second = backfill.status.plan
    assert second is not None and second.hash != first.hash
    backfill.annotations["vectorops.dev/approve"] = second.hash
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0


async def test_what_was_approved_and_begun_goes_on_in_another_process_without_its_status(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    backfill = world.backfill(approval="Manual", budget={"maxTokens": 1000})
    await backfill.one_pass()
    assert backfill.status.plan is not None
    approved = backfill.status.plan.hash
    backfill.change(approvedPlan=approved)
    await backfill.until_reason("BudgetExhausted")
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        again = restarted.backfill(approval="Manual", budget={"maxTokens": 1000})
        assert str((await again.one_pass()).reason) != "WaitingForApproval"
        await again.until_reason("BudgetExhausted")
        again.change(budget={"maxTokens": 1_000_000})  # and more of it is another plan
        assert str((await again.until(lambda v: v.action is None)).reason) == "WaitingForApproval"
        assert again.status.plan is not None and again.status.plan.hash != approved
        again.change(approvedPlan=again.status.plan.hash)
        await again.until(lambda v: v.complete)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


async def test_budget_of_half_the_work_stops_before_passing_it_and_resumes_when_raised(
    world: World, db: Any, provider: Provider
) -> None:
    world.embeddings = ANY_MODEL
    world.declare()
    all_of_it = await db.fetchval(
        "SELECT sum(ceil(octet_length(title || E'\\n\\n' || description) / 4.0))::int FROM products"
    )
    half = all_of_it // 2
    backfill = world.backfill(budget={"maxTokens": half})
    verdict = await backfill.until_reason("BudgetExhausted")
    assert verdict.suspended and not verdict.failed and not verdict.stalled
    assert 0.8 * half < provider.bill()["tokens"] <= half
    assert await wrong_rows(db) == [] and 0 < await missing(db) < ROWS
    backfill.change(budget={"maxTokens": 2 * all_of_it})
    await backfill.until(lambda v: v.complete)
    bill = provider.bill()
    assert await missing(db) == 0 and bill["tokens"] == all_of_it and set(bill["perText"].values()) == {1}


# -- once -------------------------------------------------------------------------------------------------------------


async def test_a_deleted_and_reapplied_finished_request_sends_nothing(
    world: World, db: Any, provider: Provider
) -> None:
    backfill = world.backfill(select="All")
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"
    sent = len(provider.requests())
    again = backfill.created_again()
    verdict = await again.one_pass()
    assert (str(verdict.reason), verdict.complete, verdict.ready, verdict.action) == (
        "AlreadyExecuted", True, "True", None
    )  # fmt: skip
    assert len(provider.requests()) == sent
    again.change(runToken="once more")
    await again.until(lambda v: v.complete)
    assert set(provider.bill()["perText"].values()) == {2}, "a new runToken runs it again"


async def test_a_request_applied_anew_while_it_runs_goes_on_on_the_same_account(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    backfill = world.backfill(select="All", budget={"maxTokens": 1000})
    await backfill.until_reason("BudgetExhausted")
    started = backfill.status.start_time
    async with World(database_url, provider.base_url, provider.api_key) as other:
        again = Backfill(other, backfill.created_again().spec, uid="6f1d0c7e-0000-4000-8000-000000000002")
        await again.until_reason("BudgetExhausted")
        assert provider.bill()["tokens"] <= 1000, "of the same account"
        assert again.status.start_time == started
        again.change(budget={"maxTokens": 1_000_000})
        assert str((await again.until(lambda v: v.complete)).reason) == "Succeeded"
    assert set(provider.bill()["perText"].values()) == {1} and await missing(db) == 0


async def test_a_failed_request_applied_anew_runs(world: World, db: Any, provider: Provider) -> None:
    await db.execute("UPDATE products SET title = 'cursed' || id WHERE id <= 5")
    provider.control(poison=["cursed"])
    backfill = world.backfill(select="All", maxFailedRows=1)
    assert str((await backfill.until(lambda v: v.failed)).reason) == "TooManyFailedRows"
    await backfill.one_pass()
    provider.control(poison=[])
    await db.execute("DELETE FROM vectorops.failure")
    assert str((await backfill.created_again().until(lambda v: v.complete)).reason) == "Succeeded"
    assert await missing(db) == 0


async def test_who_may_not_ask_which_cluster_it_is_is_told_for_guarded_requests_only(world: World, db: Any) -> None:
    async def refused() -> str:
        raise Stalled(Shared.RBACMissing, "grant it")

    world.ctx.cluster_uid = refused
    with pytest.raises(Stalled, match="RBACMissing"):
        await world.backfill(select="All").one_pass()
    await world.backfill().until(lambda v: v.complete)


# -- time -------------------------------------------------------------------------------------------------------------


async def test_the_deadline_counts_work_in_every_process_and_no_suspended_time(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    provider.control(holdRequests="Received")
    backfill = world.backfill(activeDeadlineSeconds=3, batchSize=20, concurrency=1)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held")
    backfill.change(suspend=True)
    await backfill.one_pass()
    provider.control(holdRequests=None)
    await backfill.until_idle()
    saved = await db.fetchval("SELECT active_seconds FROM vectorops.spend")
    assert 0 < saved < 3, "saved when the work ends"
    await db.execute("UPDATE vectorops.spend SET started_at = started_at - interval '30 days', active_seconds = 2.5")
    backfill.change(suspend=False)
    provider.control(holdRequests="Received")
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        again = restarted.backfill(activeDeadlineSeconds=3, batchSize=20, concurrency=1)
        passes = asyncio.create_task(again.until(lambda v: str(v.reason) == "DeadlineExceeded"))
        await passes
        provider.control(holdRequests=None)
        verdict = await again.until(lambda v: v.failed)
        assert str(verdict.reason) == "DeadlineExceeded" and again.status.completion_time is not None
        assert [entry.reason for entry in again.status.history] == ["DeadlineExceeded"]
    assert set(provider.bill()["perText"].values()) == {1}, "what was in flight is written"


async def test_attempts_that_get_nowhere_fail_the_request_and_rows_written_forgive_them(
    world: World, db: Any, provider: Provider
) -> None:
    await world.backfill(limit=5).until(lambda v: v.complete)
    await db.execute("DELETE FROM vectorops.spend; UPDATE products SET embedding = NULL")
    await db.execute(
        """CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'P0001'; END $$;
           CREATE TRIGGER no BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION no()"""
    )
    backfill = world.backfill(backoffLimit=1, runToken="a")
    verdict = await backfill.until(lambda v: v.failed)
    assert str(verdict.reason) == "BackoffLimitExceeded" and "2 attempts" in verdict.message
    assert await db.fetchval("SELECT attempts FROM vectorops.spend WHERE run_token = 'a'") == 2
    await db.execute("DROP TRIGGER no ON products")
    backfill.change(runToken="b")
    assert str((await backfill.until(lambda v: v.complete)).reason) == "Succeeded"


async def test_when_the_window_closes_what_is_in_flight_is_written_and_the_next_one_goes_on(
    world: World, db: Any, provider: Provider
) -> None:
    world.state_limits()
    provider.control(holdRequests="Billed")
    now = datetime.now(UTC)
    midday = now.replace(hour=12, minute=0, second=0, microsecond=0)
    world.ahead = midday - now
    window = {"schedule": "0 11 * * *", "durationSeconds": 7200}
    backfill = world.backfill(window=window, batchSize=10, concurrency=2)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    world.ahead += timedelta(hours=1)
    verdict = await backfill.one_pass()
    assert (str(verdict.reason), verdict.suspended) == ("WindowClosed", True)
    assert f"{midday + timedelta(hours=23):%Y-%m-%dT11:00:00Z}" in verdict.message
    provider.control(holdRequests=None)
    await backfill.until_idle()
    await backfill.one_pass()
    assert await missing(db) == ROWS - 20 and (await backfill.one_pass()).action is None
    world.ahead += timedelta(hours=22, minutes=1)
    await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0 and set(provider.bill()["perText"].values()) == {1}


async def test_an_ended_request_is_deleted_when_its_time_has_come(world: World, db: Any) -> None:
    backfill = world.backfill(ttlSecondsAfterFinished=60)
    await backfill.until(lambda v: v.complete)
    await backfill.one_pass()
    assert world.kubernetes.deleted == []
    world.ahead = timedelta(seconds=61)
    await backfill.one_pass()
    assert world.kubernetes.deleted == [f"embeddingbackfills/products {backfill.uid}"]


# -- what must not suffer ---------------------------------------------------------------------------------------------


class Service:
    """A search service that says what it is told to."""

    def __init__(self) -> None:
        self.jobs = {"waiting": 0, "active": 0}
        self.slow = self.fast = 0  # searches so far: in 0.3 to 1 second, and faster

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/api/embeddings/jobs/status":
            return 200, json.dumps(self.jobs)
        if path != "/api/vector-monitoring/metrics":
            return 404, "{}"
        name = "vector_search_duration_seconds"
        counts = {"0.3": self.fast, "1.0": self.fast + self.slow, "+Inf": self.fast + self.slow}
        lines = [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in counts.items()]
        count = f"{name}_count {self.fast + self.slow}\n{name}_sum 1"
        return 200, f"# TYPE {name} histogram\n" + "\n".join(lines) + f"\n{count}\n"


@contextmanager
def serving(service: Service) -> Iterator[str]:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = service.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


async def test_while_the_services_own_backfill_runs_nothing_is_sent_and_then_it_goes_on(
    database_url: str, db: Any, provider: Provider
) -> None:
    provider.reset()
    service = Service()
    service.jobs = {"waiting": 1, "active": 0}
    with serving(service) as address:
        async with World(database_url, provider.base_url, provider.api_key, service=address) as world:
            backfill = world.backfill()
            verdict = await backfill.until_reason("ServiceBackfillRunning")
            assert verdict.reconciling and not verdict.stalled
            assert provider.bill()["requests"] == 0
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert await db.fetchval(locks) == 0, "the table is let go of"
            service.jobs = {"waiting": 0, "active": 0}
            await backfill.until(lambda v: v.complete)
    assert await missing(db) == 0


async def test_a_service_that_grows_slow_pauses_the_work_and_one_without_searches_does_not(
    database_url: str, db: Any, provider: Provider
) -> None:
    provider.reset()
    service = Service()
    provider.control(holdRequests="Billed")
    with serving(service) as address:
        async with World(database_url, provider.base_url, provider.api_key, service=address) as world:
            backfill = world.backfill(throttle={"maxP95Milliseconds": 500}, batchSize=10, concurrency=1)
            await backfill.one_pass()
            await asyncio.to_thread(provider.wait_for, "Held")
            service.slow += 100
            await backfill.until(lambda v: run_is_paused(world, backfill))
            provider.control(holdRequests=None)
            await backfill.until_reason("WaitingForService")
            assert await missing(db) == ROWS - 10, "the answer in flight is written"
            service.fast += 1000
            await backfill.until(lambda v: v.complete)


def run_is_paused(world: World, backfill: Backfill) -> bool:
    job = world.work.find(backfill.uid)
    return job is not None and job.notes["run"].pausing


async def test_lag_that_the_role_may_not_see_names_the_grant(
    world: World, db: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which standbys there are is played: the stand's server has none."""
    look = watching.held_up

    def with_a_standby(throttle: Any, seen: watching.Seen) -> Any:
        return look(throttle, watching.Seen([Hidden()], seen.role))

    class Hidden:
        application_name, state, lag_seconds = "standby", None, None

    monkeypatch.setattr(watching, "held_up", with_a_standby)
    backfill = world.backfill(throttle={"maxReplicaLagSeconds": 10})
    verdict = await backfill.until_reason("InsufficientPrivilege")
    assert verdict.stalled and "GRANT pg_monitor TO " in verdict.message
    assert provider.bill()["requests"] == 0
    monkeypatch.setattr(watching, "held_up", look)
    await backfill.until(lambda v: v.complete)
