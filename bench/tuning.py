"""A SearchTuning beside the runbook's sweep with an exact search for each query: database CPU, wall time, the choice.

Both look for the smallest hnsw.ef_search with a recall@10 of 0.95, on the same index. The sweep tries 40, 60, ..., 200
with each of 256 queries and finds the exact neighbours of each by a search without the index, as the runbook's endpoint
does. Database CPU is that of all server processes (utime and stime, as the kernel counts). Then 100 seeded trials: the
tuner's own code chooses by samples of up to 1,024 out of 4,000 queries whose recalls are known for every value of the
grid; the right answer is the first value whose mean over all 4,000 meets the target.

    make bench-tuning [ROWS=30000]
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from pydantic import SecretStr
from vectors import fill

from stand.postgres import Postgres
from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.hosts.reaching import POLICY
from vectorops.clients.postgres import Databases, Target
from vectorops.kinds.searchtuning.choosing import grid
from vectorops.kinds.searchtuning.resource import Spec
from vectorops.kinds.searchtuning.run import Run
from vectorops.kinds.searchtuning.tuning import Tuner, work
from vectorops.recall.searching import Measured, Searcher, draw_queries, snapshot, truth
from vectorops.recall.target import target_of
from vectorops.runtime.work import Job

ROWS = int(os.environ.get("ROWS", "30000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
DIMENSIONS, K, TARGET, QUERIES, POOL, TRIALS = 1536, 10, 95, 1024, 4000, 100
TARGETS = (95, 97, 98, 99)  # of the trials: what is right for some of them lies inside the grid
SWEPT = 256  # queries of the sweep
LEAST, MOST = 11, 400
REAPED = 3.0  # seconds: the CPU of a backend that has just ended is seen when the server has reaped it
SPEC = {
    "storeRef": {"name": "shop"}, "indexRef": {"name": "items"}, "recallTargetPercent": TARGET,
    "range": {"min": LEAST, "max": MOST}, "queries": {"heldOutRows": QUERIES},
}  # fmt: skip
INDEX = "CREATE INDEX items ON item USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
NEAREST = "SELECT ctid FROM item WHERE ctid <> $2 ORDER BY embedding <=> $1::text::vector LIMIT 10"


def database_cpu(postgres: Postgres) -> float:
    """Seconds of CPU of the server's processes, those that have ended included."""
    parent = psutil.Process(postgres.pid)
    own = parent.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in parent.children(recursive=True):
        used = child.cpu_times()
        total += used.user + used.system
    return total


class Cached:
    """Recalls that are known already, in the place of searches."""

    def __init__(self, known: dict[int, list[float]], numbers: Sequence[int]) -> None:
        self._known, self._numbers = known, numbers

    async def measure(self, setting: str, values: Sequence[int], numbers: range, into: dict[int, Measured]) -> None:
        for value in values:
            one = into.setdefault(value, Measured())
            one.recalls += [self._known[value][self._numbers[number]] for number in numbers]
            one.seconds += [0.001] * len(numbers)


async def nothing_unfilled() -> dict[tuple[str, str], str]:
    """Nobody fills the table."""
    return {}


def run_of(database: Any, catalogue: Any, index: Any, target: int = TARGET) -> Run:
    """A run of the real kind, without a cluster."""
    spec = Spec.model_validate(SPEC | {"recallTargetPercent": target})
    now = datetime.now(UTC)
    return Run("bench", spec, database, database, catalogue, index, None, "", None, None, None, now, nothing_unfilled)


async def ours(database: Any, catalogue: Any, index: Any) -> int | None:
    """The value that a SearchTuning chooses."""
    run = run_of(database, catalogue, index)
    await work(Job("bench", "tuning"), run)
    assert run.finished, run.error
    return run.found.chosen.ef_search if run.found.chosen is not None else None


async def sweep(dsn: str) -> int | None:
    """The runbook's: every value with every query, and an exact search for each query."""
    connection = await asyncpg.connect(dsn)
    try:
        drawn = await connection.fetch(f"SELECT embedding::text, ctid FROM item ORDER BY md5(id::text) LIMIT {SWEPT}")
        exact = []
        await connection.execute("SET enable_indexscan = off")
        for text, ctid in drawn:
            exact.append({row[0] for row in await connection.fetch(NEAREST, text, ctid)})
        await connection.execute("SET enable_indexscan = on; SET enable_seqscan = off")
        best: int | None = None
        for value in range(40, 201, 20):
            await connection.execute(f"SET hnsw.ef_search = {value}")
            found = [await connection.fetch(NEAREST, text, ctid) for text, ctid in drawn]
            recall = statistics.mean(len({r[0] for r in f} & e) / K for f, e in zip(found, exact, strict=True))
            if best is None and recall >= TARGET / 100:
                best = value  # and on: the sweep tries all
        return best
    finally:
        await connection.close()


async def pool(database: Any, catalogue: Any, index: Any) -> dict[int, list[float]]:
    """Recalls of 4,000 queries for every value that a trial may look at."""
    target, values = target_of(catalogue, index), grid(LEAST, MOST)
    async with database.session("bench") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, POOL, ROWS)
        searcher = Searcher(connection, target, queries, await truth(connection, target, queries, K), K)
        await searcher.open()
        into: dict[int, Measured] = {}
        await searcher.measure("hnsw.ef_search", values, range(len(queries.texts)), into)
    return {value: into[value].recalls for value in values}


async def trials(known: dict[int, list[float]], database: Any, catalogue: Any, index: Any) -> None:
    """How often the choice is right, by sample; for several targets, as one alone may lie at the edge of the grid."""
    values = sorted(known)
    means = {value: statistics.mean(known[value]) for value in values}
    print(f"{ROWS} rows: recall by value { ({v: round(m, 4) for v, m in means.items()}) }")
    for target in TARGETS:
        right = next((value for value in values if means[value] >= target / 100), None)
        near = accepted_falsely = 0
        searches = []
        for seed in range(TRIALS):
            numbers = random.Random(seed).sample(range(len(known[values[0]])), QUERIES)
            run = run_of(database, catalogue, index, target)
            chosen = await Tuner(run, Cached(known, numbers), QUERIES).bisect()  # type: ignore[arg-type]
            searches.append(run.done)
            steps = abs(values.index(chosen) - values.index(right)) if chosen is not None and right is not None else 99
            near += steps <= 1 or chosen == right
            accepted_falsely += chosen is not None and means[chosen] < target / 100
        print(
            f"target {target} %, right is {right}; {TRIALS} trials: {near} within one step, {accepted_falsely} "
            f"accepted a value below the target; {statistics.median(searches):.0f} searches a trial "
            f"(every value with every query: {QUERIES * len(values)})"
        )


async def measure(postgres: Postgres, dsn: str) -> None:
    """In turn, ROUNDS times; then the trials."""
    POLICY.allow("127.0.0.0/8")  # everything here is of this machine
    databases = Databases()
    database = databases.open(Target(SecretStr(dsn)))
    catalogue = await read_catalogue(database)
    index = catalogue.index("public", "items")
    cpu, wall = [], []
    for round_ in range(ROUNDS):
        used: dict[str, tuple[float, float, int | None]] = {}
        for name in ("operator", "runbook") if round_ % 2 == 0 else ("runbook", "operator"):
            before, began = database_cpu(postgres), time.perf_counter()
            chosen = await (ours(database, catalogue, index) if name == "operator" else sweep(dsn))
            seconds = time.perf_counter() - began
            await asyncio.sleep(REAPED)
            used[name] = (database_cpu(postgres) - before, seconds, chosen)
        (our_cpu, our_wall, our), (their_cpu, their_wall, their) = used["operator"], used["runbook"]
        cpu.append(their_cpu / our_cpu)
        wall.append(their_wall / our_wall)
        print(
            f"round {round_ + 1}: operator {our_cpu:.1f} s CPU, {our_wall:.1f} s, chose {our}; "
            f"runbook {their_cpu:.1f} s CPU, {their_wall:.1f} s, chose {their}",
            flush=True,
        )
    for what, ratios in (("database CPU", cpu), ("wall", wall)):
        told = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} .. {max(ratios):.1f})"
        print(f"{ROWS} rows: {what}, runbook / operator = {told}")
    await trials(await pool(database, catalogue, index), database, catalogue, index)
    await databases.close()


def main() -> None:
    """Bring a server up, measure, print, take it down."""
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as folder,
        Postgres(Path(folder) / "postgres", settings={"maintenance_work_mem": "1GB"}) as postgres,
    ):
        dsn = postgres.create_database("bench")
        postgres.sql("CREATE EXTENSION vector", "bench")
        asyncio.run(fill(dsn, ROWS, DIMENSIONS))
        postgres.sql(INDEX, "bench")
        postgres.sql("ANALYZE item", "bench")
        asyncio.run(measure(postgres, dsn))


if __name__ == "__main__":
    main()
