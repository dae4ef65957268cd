"""A rebuild by the operator, from the edit of the object to Ready, beside the runbook's commands and an expert's psql.

All three rebuild the same index on the same server, in turn, in every round; ratios are of one round. What searches
notice is measured in a round of its own: four clients at half of what the server can do.

    make bench-index [ROWS=30000] [ROUNDS=3] [SEARCHES=0]

(a) the runbook: DROP INDEX, then CREATE INDEX CONCURRENTLY, on the server's default settings.
(b) an expert: memory and workers sized by hand for this table, built beside, swapped by rename, dropped, analyzed.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from vectors import as_text, blocks, fill

from stand.cluster import start_cluster
from stand.postgres import Postgres
from stand.scene import Scene
from stand.world import install

ROWS = int(os.environ.get("ROWS", "30000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SEARCHES = os.environ.get("SEARCHES", "1") != "0"
DIMENSIONS, M, EF = 1536, 24, 100
NAME = "idx_item_embedding_hnsw"
CLIENTS = 4
QUIET_SECONDS = 10.0
GRAPH_BYTES_A_ROW = 7_400  # what an expert allows: the vector, 24 links twice, and what pgvector needs beside
CREATE = (
    "CREATE INDEX CONCURRENTLY {name} ON item USING hnsw (embedding vector_cosine_ops) "
    "WITH (m = 24, ef_construction = 100)"
)
VALID = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "WHERE i.indrelid = 'item'::regclass AND i.indisvalid AND a.amname = 'hnsw')"
)
SEARCH = "SELECT id FROM item ORDER BY embedding <=> $1::text::vector LIMIT 10"

Rebuild = Callable[[], Awaitable[None]]


@dataclass
class Load:
    """Four clients that search at a pace, and a watcher that looks for a valid index."""

    dsn: str
    queries: list[str]
    pace: float | None  # searches a second of all clients; None: as fast as they can
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    unindexed_seconds: float = 0.0
    ended: bool = False

    async def run(self, while_: Awaitable[Any]) -> None:
        """Search until `while_` has ended."""
        tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        tasks.append(asyncio.create_task(self._watch()))
        try:
            await while_
        finally:
            self.ended = True
            await asyncio.gather(*tasks)

    async def _client(self, number: int) -> None:
        connection = await asyncpg.connect(self.dsn)
        step = CLIENTS / self.pace if self.pace else 0.0
        due, at = time.perf_counter() + step * number / CLIENTS, number
        while not self.ended:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            try:
                await connection.fetch(SEARCH, self.queries[at])
                self.seconds.append(time.perf_counter() - began)
            except (asyncpg.PostgresError, OSError):
                self.failed += 1
            at = (at + CLIENTS) % len(self.queries)
            due = max(due + step, began)
        await connection.close()

    async def _watch(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        while not self.ended:
            began = time.perf_counter()
            valid = await connection.fetchval(VALID)
            await asyncio.sleep(0.02)
            if not valid:
                self.unindexed_seconds += time.perf_counter() - began
        await connection.close()

    @property
    def p95(self) -> float:
        """Milliseconds."""
        return 1000 * statistics.quantiles(self.seconds, n=20)[18] if len(self.seconds) >= 20 else float("nan")


class Bench:
    """The stand, the three ways, and what they took."""

    def __init__(self, scene: Scene, dsn: str) -> None:
        self.scene, self.dsn, self.turn = scene, dsn, 0

    async def sql(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=None)
        finally:
            await connection.close()

    async def runbook(self) -> None:
        """(a), word by word."""
        await self.sql(f"DROP INDEX IF EXISTS {NAME}", CREATE.format(name=NAME), "ANALYZE item")

    async def expert(self) -> None:
        """(b): everything sized by hand, in one session."""
        memory = max(64, ROWS * GRAPH_BYTES_A_ROW // 1024 // 1024)
        await self.sql(
            f"SET maintenance_work_mem = '{memory}MB'",
            "SET max_parallel_maintenance_workers = 2",
            CREATE.format(name="idx_new"),
            f"BEGIN; ALTER INDEX {NAME} RENAME TO idx_old; ALTER INDEX idx_new RENAME TO {NAME}; COMMIT",
            "DROP INDEX CONCURRENTLY idx_old",
            "ANALYZE item",
        )

    async def operator(self) -> None:
        """Ours: edit the object, wait until it is Ready and nothing is left to do."""
        self.turn += 1
        patch = {"hnsw": {"m": M, "efConstruction": EF}, "runToken": str(self.turn)}
        await asyncio.to_thread(self.scene.patch, "vidx/items", patch)
        await self.settled(str(self.turn))

    async def serial(self) -> None:
        """Ours, with one core left to the searches."""
        await asyncio.to_thread(self.scene.patch, "vidx/items", {"build": {"parallelWorkers": 0}})
        await self.operator()

    async def settled(self, token: str | None) -> None:
        """Until the status speaks of this generation, Ready, nothing reconciling."""
        deadline = time.monotonic() + 3600
        while time.monotonic() < deadline:
            body = await asyncio.to_thread(self.scene.get, "vidx/items")
            status = body.get("status", {})
            stated = {c["type"]: c["status"] for c in status.get("conditions", [])}
            current = status.get("observedGeneration") == body["metadata"]["generation"]
            done = current and stated.get("Ready") == "True" and "Reconciling" not in stated and not status.get("build")
            if done and (token is None or status.get("runToken") == token):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError("not Ready within an hour")

    def memory(self) -> tuple[int, int]:
        """Of the operator: now and at the most, MB."""
        text = Path(f"/proc/{self.scene.operators[-1].process.pid}/status").read_text()
        now, most = (int(text.split(key)[1].split()[0]) // 1024 for key in ("VmRSS:", "VmHWM:"))
        return now, most


async def timed(rebuild: Rebuild) -> float:
    """Seconds."""
    began = time.perf_counter()
    await rebuild()
    return time.perf_counter() - began


def spread(values: list[float]) -> str:
    """Median, and the whole range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} .. {max(values):.2f})"


async def rebuilds(bench: Bench) -> None:
    """Every way in every round; the order turns round by round, so that noise falls on all."""
    ways: dict[str, Rebuild] = {"operator": bench.operator, "expert": bench.expert, "runbook": bench.runbook}
    took: dict[str, list[float]] = {name: [] for name in ways}
    before, _ = bench.memory()
    for round_ in range(ROUNDS):
        for name in list(ways) if round_ % 2 == 0 else list(ways)[::-1]:
            took[name].append(await timed(ways[name]))
            print(f"round {round_ + 1}: {name} {took[name][-1]:.1f} s", flush=True)
            await bench.settled(None)  # the operator takes an index that others made as it is
    _, most = bench.memory()
    for peer in ("runbook", "expert"):
        ratios = [theirs / ours for theirs, ours in zip(took[peer], took["operator"], strict=True)]
        print(f"{ROWS} rows: {peer} / operator = {spread(ratios)}")
    print(f"{ROWS} rows: seconds { ({name: [round(s, 1) for s in values] for name, values in took.items()}) }")
    print(f"{ROWS} rows: operator's memory {before} MB before, {most} MB at the most")


async def searches(bench: Bench) -> None:
    """What four clients at half load notice of a rebuild."""
    queries = [as_text(vector) for vector in next(blocks(200, DIMENSIONS, seed=99))]
    full = Load(bench.dsn, queries, None)
    await full.run(asyncio.sleep(QUIET_SECONDS))
    pace = len(full.seconds) / QUIET_SECONDS / 2
    print(f"searches: {2 * pace:.0f} a second at full load")
    ways = {"operator": bench.operator, "operator, parallelWorkers 0": bench.serial, "runbook": bench.runbook}
    for name, rebuild in ways.items():
        quiet, busy = Load(bench.dsn, queries, pace), Load(bench.dsn, queries, pace)
        await quiet.run(asyncio.sleep(QUIET_SECONDS))
        began = time.perf_counter()
        await busy.run(rebuild())
        took = time.perf_counter() - began
        gap = busy.unindexed_seconds
        print(
            f"{ROWS} rows, {name}: rebuild under load {took:.1f} s; without a valid index {gap:.1f} s; "
            f"p95 {quiet.p95:.1f} ms quiet, {busy.p95:.1f} ms meanwhile ({busy.p95 / quiet.p95:.2f}x); "
            f"{len(busy.seconds)} searches, {busy.failed} failed",
            flush=True,
        )
        await bench.settled(None)


def main() -> None:
    """Bring a small stand up, measure, print, take it down."""
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as folder,
        start_cluster(Path(folder) / "kubernetes", audit=False) as cluster,
        Postgres(Path(folder) / "postgres") as postgres,
    ):
        install(cluster)
        dsn = postgres.create_database("bench")
        postgres.sql("CREATE EXTENSION vector", "bench")
        asyncio.run(fill(dsn, ROWS, DIMENSIONS))
        cluster.kubectl("create", "namespace", "bench")
        scene = Scene(cluster, "bench", Path(folder))
        scene.secret("db", url=dsn)
        scene.operator()
        try:
            spec = {"database": {"connectionSecretRef": {"name": "db", "key": "url"}}, "healthCheckPeriodSeconds": 5}
            scene.apply("VectorStore", "shop", spec)
            index = {
                "storeRef": {"name": "shop"}, "table": "item", "column": "embedding", "metric": "Cosine",
                "hnsw": {"m": 16, "efConstruction": 64},
            }  # fmt: skip
            scene.apply("VectorIndex", "items", index)
            bench = Bench(scene, dsn)
            asyncio.run(bench.settled(None))
            asyncio.run(rebuilds(bench))
            if SEARCHES:
                asyncio.run(searches(bench))
        finally:
            scene.stop()


if __name__ == "__main__":
    main()
