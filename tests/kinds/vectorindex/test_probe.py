"""The probe and standbys on real servers: recall is measured where it hurts nobody, no build outruns a standby."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pydantic import SecretStr
from tests.kinds.vectorindex.test_build import NAME, Db
from tests.kinds.vectorindex.world import Driven, Process

from stand.process import free_port
from vectorops.kinds.vectorindex.probe import probe_key

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

PROBE = {"enabled": True, "sampleSize": 64, "recallTargetPercent": 60, "periodSeconds": 3600}


@pytest.fixture
def db(database_url: str) -> Db:
    return Db(database_url)


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


async def probed(index: Driven, *reasons: str) -> Any:
    """Passes until RecallMet says one of these."""

    def says() -> bool:
        found = index.condition("RecallMet")
        return found is not None and str(found.reason) in reasons

    await index.when(says, str(reasons))
    return index.condition("RecallMet")


async def test_the_recall_of_a_settled_index_is_measured_once_a_period(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, probe=PROBE)
    await index.ready()
    await probed(index, "RecallReached")
    recall = index.status.recall
    assert recall is not None and recall.lower_bound_percent is not None
    assert (recall.sampled, recall.ef_search, recall.index_oid) == (64, 40, await db.oid())
    assert recall.percent >= recall.lower_bound_percent >= 60
    before = index.actions.count("StartProbe")
    for _ in range(3):
        await index.look()
    assert index.verdict is not None and index.verdict.action is None
    process.ctx.work.forget(probe_key(index.subject.uid))  # as after a restart: the status remembers
    await index.look()
    assert (index.verdict.action, index.actions.count("StartProbe"), index.status.recall) == (None, before, recall)


async def test_a_poor_index_is_told_and_built_anew_once(db: Db, process: Process) -> None:
    await db.make_table(6000)
    poor = f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops) WITH (m = 2, ef_construction = 4)"
    await db.run(poor)
    probe = PROBE | {"recallTargetPercent": 99, "k": 30}
    rule = {"recallBelowPercent": 99, "onParameterChange": False}
    index = Driven.create(process, hnsw={"m": 2, "efConstruction": 4}, probe=probe, rebuild=rule)
    before = None
    await index.when(lambda: "Claim" in index.actions, "claimed")
    before = await db.oid()
    await index.when(lambda: "Swap" in index.actions, "rebuilt because of its recall")
    await index.ready()
    assert await db.oid() != before
    told = await probed(index, "RecallBelowTarget")
    assert "which did not help" in told.message
    starts = index.actions.count("StartBuild")
    for _ in range(3):
        await index.one_pass()
    assert (index.actions.count("StartBuild"), await db.indexes()) == (starts, {NAME: True})


async def test_too_few_rows_are_told_and_not_measured_again_at_once(db: Db, process: Process) -> None:
    await db.make_table(20)
    index = Driven.create(process, probe=PROBE)
    await index.ready()
    told = await probed(index, "ProbeFailed")
    assert "Only 20 rows" in told.message
    assert (index.verdict and index.verdict.ready) == "True"
    await index.look()
    assert index.verdict is not None and index.verdict.action is None


async def test_a_build_does_not_wait_for_the_end_of_a_long_measurement(db: Db, process: Process) -> None:
    await db.make_table(6000)
    index = Driven.create(process, probe=PROBE | {"sampleSize": 2048})
    await index.ready()
    await index.when(lambda: "StartProbe" in index.actions, "probing")
    index.edit(runToken="now")
    await index.when(lambda: index.status.run_token == "now", "rebuilt")
    await index.ready()
    assert await db.indexes() == {NAME: True}


async def test_deleted_it_measures_no_more(db: Db, process: Process) -> None:
    from vectorops.kinds.vectorindex import KIND

    await db.make_table(6000)
    index = Driven.create(process, probe=PROBE | {"sampleSize": 512})
    await index.ready()
    await index.when(lambda: "StartProbe" in index.actions, "probing")
    assert KIND.stop is not None
    await KIND.stop(process.ctx, index.subject)
    job = process.ctx.work.find(probe_key(index.subject.uid))
    assert job is not None
    while job.running:
        await index.look()


# -- a real standby ----------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(postgres: Postgres) -> Iterator[str]:
    """A streaming standby of the server, as `host:port`; it applies WAL a minute late once told so."""
    program = postgres.installation.program
    if not Path(program("pg_basebackup")).exists():
        pytest.skip("this installation has no pg_basebackup")
    user, home = postgres.installation.user, Path(tempfile.mkdtemp(prefix="standby-"))
    if user is not None:
        shutil.chown(home, user)
    data, port = home / "data", free_port()
    how: dict[str, Any] = {"user": user} if user is not None else {}
    environment = os.environ | {"HOME": str(home)}
    backup = [program("pg_basebackup"), "-D", str(data), "-R", "-X", "stream", "-c", "fast", "-d", postgres.dsn()]
    subprocess.run(backup, check=True, capture_output=True, env=environment, cwd=home, **how)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    control = [program("pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log")]
    subprocess.run(
        [*control, "-o", options, "start"], check=True, capture_output=True, env=environment, cwd=home, **how
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=False, capture_output=True, env=environment, cwd=home, **how)
        shutil.rmtree(home, ignore_errors=True)


async def test_recall_is_measured_on_the_standby(db: Db, process: Process, postgres: Postgres, standby: str) -> None:
    await db.make_table()
    here = f"127.0.0.1:{postgres.port}"
    spec = {
        "database": {
            "connectionSecretRef": {"name": "db", "key": "url"},
            "replicaConnectionSecretRef": {"name": "replica", "key": "url"},
        }
    }
    process.ctx.stores.seen("shop", "shop", {"metadata": {"uid": "store", "generation": 1}, "spec": spec})

    async def value(namespace: str, name: str, key: str, purpose: str) -> SecretStr:
        return SecretStr(db.url.replace(here, standby) if name == "replica" else db.url)

    process.ctx.stores._secrets.value = value  # type: ignore[method-assign]
    index = Driven.create(process, probe=PROBE)
    await index.ready()
    on_standby = await asyncpg.connect(db.url.replace(here, standby))
    try:
        assert await on_standby.fetchval("SELECT pg_is_in_recovery()")
        await index.when(lambda: index.status.recall is not None, "measured", 90)
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1"
        async with db.connect() as primary:
            await primary.execute("SELECT pg_stat_force_next_flush()")
            assert await primary.fetchval(scans, NAME) < 64
        assert await on_standby.fetchval(scans, NAME) >= 64
    finally:
        await on_standby.close()


async def test_a_build_waits_for_a_standby_that_lags(
    db: Db, process: Process, postgres: Postgres, standby: str
) -> None:
    await db.make_table()
    port = standby.rpartition(":")[2]
    late = await asyncpg.connect(postgres.dsn().replace(f":{postgres.port}/", f":{port}/"))
    try:
        await late.execute("ALTER SYSTEM SET recovery_min_apply_delay = '10min'")
        await late.execute("SELECT pg_reload_conf()")
        lag = "SELECT extract(epoch FROM replay_lag)::float8 FROM pg_stat_replication"
        while (await db.value(lag) or 0) < 1.5:
            await db.run("UPDATE products SET id = id WHERE id = 1")
        index = Driven.create(process, build={"maxReplicaLagSeconds": 1})
        verdict = await index.until("WaitingForReplica")
        assert "lags more than 1 s" in verdict.message
        assert await db.indexes() == {}
        await late.execute("ALTER SYSTEM RESET recovery_min_apply_delay")
        await late.execute("SELECT pg_reload_conf()")
        await index.ready()
        assert await db.indexes() == {NAME: True}
    finally:
        await late.close()
