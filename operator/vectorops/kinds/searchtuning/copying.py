"""The copy of a column, and candidate indexes on it. Statements only."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from vectorops.clients.postgres import Connection, qualified, quote_ident, speaking, statements
from vectorops.kinds.searchtuning.resource import Candidate, Storage
from vectorops.recall.target import Distance, Target

QUERIES = statements("vectorops.kinds.searchtuning")
SCHEMA = "vectorops"
KEY_TYPE = {Storage.VECTOR: "vector", Storage.HALFVEC: "halfvec", Storage.BIT: "bit"}
KIB = 1024
LEAST_MEMORY = 64 * KIB * KIB  # PostgreSQL's own default
GRAPH_BYTES = 250  # of a row beside its vector and links: pgvector's element with its header, allocation included
LINK_BYTES = 16  # of one neighbour: pointer, distance, flag


@dataclass(frozen=True)
class Built:
    """A candidate index that is there."""

    target: Target
    size_bytes: int
    seconds: float


def title(candidate: Candidate) -> str:
    """E.g. HalfVec m=16 efConstruction=64."""
    return f"{candidate.storage} m={candidate.hnsw.m} efConstruction={candidate.hnsw.ef_construction}"


async def drop_copy(connection: Connection, table: str) -> None:
    """Drop the copy, if it is there."""
    with speaking("dropping the copy of the column"):
        await connection.execute(f"DROP TABLE IF EXISTS {qualified(SCHEMA, table)}")


async def copy_column(connection: Connection, target: Target, table: str) -> None:
    """The vectors that the index holds, alone, in an unlogged table. One of that name is dropped first."""
    await drop_copy(connection, table)
    with speaking("copying the column"):
        await connection.execute(
            f"CREATE UNLOGGED TABLE {qualified(SCHEMA, table)} AS "  # noqa: S608 - quoted names
            f"SELECT {target.column} AS value FROM ONLY {target.table} WHERE {target.where()}"
        )
        await connection.execute(f"ANALYZE {qualified(SCHEMA, table)}")


async def build(connection: Connection, target: Target, candidate: Candidate, table: str, rows: int) -> Built:
    """Build a candidate with the memory its graph needs, at most what the server's settings say it can spare."""
    of_copy = _target(target, candidate, table)
    await _size(connection, of_copy, candidate, rows)
    opclass = f"{of_copy.key_type}_{of_copy.distance}_ops"
    key = of_copy.key if of_copy.key.startswith("(") else f"({of_copy.key})"
    statement = (
        f"CREATE INDEX {quote_ident(of_copy.index_name)} ON {of_copy.table} USING hnsw "
        f"({key} {qualified(target.extension_schema, opclass)}) "
        f"WITH (m = {candidate.hnsw.m}, ef_construction = {candidate.hnsw.ef_construction})"
    )
    began = time.monotonic()
    with speaking("building a candidate index"):
        await connection.execute(statement)
        seconds = time.monotonic() - began
        index = qualified(SCHEMA, of_copy.index_name)
        oid = await connection.fetchval("SELECT to_regclass($1)::oid", index)
        size = await connection.fetchval("SELECT pg_relation_size($1::regclass)", index)
    return Built(replace(of_copy, index_oid=oid), size, seconds)


async def drop_index(connection: Connection, target: Target) -> None:
    """Drop a candidate: the next one must not be confused with it."""
    with speaking("dropping a candidate index"):
        await connection.execute(f"DROP INDEX {qualified(SCHEMA, target.index_name)}")


def _target(target: Target, candidate: Candidate, table: str) -> Target:
    """What is searched on the copy, by the candidate."""
    key_type, schema, n = KEY_TYPE[candidate.storage], target.extension_schema, target.dimensions
    key = "value"
    if key_type == "bit" and target.column_type != "bit":
        key = f"({qualified(schema, 'binary_quantize')}(value)::bit({n}))"
    elif key_type != target.column_type:
        key = f"(value::{qualified(schema, key_type)}({n}))"
    distance = Distance.HAMMING if key_type == "bit" else target.distance
    return replace(
        target, index_oid=0, index_name=f"{table}_idx", table=qualified(SCHEMA, table), column="value", key=key,
        key_type=key_type, distance=distance, predicate=None,
    )  # fmt: skip


async def _size(connection: Connection, target: Target, candidate: Candidate, rows: int) -> None:
    with speaking("sizing the build of a candidate"):
        limits = await connection.fetchrow(QUERIES["read_limits"])
        assert limits is not None, "a SELECT without FROM has a row"
        width = {"vector": 4 * target.dimensions, "halfvec": 2 * target.dimensions, "bit": target.dimensions // 8}
        m = candidate.hnsw.m
        needed = math.ceil(1.05 * rows * (width[target.key_type] + GRAPH_BYTES + LINK_BYTES * (2 * m + m / (m - 1))))
        allowed = max(limits["maintenance_work_mem"], limits["shared_buffers"], limits["effective_cache_size"] // 4)
        memory = max(min(needed, allowed), LEAST_MEMORY)
        await connection.execute("SELECT set_config('maintenance_work_mem', $1, false)", f"{memory // KIB}kB")
        # serial: a candidate is not waited for by anybody, and workers would be taken from searches
        await connection.execute("SELECT set_config('max_parallel_maintenance_workers', '0', false)")
