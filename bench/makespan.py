"""Whole backfills at a provider's limits: how near to tokens / TPM they end, beside what people do now.

A real Postgres, the mock provider with the limits of OpenAI's tiers 1, 3 and 5, log-normal latency of 0.4 s and 0.5 %
of 5xx, both in scaled time: the provider's minutes and ours are shorter by the same factor, so that one process keeps
up. Texts have log-normal lengths, about 150 tokens. Beside it, at tier 1: the runbook's job (100 a batch, one after
another), and a script as a user would write it (100 a batch, eight at a time, lists of floats, one UPDATE a row, waits
as Retry-After says).

The fewest requests are those of the larger of tokens and a quarter of the bytes over 300,000, or rows over 2,048. A
makespan below tokens / TPM is possible, for the provider's bucket is full at the start, as OpenAI's is; it goes towards
one with more rows. A refusal counts as avoidable: nobody else uses the key, and no limit changes.

    make bench-makespan [ROWS=20000] [TIERS=1,3,5] [PEERS=1]

Memory is the most this process ever had; ROWS=10000 and ROWS=1000000 (with TIERS=5 PEERS=) show whether it is flat.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import openai
from pydantic import SecretStr

from stand.postgres import Postgres
from stand.provider import Provider
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.embedding_limits import Clock
from vectorops.clients.embeddings import Embedders
from vectorops.clients.hosts.reaching import POLICY
from vectorops.clients.postgres import Databases
from vectorops.clients.postgres import Target as Place
from vectorops.clients.texttemplate import parse_template
from vectorops.kinds.embeddingbackfill.filling import fill_table
from vectorops.kinds.embeddingbackfill.observation import Counts, End, Terms
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target

ROWS = int(os.environ.get("ROWS", "20000"))
TIERS = [int(tier) for tier in os.environ.get("TIERS", "1,3,5").split(",") if tier]
PEERS = bool(os.environ.get("PEERS", "1"))
DIMENSIONS = 1536
MODEL = "text-embedding-3-small"
LIMITS = {1: (3_000, 1_000_000), 3: (5_000, 5_000_000), 5: (10_000, 10_000_000)}  # requests, tokens a minute
TOKENS_A_SECOND = 100_000  # of real time, what two shared cores keep up with: texts, provider and table together
PEER_ROWS = 2_000  # they are slower, and their rate does not depend on the size of the table
MOST_MAKESPAN, MOST_REQUESTS = 1.05, 1.02
WORDS = [
    "shelf",
    "lamp",
    "oak",
    "steel",
    "kettle",
    "cotton",
    "garden",
    "chair",
    "window",
    "paper",
    "river",
    "stone",
    "bright",
    "small",
    "round",
    "quiet",
    "warm",
]


@dataclass
class Took:
    """One run."""

    rows: int
    seconds: float  # of the provider's time
    tokens: int
    requests: int
    refused: int
    estimate: int  # tokens as OpenAI estimates them when it checks a request: a quarter of the bytes

    def bound(self, per_minute: int) -> float:
        """Seconds below which no limit lets it end."""
        return self.tokens / per_minute * 60

    @property
    def packing(self) -> int:
        """The fewest requests that hold it."""
        return math.ceil(max(self.tokens / 300_000, self.estimate / 300_000, self.rows / 2_048))


def texts(rows: int) -> list[tuple[int, str]]:
    """Seeded, each different."""
    chance = random.Random(5)
    return [
        (key, f"{key} " + " ".join(chance.choices(WORDS, k=max(3, round(chance.lognormvariate(4.75, 0.6))))))
        for key in range(rows)
    ]


class Bench:
    """A database and a provider."""

    def __init__(self, dsn: str, provider: Provider) -> None:
        self.dsn, self.provider, self.scale = dsn, provider, 1.0

    async def prepare(self, tier: int, rows: int) -> None:
        """A fresh table, and the provider at that tier."""
        requests, tokens = LIMITS[tier]
        self.scale = TOKENS_A_SECOND / (tokens / 60)
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("DROP TABLE IF EXISTS item; DROP SCHEMA IF EXISTS vectorops CASCADE")
            await connection.execute(
                f"CREATE TABLE item (id bigint PRIMARY KEY, body text, embedding vector({DIMENSIONS}))"
            )
            await connection.copy_records_to_table("item", records=texts(rows), columns=["id", "body"])
            await connection.execute("ANALYZE item")
        finally:
            await connection.close()
        provider = self.provider
        provider.reset()
        provider.control(tokenizer="cl100k", cheapVectors=True, timeScale=self.scale)
        provider.control(latencySeconds={"median": 0.4, "sigma": 0.5}, errors={"share": 0.005})
        provider.control(limits={"requestsPerMinute": requests, "tokensPerMinute": tokens})

    def took(self, rows: int, began: float) -> Took:
        """What the provider says of it."""
        seconds, bill, log = (time.monotonic() - began) * self.scale, self.provider.bill(), self.provider.requests()
        estimate = sum(len(text.encode()) for text in bill["perText"]) // 4
        refused = sum(one["status"] == 429 for one in log)
        return Took(rows, seconds, bill["tokens"], bill["requests"], refused, estimate)

    async def sleep(self, seconds: float) -> None:
        """In the provider's time."""
        await asyncio.sleep(seconds / self.scale)

    async def ours(self, rows: int) -> Took:
        """The operator's work, without Kubernetes around it."""
        POLICY.allow("127.0.0.0/8")  # everything here is of this machine
        databases, scale = Databases(), self.scale
        embedders = Embedders(clock=Clock(lambda: time.monotonic() * scale, self.sleep))
        database = databases.open(Place(SecretStr(self.dsn)))
        await ensure_bookkeeping(database)
        declared = Declared("shop", MODEL, DIMENSIONS, None, "public", "item", "embedding", "{body}", "")
        oid = await database.fetchval("SELECT 'public.item'::regclass::oid")
        target = Target(
            declared, oid, (KeyColumn("id", "bigint", builtin=True, not_null=True),), "public", parse_template("{body}")
        )
        embedder = embedders.open(
            "bench", api_key=SecretStr(self.provider.api_key), model=MODEL, dimensions=DIMENSIONS,
            base_url=self.provider.base_url,
        )  # fmt: skip
        began = time.monotonic()
        run = Run(uid=f"bench-{scale}", token="", database=database, embedder=embedder, target=target, terms=Terms(),
                  counts=Counts(rows, 0, 0, 0, rows))  # fmt: skip
        end = await fill_table(run)
        took = self.took(rows, began)
        assert (end, run.written) == (End.PROVED, rows), (end, run.written)
        await embedders.close()
        await databases.close()
        return took

    async def script(self, rows: int, at_a_time: int) -> Took:
        """100 a batch, `at_a_time` requests in flight, lists of floats, one UPDATE a row with a text literal."""
        client = openai.AsyncOpenAI(api_key=self.provider.api_key, base_url=self.provider.base_url, max_retries=0)
        pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=at_a_time)
        places, began = asyncio.Semaphore(at_a_time), time.monotonic()

        async def one(batch: Sequence[Any]) -> None:
            async with places:
                answer = await self._patiently(client, [row["body"] for row in batch])
                vectors = [(str(one.embedding), row["id"]) for one, row in zip(answer.data, batch, strict=True)]
                for vector, key in vectors:
                    await pool.execute("UPDATE item SET embedding = $1::text::vector WHERE id = $2", vector, key)

        found = await pool.fetch("SELECT id, body FROM item WHERE embedding IS NULL ORDER BY id")
        await asyncio.gather(*(one(found[at : at + 100]) for at in range(0, rows, 100)))
        took = self.took(rows, began)
        await pool.close()
        await client.close()
        return took

    async def _patiently(self, client: openai.AsyncOpenAI, inputs: list[str]) -> Any:
        while True:
            try:
                return await client.embeddings.create(model=MODEL, input=inputs)
            except openai.APIStatusError as refusal:
                await self.sleep(float(refusal.response.headers.get("retry-after", "1")))


def row_of(name: str, took: Took, per_minute: int) -> str:
    """One line of the table."""
    ratio, requests = took.seconds / took.bound(per_minute), took.requests / took.packing
    line = f"{name:28}{took.rows:9}{took.seconds:10.0f}{took.rows / took.seconds:9.1f}{ratio:10.3f}{took.refused:6}"
    return f"{line}{took.requests:8}{requests:9.3f}\n"


async def measure(bench: Bench) -> bool:
    """Every tier, then the others. Whether the goals were met."""
    out, met = sys.stdout.write, True
    heads = ("rows", 9), ("seconds", 10), ("rows/s", 9), ("x tok/TPM", 10), ("429", 6), ("sent", 8), ("x fewest", 9)
    out(f"{'':28}" + "".join(f"{head:>{width}}" for head, width in heads) + "\n")
    for tier in TIERS:
        await bench.prepare(tier, ROWS)
        took = await bench.ours(ROWS)
        per_minute = LIMITS[tier][1]
        out(row_of(f"ours, tier {tier} (x{bench.scale:.1f})", took, per_minute))
        met = met and took.seconds <= MOST_MAKESPAN * took.bound(per_minute) and not took.refused
        met = met and took.requests <= max(MOST_REQUESTS * took.packing, took.packing + 1)
    for name, at_a_time in (("runbook's job", 1), ("a script, 8 at a time", 8)) if PEERS else ():
        await bench.prepare(1, PEER_ROWS)
        out(row_of(f"{name}, tier 1", await bench.script(PEER_ROWS, at_a_time), LIMITS[1][1]))
    return met


def main() -> int:
    """Bring both up, measure, take them down. 1 when a goal is missed."""
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as folder,
        Postgres(Path(folder) / "postgres") as postgres,
        Provider(Path(folder) / "provider", dimensions=DIMENSIONS) as provider,
    ):
        dsn = postgres.create_database("bench")
        postgres.sql("CREATE EXTENSION vector", "bench")
        met = asyncio.run(measure(Bench(dsn, provider)))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"seconds are the provider's; at most {most} MB in this process\n")
    sys.stdout.write(f"goal: {MOST_MAKESPAN}, no 429, {MOST_REQUESTS} of the fewest: {'met' if met else 'MISSED'}\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
