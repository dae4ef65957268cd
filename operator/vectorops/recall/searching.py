"""Searches by the index, measured: what they find beside the exact answer, how long they take, what they read.

All of it in one read-only transaction with one snapshot, the same as the exact answer's: so a ctid names the same row
in both. Settings are local to that transaction. Refused: measuring a search that does not use the index.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vectorops.clients.dead_peers import transaction
from vectorops.clients.foreign.jsontext import PLAN_VALUES, from_database
from vectorops.clients.sqlstate import speaking
from vectorops.errors import Reason, Waiting
from vectorops.recall.exact import Neighbours, exact_neighbours, parse_vectors, row_id
from vectorops.recall.target import Target

if TYPE_CHECKING:
    from vectorops.clients.postgres import Connection

SAMPLE_SEED = 20
"""Any number: the same rows are drawn again while the table is the same, so two measurements can be compared."""

TOLERANCE = 1e-5
"""Of a distance: server and client add the same products in another order."""

OVERSAMPLE = 4
"""Rows drawn for one wanted: some have no vector, or do not match the index's predicate."""

PASS_MILLISECONDS = 15 * 60 * 1000
"""One pass over the table: 15 minutes is a table of hundreds of gigabytes on a slow disk."""

SEARCH_MILLISECONDS = 10_000
"""One search: what takes longer is no search by an index."""


@dataclass(frozen=True)
class Queries:
    """What is searched for, as text of the column's type, and the row each was taken from (None: not of this table)."""

    texts: tuple[str, ...]
    rows: tuple[tuple[int, int] | None, ...]


@dataclass
class Measured:
    """What the searches with one setting have shown so far."""

    recalls: list[float] = field(default_factory=list)  # 0..1, of each query in order
    seconds: list[float] = field(default_factory=list)  # as the client saw them
    blocks: int = 0  # of the index, fetched by all of them

    @property
    def recall(self) -> float:
        """Mean, 0..1."""
        return sum(self.recalls) / len(self.recalls) if self.recalls else 0.0

    @property
    def p95_seconds(self) -> float:
        """The 95th percentile."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0

    @property
    def blocks_a_search(self) -> int:
        """Blocks of the index that one search reads: a cost without the noise of a clock."""
        return round(self.blocks / len(self.seconds)) if self.seconds else 0


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """One read-only transaction in which every statement sees the same rows."""
    with speaking("measuring the recall"):
        async with transaction(connection, isolation="repeatable_read", readonly=True):
            await _set(connection, {"statement_timeout": str(PASS_MILLISECONDS), "lock_timeout": "5000"})
            yield


async def draw_queries(connection: Connection, target: Target, rows: int, estimate: int) -> Queries:
    """Rows of the table to search with, drawn at random. `estimate`: rows of the table, roughly."""
    percent = 100.0 * OVERSAMPLE * rows / max(estimate, 1)
    while True:
        sql = target.sample_sql(min(percent, 100.0), SAMPLE_SEED, rows)
        with speaking("drawing queries"):
            found = await connection.fetch(sql)
        if len(found) >= rows or percent >= 100:
            kept = [(row[1], tuple(row[0])) for row in found if not _zero(row[1])]
            return Queries(tuple(text for text, _ in kept), tuple((ctid[0], ctid[1]) for _, ctid in kept))
        percent *= 8


async def truth(connection: Connection, target: Target, queries: Queries, k: int) -> Neighbours:
    """The exact neighbours of the queries, by one pass over the table."""
    import numpy as np

    own = np.array([row_id(row) if row is not None else 0 for row in queries.rows], dtype=np.uint64)
    return await exact_neighbours(connection, target, parse_vectors(list(queries.texts), target), own, k)


class Searcher:
    """Searches one index with different settings and compares with the exact answer."""

    def __init__(self, connection: Connection, target: Target, queries: Queries, exact: Neighbours, k: int) -> None:
        self._connection, self._target, self._queries, self._exact, self._k = connection, target, queries, exact, k
        self._sql = target.search_sql(k + 1)  # one more: the row itself is not counted

    async def open(self, iterative_scan: str | None = None) -> None:
        """Settings for all searches. Raises Waiting(TargetNotFound) when the plan does not use the index."""
        settings = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off", "jit": "off"}
        settings["statement_timeout"] = str(SEARCH_MILLISECONDS)
        if iterative_scan is not None:
            settings["hnsw.iterative_scan"] = iterative_scan
        await _set(self._connection, settings)
        with speaking("looking at the plan of a search"):
            plan = await self._connection.fetchval(
                f"EXPLAIN (FORMAT JSON, COSTS OFF) {self._sql}", self._queries.texts[0]
            )
        used = sorted(set(_index_names(from_database(plan, PLAN_VALUES))))
        if self._target.index_name not in used:
            other = f"it uses {', '.join(used)}" if used else "it uses no index"
            text = f'The planner does not search by "{self._target.index_name}": {other}.'
            raise Waiting(Reason.TargetNotFound, text, after=60.0)

    async def measure(self, setting: str, values: Sequence[int], numbers: range, into: dict[int, Measured]) -> None:
        """Search for the queries `numbers` with each value of `setting`, in turn, to and fro, so that noise cancels."""
        for turn, part in enumerate(_parts(numbers)):
            for value in values if turn % 2 == 0 else reversed(values):
                await _set(self._connection, {setting: str(value)})
                before = await self._fetched()
                for number in part:
                    await self._one(number, into.setdefault(value, Measured()))
                into[value].blocks += await self._fetched() - before

    async def _one(self, number: int, measured: Measured) -> None:
        began = time.perf_counter()
        with speaking("searching by the index"):
            found = await self._connection.fetch(self._sql, self._queries.texts[number])
        measured.seconds.append(time.perf_counter() - began)
        measured.recalls.append(self._recall(number, found))

    def _recall(self, number: int, found: Sequence[Any]) -> float:
        own = self._queries.rows[number]
        others = [row for row in found if own is None or tuple(row[0]) != own][: self._k]
        distances, ids = self._exact.distances[number], set(self._exact.ids[number].tolist())
        there = int((distances < float("inf")).sum())
        if not there:
            return 1.0
        far = float(distances[there - 1])
        far += TOLERANCE * max(1.0, abs(far))
        hits = sum(1 for row in others if row_id(tuple(row[0])) in ids or float(row[1]) <= far)
        return min(hits, there) / there

    async def _fetched(self) -> int:
        sql = "SELECT pg_stat_get_xact_blocks_fetched($1)"
        with speaking("reading the block counters"):
            return int(await self._connection.fetchval(sql, self._target.index_oid) or 0)


PART = 16
"""Searches with one value before the next: a neighbour's burst of work then falls on all values."""


def _parts(numbers: range) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, PART):
        yield range(start, min(start + PART, numbers.stop))


def _zero(text: str) -> bool:
    return not any(character in "123456789" for character in text) if text.startswith("[") else False


def _index_names(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if isinstance(plan.get("Index Name"), str):
            yield plan["Index Name"]
        for value in plan.values():
            yield from _index_names(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from _index_names(value)


async def _set(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        with speaking("setting what a measurement needs"):
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
