"""Vectors from memory into a table's rows: ways that a user would take, the operator's, and what the server allows.

Every way writes the same ready vectors (pgvector's binary form, as an answer leaves them) into rows without one, on the
same server, in turn, in every round, each round in another order; ratios are of one round, their median is told.

    make bench-writes [ROWS=20000] [ROUNDS=3]

(1)  one UPDATE a row, the vector as a text literal; measured on SAMPLE rows, extrapolated
(2)  asyncpg's executemany of UPDATE, binary, and nothing else
(2b) the same doing our duty: guarded by the text's hash, what the vector was made from remembered, the bill settled
(3)  the operator's statement: unnest of an answer's arrays, one UPDATE, the same duty
(4)  COPY into a staging table, one UPDATE from there, the same duty
(5)  COPY into an unlogged table whose vectors are stored in the row: the limit
"""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
from pydantic import SecretStr
from vectors import blocks

from stand.postgres import Postgres
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.hosts.reaching import POLICY
from vectorops.clients.postgres import Databases
from vectorops.clients.postgres import Target as Place
from vectorops.clients.sql import statements
from vectorops.clients.texttemplate import parse_template, text_sql
from vectorops.clients.vectorcodec import register_vectors
from vectorops.kinds.embeddingbackfill.effects import PACKAGE, WRITE_ROWS, Found
from vectorops.kinds.embeddingbackfill.observation import EVER
from vectorops.kinds.embeddingbackfill.selection import Scope, Selection
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target
from vectorops.kinds.embeddingbackfill.writing_sql import FORGIVE, REMEMBER, write_sql

ROWS = int(os.environ.get("ROWS", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BATCH = 2_048  # rows of one answer
SAMPLE = 1_000  # rows of the slowest way; 20,000 take it the better part of a minute
DIMENSIONS = 1536
ACCOUNT = ("bench", "")
TEXT = text_sql(parse_template("{title}"), "t")
CREATE = (
    f"""CREATE TABLE public.item (id bigint PRIMARY KEY, title text NOT NULL, embedding public.vector({DIMENSIONS}))"""
)
BARE = "UPDATE public.item SET embedding = $2 WHERE id = $1"
LITERAL = "UPDATE public.item SET embedding = $2::text::public.vector WHERE id = $1"
GUARD = f"t.embedding IS NULL AND {TEXT.hash} = "
TARGET = Target(
    Declared("shop", "m", DIMENSIONS, None, "public", "item", "embedding", "{title}", ""),
    1,
    (KeyColumn("id", "bigint", builtin=True, not_null=True),),
    "public",
    parse_template("{title}"),
)
SCOPE = Scope(TARGET, Selection(), EVER)
STATE = ('"public"."item"', "embedding", TARGET.template.fingerprint, "m", DIMENSIONS)
SETTLE = """UPDATE vectorops.spend SET tokens_reserved = greatest(0, tokens_reserved - $3), requests = requests + 1,
            tokens_billed = tokens_billed + $3, rows_done = rows_done + $4 WHERE request_uid = $1 AND run_token = $2"""


def duty(source: str, table: str, column: str, template: str, model: str, dimensions: str) -> str:
    """An UPDATE FROM `source` (a row of id, text_hash, embedding, called a) with guard and records."""
    remember = REMEMBER.format(table=table, column=column, template=template, model=model, dimensions=dimensions)
    return f"""WITH written AS (
      UPDATE public.item AS t SET embedding = a.embedding FROM {source} AS a
      WHERE t.id = a.id AND {GUARD} a.text_hash
      RETURNING t.id::text COLLATE "C" AS row_key, a.text_hash
    ), remembered AS ({remember}), forgiven AS ({FORGIVE.format(table=table, column=column)})
    SELECT count(*) FROM written"""


ONE = duty(
    "(SELECT $1::bigint AS id, $2::bytea AS text_hash, $3::public.vector AS embedding)", "$4", "$5", "$6", "$7", "$8"
)
STAGED = duty("pg_temp.staging", "$1", "$2", "$3", "$4", "$5")


class Bench:
    """One connection, and what is to be written."""

    def __init__(self, connection: asyncpg.Connection[Any], hashes: Sequence[bytes], vectors: np.ndarray) -> None:
        self.connection, self.hashes = connection, hashes
        self.vectors = vectors
        self.packed = [DIMENSIONS.to_bytes(2, "big") + b"\0\0" + row.tobytes() for row in vectors.astype(">f4")]

    def batches(self) -> list[range]:
        return [range(start, min(start + BATCH, ROWS)) for start in range(0, ROWS, BATCH)]

    async def literals(self) -> None:
        for number in range(SAMPLE):
            text = "[" + ",".join(map(str, self.vectors[number].tolist())) + "]"
            await self.connection.execute(LITERAL, number + 1, text)

    async def bare(self) -> None:
        for batch in self.batches():
            await self.connection.executemany(BARE, [(n + 1, self.packed[n]) for n in batch])

    async def one_by_one(self) -> None:
        for batch in self.batches():
            rows = [(n + 1, self.hashes[n], self.packed[n], *STATE) for n in batch]
            await self.connection.executemany(ONE, rows)
            await self.connection.execute(SETTLE, *ACCOUNT, 1, len(batch))

    async def ours(self) -> None:
        for batch in self.batches():
            for start in range(batch.start, batch.stop, WRITE_ROWS):
                part = range(start, min(start + WRITE_ROWS, batch.stop))
                rows = [Found((str(n + 1),), "", "", self.hashes[n]) for n in part]
                bill = (1, 1) if part.stop == batch.stop else (0, 0)
                statement = write_sql(SCOPE, ACCOUNT, rows, [self.packed[n] for n in part], *bill)
                await self.connection.fetch(statement.sql, *statement.args)

    async def staged(self) -> None:
        for batch in self.batches():
            await self.connection.execute("TRUNCATE pg_temp.staging")
            data = copy_bytes(batch, self.hashes, self.packed)
            await self.connection.copy_to_table("staging", schema_name="pg_temp", source=data, format="binary")
            await self.connection.fetch(STAGED, *STATE)
            await self.connection.execute(SETTLE, *ACCOUNT, 1, len(batch))

    async def raw(self) -> None:
        for batch in self.batches():
            data = copy_bytes(batch, None, self.packed)
            await self.connection.copy_to_table("raw", schema_name="public", source=data, format="binary")


def copy_bytes(batch: range, hashes: Sequence[bytes] | None, packed: Sequence[bytes]) -> io.BytesIO:
    """A binary COPY of (id, text_hash, embedding), or of (id, embedding)."""
    size = len(packed[0]).to_bytes(4, "big")
    parts = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
    for n in batch:
        key = b"\0\0\0\x08" + (n + 1).to_bytes(8, "big")
        middle = b"" if hashes is None else b"\0\0\0\x20" + hashes[n]
        parts += [b"\0\x02" if hashes is None else b"\0\x03", key, middle, size, packed[n]]
    return io.BytesIO(b"".join([*parts, b"\xff\xff"]))


async def prepare(connection: asyncpg.Connection[Any]) -> None:
    """Rows with texts and no vectors, nothing remembered, everything written out."""
    await connection.execute(f"""DROP TABLE IF EXISTS public.item, public.raw, pg_temp.staging; {CREATE};
        INSERT INTO public.item SELECT id, title FROM public.source;
        TRUNCATE vectorops.embedding_state; TRUNCATE vectorops.spend;
        INSERT INTO vectorops.spend (request_uid, run_token) VALUES ('bench', '');
        CREATE TEMP TABLE staging (id bigint, text_hash bytea, embedding public.vector);
        ALTER TABLE pg_temp.staging ALTER embedding SET STORAGE PLAIN;
        CREATE UNLOGGED TABLE public.raw (id bigint, embedding public.vector({DIMENSIONS}));
        ALTER TABLE public.raw ALTER embedding SET STORAGE PLAIN""")
    await connection.execute("VACUUM ANALYZE public.item")
    await connection.execute("CHECKPOINT")


async def measured(bench: Bench, name: str, way: Callable[[], Awaitable[None]]) -> float:
    """Microseconds a row. What should be in the table is."""
    await prepare(bench.connection)
    began = time.perf_counter()
    await way()
    seconds = time.perf_counter() - began
    count, states = await bench.connection.fetchrow(
        "SELECT (SELECT count(embedding) FROM public.item), (SELECT count(*) FROM vectorops.embedding_state)"
    )
    rows = SAMPLE if name == "1" else ROWS
    assert count == (0 if name == "5" else rows), f"({name}) wrote {count} rows"
    assert states == (ROWS if name in ("2b", "3", "4") else 0), f"({name}) remembers {states} rows"
    return seconds / rows * 1e6


async def compare(dsn: str) -> None:
    """All ways in turn, and their ratios."""
    POLICY.allow("127.0.0.0/8")  # everything here is of this machine
    databases = Databases()
    database = databases.open(Place(SecretStr(dsn)))
    await ensure_bookkeeping(database)
    async with database.session("vectorops:vfill:bench") as connection:
        await connection.execute(
            f"""CREATE TABLE public.source AS SELECT n::bigint AS id, 'thing ' || n || repeat(' useful', 60) AS title
                FROM generate_series(1, {ROWS}) n"""
        )
        await connection.execute(statements(PACKAGE)["walk_the_key"])
        await register_vectors(connection, "public")
        hashes = await connection.fetch(f"SELECT {TEXT.hash} FROM public.source AS t ORDER BY id")
        bench = Bench(connection, [row[0] for row in hashes], np.concatenate(list(blocks(ROWS, DIMENSIONS))))
        ways = {
            "1": bench.literals, "2": bench.bare, "2b": bench.one_by_one,
            "3": bench.ours, "4": bench.staged, "5": bench.raw,
        }  # fmt: skip
        rounds: list[dict[str, float]] = []
        for number in range(ROUNDS):
            order = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
            rounds.append({name: await measured(bench, name, ways[name]) for name in order})
            print(f"round {number + 1}: " + ", ".join(f"({n}) {rounds[-1][n]:.1f} us" for n in ways), flush=True)
    await databases.close()
    report(rounds)


def report(rounds: Sequence[dict[str, float]]) -> None:
    """Medians of the ratios."""
    print(f"{ROWS} rows of {DIMENSIONS} dimensions, {BATCH} a batch, {len(rounds)} rounds")
    for name in rounds[0]:
        print(f"  ({name}) {statistics.median(r[name] for r in rounds):8.1f} us a row")
    for other, goal in (("1", 25.0), ("2", None), ("2b", 0.9), ("4", None), ("5", None)):
        ratio = statistics.median(r[other] / r["3"] for r in rounds)
        print(f"  ours is {ratio:.2f} times as fast as ({other})" + (f", goal {goal}" if goal else ""))


def main() -> None:
    """A server of its own."""
    with tempfile.TemporaryDirectory(prefix="writes-") as folder, Postgres(Path(folder)) as server:
        dsn = server.create_database("bench")
        server.sql("CREATE EXTENSION vector", "bench")
        asyncio.run(compare(dsn))


if __name__ == "__main__":
    main()
