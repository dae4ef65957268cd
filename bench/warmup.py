"""How good a warmed cache is: its hit rate beside the best possible of that size, and beside the last K searches.

A trace of Zipf(1.0) over 10,000 queries is split: the older part is the shop's log of searches, the newer part what
people search next. A CacheWarmup with `top: K` (through the API server, the operator and the search service) fills the
cache; its hit rate is counted on the newer part, over the keys that the service's cache holds in Postgres. The best
possible is the K queries that the newer part itself searches most, known only afterwards; the runbook's habit is the
last K searches.

    make bench-warmup [RUNS=3]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import numpy as np

from stand.cluster import start_cluster
from stand.postgres import Postgres
from stand.provider import Provider
from stand.scene import Scene, store_spec
from stand.service import SearchServiceProcess
from stand.service.cache import key_of
from stand.shop import Shop, create_shop
from stand.world import install

RUNS = int(os.environ.get("RUNS", "3"))
DISTINCT, LOGGED, NEXT = 10_000, 50_000, 50_000
SIZES = (100, 500, 1_000)
LIMIT = 10
GOAL = 0.97
SELECT = {"table": "searches", "queryColumn": "query", "timeColumn": "created_at", "windowSeconds": 604_800}


def trace(seed: int) -> tuple[list[str], list[str]]:
    """(what is in the log, what is searched next), both drawn from one Zipf(1.0)."""
    weights = 1 / np.arange(1, DISTINCT + 1)
    drawn = np.random.default_rng(seed).choice(DISTINCT, size=LOGGED + NEXT, p=weights / weights.sum())
    queries = [f"query number {rank}" for rank in drawn]
    return queries[:LOGGED], queries[LOGGED:]


async def write_log(dsn: str, queries: list[str]) -> None:
    """The log of searches, in its order, over the last six days."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("TRUNCATE searches")
        began, step = datetime.now(UTC) - timedelta(days=6), timedelta(days=6) / len(queries)
        rows = [(query, 1, began + at * step) for at, query in enumerate(queries)]
        columns = ["query", "results_count", "created_at"]
        await connection.copy_records_to_table("searches", records=rows, columns=columns)
    finally:
        await connection.close()


async def cached(dsn: str) -> set[str]:
    """The keys that the service's cache holds."""
    connection = await asyncpg.connect(dsn)
    try:
        return {row["key"] for row in await connection.fetch("SELECT key FROM search_cache.query")}
    finally:
        await connection.close()


def hit_rate(keys: set[str], traffic: Counter[str]) -> float:
    """Percent of the traffic whose key is there."""
    return 100 * sum(times for query, times in traffic.items() if key_of(query, LIMIT) in keys) / traffic.total()


def warmed(scene: Scene, shop: Shop, logged: list[str], run: int, size: int) -> set[str]:
    """The keys that a CacheWarmup of that size has put into the cache; what its own samples added does not count."""
    name = f"warm-{run}-{size}"
    spec = {
        "storeRef": {"name": "shop"}, "invalidate": "All", "queries": {"fromTable": {**SELECT, "top": size}},
        "requestsPerSecond": 1000, "concurrency": 8, "maxPoolSharePercent": 100, "target": {"cacheHitRatePercent": 1},
    }  # fmt: skip
    scene.apply("CacheWarmup", name, spec)
    scene.wait_status(f"vwarm/{name}", "Complete", timeout=300)
    counted = Counter(logged)
    chosen = sorted(counted, key=lambda query: (-counted[query], query))[:size]  # as the operator says it chooses
    return asyncio.run(cached(shop.admin_dsn)) & {key_of(query, LIMIT) for query in chosen}


def last_searches(logged: list[str], size: int) -> set[str]:
    """The keys of the last `size` searches of the log, as the runbook's person takes them."""
    return {key_of(query, LIMIT) for query in logged[-size:]}


def main() -> int:
    """Bring a small stand up, measure, print a table, take it down. 1 when the goal is missed."""
    began = time.monotonic()
    found: dict[int, list[tuple[float, float, float]]] = {size: [] for size in SIZES}
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as folder,
        start_cluster(Path(folder) / "kubernetes", audit=False) as cluster,
        Postgres(Path(folder) / "postgres") as postgres,
        Provider(Path(folder) / "provider", dimensions=384) as provider,
    ):
        install(cluster)
        shop = asyncio.run(create_shop(postgres.create_database("shop"), 1000, searches=100))
        env = {"VECTOR_POOL_MAX": "20", "SIMILARITY": "-1", "CACHE_MAX_ENTRIES": "100000"}
        with SearchServiceProcess(
            Path(folder) / "service", database_url=shop.api_dsn, embeddings_base_url=provider.base_url,
            embeddings_api_key=provider.api_key, env=env,
        ) as service:  # fmt: skip
            cluster.kubectl("create", "namespace", "bench")
            table = json.dumps({"bench/api:3000": [service.address]})
            scene = Scene(cluster, "bench", Path(folder), {"VECTOROPS_SERVICE_ADDRESSES": table})
            scene.secret("shop-db", url=shop.operator_dsn)
            scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
            scene.operator()
            try:
                scene.apply("VectorStore", "shop", store_spec(service={"serviceRef": {"name": "api", "port": 3000}}))
                for run in range(RUNS):
                    logged, following = trace(run)
                    asyncio.run(write_log(shop.admin_dsn, logged))
                    traffic = Counter(following)
                    for size in SIZES:
                        best = {key_of(query, LIMIT) for query, _ in traffic.most_common(size)}
                        ours = warmed(scene, shop, logged, run, size)
                        contestants = (ours, best, last_searches(logged, size))
                        found[size].append(tuple(hit_rate(keys, traffic) for keys in contestants))  # type: ignore[arg-type]
            finally:
                scene.stop()
    return report(found, time.monotonic() - began)


def report(found: dict[int, list[tuple[float, float, float]]], seconds: float) -> int:
    """Medians over the runs, and whether the goal was met in the worst of them."""
    out = sys.stdout.write
    out(
        f"hit rate after warming K queries, Zipf(1.0) over {DISTINCT} queries, {LOGGED} logged, {NEXT} searched next,\n"
    )
    out(f"median of {RUNS} traces, {seconds:.0f} s in all\n")
    out(f"{'K':>6}{'vectorops':>12}{'best':>9}{'of best':>9}{'worst run':>11}{'last K':>9}{'gain':>7}\n")
    met = True
    for size, runs in found.items():
        ours, best, last = (statistics.median(one[at] for one in runs) for at in range(3))
        share = [one[0] / one[1] for one in runs]
        met = met and min(share) >= GOAL
        out(f"{size:6}{ours:11.1f}%{best:8.1f}%{statistics.median(share):9.3f}{min(share):11.3f}")
        out(f"{last:8.1f}%{ours / last:6.2f}x\n")
    out(f"goal: at least {GOAL} of the best in every run: {'met' if met else 'MISSED'}\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
