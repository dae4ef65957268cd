"""`tune-ef-search`: recall and p95 for values of hnsw.ef_search, against the exact answer, on the table's vectors."""

from __future__ import annotations

import time
from typing import Any

from asyncpg.pool import PoolConnectionProxy

SAMPLE, K, TARGET = 20, 10, 0.95
DRAW = "SELECT embedding::text AS vector FROM products WHERE embedding IS NOT NULL ORDER BY md5(id::text) LIMIT $1"
NEAREST = "SELECT id FROM products WHERE embedding IS NOT NULL ORDER BY embedding <=> $1::text::vector LIMIT $2"


async def tune(connection: PoolConnectionProxy, low: int, high: int, step: int) -> dict[str, Any]:
    """The curve, and the smallest value that reaches 95 % recall (else the largest)."""
    sample = [row["vector"] for row in await connection.fetch(DRAW, SAMPLE)]
    exact = []
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_indexscan = off")
        for vector in sample:
            exact.append({row["id"] for row in await connection.fetch(NEAREST, vector, K)})
    results = [await _one(connection, value, sample, exact) for value in range(low, high + 1, step)]
    good = [one["efSearch"] for one in results if one["recall"] >= TARGET]
    return {"results": results, "recommended": min(good) if good else results[-1]["efSearch"]}


async def _one(connection: PoolConnectionProxy, value: int, sample: list[str], exact: list[set[int]]) -> dict[str, Any]:
    found, wanted, seconds = 0, 0, []
    async with connection.transaction():
        await connection.execute(f"SET LOCAL hnsw.ef_search = {value}")  # an int within bounds: SET takes no parameter
        for vector, truth in zip(sample, exact, strict=True):
            began = time.perf_counter()
            rows = await connection.fetch(NEAREST, vector, K)
            seconds.append(time.perf_counter() - began)
            found += len(truth & {row["id"] for row in rows})
            wanted += len(truth)
    p95 = sorted(seconds)[int(0.95 * (len(seconds) - 1))] if seconds else 0.0
    recall = round(found / wanted, 4) if wanted else 0.0
    return {"efSearch": value, "recall": recall, "p95Milliseconds": round(p95 * 1000, 2)}
