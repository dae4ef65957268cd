"""What an approval of a build binds: the statements that are sent, the table, the index that is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.kinds.vectorindex.given import YES, attempt, built, claim, decided, empty, index, look, spec, subject, world
from tests.kinds.vectorindex.test_build import NAME, Db, former
from tests.kinds.vectorindex.world import Driven, Process

from vectorops.clients.approvals import Approved
from vectorops.kinds.vectorindex import KIND
from vectorops.kinds.vectorindex.actions import StartBuild, Swap
from vectorops.kinds.vectorindex.consent import consent_of, terms_hash
from vectorops.kinds.vectorindex.observation import Column, Table

WANTED: dict[str, Any] = {"hnsw": {"m": 16, "efConstruction": 64}, "approval": "Manual"}
LISTS: dict[str, Any] = {"method": "IVFFlat", "hnsw": None, "indexName": NAME, "approval": "Manual"}
ANOTHER: dict[str, Any] = {"index": index(oid=7), "intents": (claim(build_oid=7),)}
TABLE = Table(1, "r", 100_000, True, "shop", "vectorops")


def hash_of(observed: Any, **fields: Any) -> str:
    plan = KIND.figures(look(observed, spec(**{**WANTED, **fields}))).plan
    assert plan is not None
    return plan.hash


OTHERWISE: dict[str, tuple[Any, dict[str, Any]]] = {
    "database": (world(place="elsewhere"), {}),
    "table": (world(table=replace(TABLE, oid=2), index=index(table_oid=2)), {}),
    "replaced index": (world(**ANOTHER), {}),
    "no index to replace": (empty(), {}),
    "ten times the rows": (world(table=replace(TABLE, rows=1_000_000)), {}),
    "dimensions": (world(column=Column("halfvec", 1536)), {"storage": "HalfVec"}),
    "schema of the extension": (world(extension_schema="ext"), {}),
    "parameters": (world(), {"hnsw": {"m": 17, "efConstruction": 64}}),
    "how it is built": (world(), {"build": {"maintenanceMemory": "2Gi"}}),
    "run": (world(), {"runToken": "again"}),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_an_approval_is_of_one_plan_and_of_nothing_else(what: str) -> None:
    observed, fields = OTHERWISE[what]
    assert hash_of(observed, **fields) != hash_of(world())
    given = hash_of(world())
    approved = decided(world(), spec(**WANTED, approvedPlan=given))
    assert isinstance(approved.action, StartBuild)
    if what not in ("table", "dimensions"):  # those are no index of that object's to begin with
        stale = decided(observed, spec(**{**WANTED, **fields}, approvedPlan=given))
        assert stale.reason == "WaitingForApproval" and "What was approved is not this plan." in stale.message


@pytest.mark.parametrize("fields", [WANTED, LISTS, {**LISTS, "approval": "Auto"}])
def test_the_statement_that_was_shown_is_the_one_that_is_sent(fields: dict[str, Any]) -> None:
    observed = world(table=replace(TABLE, rows=123_456))
    plan = KIND.figures(look(observed, spec(**fields))).plan
    assert plan is not None
    verdict = decided(observed, spec(**fields, approvedPlan=plan.hash))
    assert isinstance(verdict.action, StartBuild) and verdict.action.statement == plan.statements[0]


def test_lists_by_the_rows_do_not_make_another_plan_with_every_thousand_rows() -> None:
    def plan(rows: int) -> str:
        return hash_of(world(table=replace(TABLE, rows=rows)), **LISTS)

    assert plan(121_000) == plan(124_000) != plan(160_000)


def kept(observed: Any = None) -> Approved:
    given = consent_of(look(observed or world(), spec(**WANTED)))
    assert given is not None
    return given


def begun(**changes: Any) -> Any:
    wanted = spec(**WANTED)
    return world(**{"intents": (*world().intents, attempt(wanted)), "approved": (kept(),), **changes})


def test_a_build_that_was_killed_begins_again_under_its_approval_and_no_other() -> None:
    wanted = spec(**WANTED)
    assert isinstance(decided(begun(), wanted).action, StartBuild)
    another = {**ANOTHER, "intents": (*ANOTHER["intents"], attempt(wanted))}
    for changed in ({"approved": ()}, {"table": replace(TABLE, rows=1_000_000)}, another):
        assert decided(begun(**changed), wanted).reason == "WaitingForApproval"
    other = replace(kept(), plan_hash="0", terms_hash="0")
    assert isinstance(decided(begun(approved=(other, kept())), wanted).action, StartBuild), "an earlier one stands too"


def test_a_finished_build_replaces_what_it_was_approved_to_replace() -> None:
    wanted = spec(**WANTED)
    done = {"indexes": built(wanted), "build_canary": YES}
    assert isinstance(decided(begun(**done), wanted).action, Swap)
    grown = begun(**done, table=replace(TABLE, rows=1_000_000))
    assert isinstance(decided(grown, wanted).action, Swap), "rows that came during the build change nothing of it"
    another = {**ANOTHER, "intents": (*ANOTHER["intents"], attempt(wanted))}
    for changed in ({"approved": ()}, another, {"place": "elsewhere"}):
        observed = begun(**{**done, **changed})
        verdict = decided(observed, wanted)
        assert (verdict.reason, verdict.action) == ("WaitingForApproval", None)
        annotated = subject(annotations={"vectorops.dev/approve": hash_of(observed)})
        assert isinstance(decided(observed, wanted, of=annotated).action, Swap)
    assert isinstance(decided(begun(**done, approved=()), spec(**{**WANTED, "approval": "Auto"})).action, Swap)


def test_what_is_kept_is_of_this_object() -> None:
    given = kept()
    assert given.terms_hash == terms_hash(look(world(), spec(**WANTED))) and given.rows == 100_000
    other = subject(uid="22222222-2222-3333-4444-555555555555")
    assert terms_hash(look(world(), spec(**WANTED), of=other)) != given.terms_hash
    assert consent_of(look(world(), spec(**{**WANTED, "approval": "Auto"}))) is None


# -- on a real server -------------------------------------------------------------------------------------------------


@pytest.fixture
def db(database_url: str) -> Db:
    return Db(database_url)


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


async def approve(driven: Driven) -> str:
    """Wait for a plan and approve it; its hash."""
    await driven.until("WaitingForApproval")
    plan = driven.status.plan
    assert plan is not None
    driven.subject = replace(driven.subject, annotations={"vectorops.dev/approve": plan.hash})
    return plan.hash


@pytest.mark.real
async def test_an_approved_build_goes_on_in_another_process_unless_the_table_has_grown(
    db: Db, database_url: str
) -> None:
    await db.make_table()
    first = Process(database_url)
    driven = Driven.create(first, approval="Manual")
    given = await approve(driven)

    async def building() -> bool:
        return bool(await db.builds())

    async with db.old_transaction():
        await driven.when(building, "a build")
        await first.vanish()
        await db.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vectorops:vidx:%'"
        )
    assert await db.value("SELECT plan_hash FROM vectorops.approval WHERE kind = 'VectorIndex'") == given
    second = Process(database_url, first.cluster)
    driven.moved_to(second).subject = replace(driven.subject, annotations={})
    await db.run("UPDATE pg_class SET reltuples = 40000 WHERE relname = 'products'")
    await driven.until("WaitingForApproval")
    assert not any((await db.indexes()).values()) and not await db.builds(), "nothing is begun"
    await db.run("ANALYZE products")
    await driven.ready()
    assert await db.indexes() == {NAME: True}, "and as it was, it goes on without being asked again"
    await second.stop()


@pytest.mark.real
async def test_an_index_that_took_the_name_during_the_build_is_not_dropped_unasked(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former(4))
    driven = Driven.create(process, approval="Manual")
    driven.edit(runToken="now")
    await driven.until("WaitingForApproval", "IndexReady")
    await approve(driven)
    async with asyncio.timeout(60):
        while not isinstance(driven.verdict.action if driven.verdict else None, Swap):
            await driven.one_pass(but="Swap")
    await db.run(f"DROP INDEX {NAME}", former(5))
    foreign = await db.oid()
    process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))
    await driven.until("WaitingForApproval")
    assert await db.oid() == foreign and await db.options() == ["m=5", "ef_construction=20"]
    await approve(driven)
    await driven.ready()
    assert await db.options() == ["m=8", "ef_construction=32"] and len(await db.indexes()) == 1


@pytest.mark.real
async def test_nothing_is_built_on_another_table_that_took_the_name(db: Db, process: Process) -> None:
    await db.make_table()
    driven = Driven.create(process, approval="Manual")
    await approve(driven)
    verdict = await driven.look()
    assert isinstance(verdict.action, StartBuild)
    await db.run("DROP TABLE products")
    await db.make_table(rows=10)
    await KIND.act(process.ctx, driven.subject, driven.spec, driven.observed, verdict.action)
    job = process.ctx.work.find(driven.subject.uid)
    assert job is not None and job.task is not None
    await driven.until("WaitingForApproval")
    assert await db.indexes() == {}
