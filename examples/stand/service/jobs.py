"""The service's own backfill: one job at a time, batch after batch, slow. What EmbeddingBackfill does better."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import asyncpg

from stand.embed import vector_literal
from stand.service.embedding import EmbeddingFailed, Embeddings
from stand.service.pool import Pool

MOST_BATCH = 100
TOUCHED = "SELECT id, title || E'\\n\\n' || description AS text FROM products \
WHERE id > $1 AND ($2 OR embedding IS NULL) ORDER BY id LIMIT $3"
WRITE = "UPDATE products SET embedding = $2::text::vector, updated_at = now() WHERE id = $1"


@dataclass(frozen=True)
class Job:
    """What was asked for."""

    limit: int | None
    batch: int
    force: bool


class Jobs:
    """A queue and one worker."""

    def __init__(self, pool: Pool, embeddings: Embeddings) -> None:
        """Call `start`."""
        self._pool, self._embeddings = pool, embeddings
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._active = self._completed = self._failed = self._begun = 0

    def start(self) -> None:
        """Begin to take jobs."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End after the batch in hand is lost: the next run finds its rows missing."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def ask(self, limit: int | None, batch: int, *, force: bool) -> str:
        """Queue a job; returns its name."""
        self._begun += 1
        self._queue.put_nowait(Job(limit, max(1, min(batch, MOST_BATCH)), force))
        return f"backfill-{self._begun}"

    def status(self) -> dict[str, int]:
        """As `/api/embeddings/jobs/status` says it."""
        return {
            "waiting": self._queue.qsize(),
            "active": self._active,
            "completed": self._completed,
            "failed": self._failed,
        }

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            self._active = 1
            try:
                await self._run(job)
                self._completed += 1
            except (EmbeddingFailed, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._failed += 1
            finally:
                self._active = 0

    async def _run(self, job: Job) -> None:
        last, left = 0, job.limit
        while left is None or left > 0:
            async with self._pool.connection() as held:
                rows = await held.fetch(TOUCHED, last, job.force, min(job.batch, left or job.batch))
            if not rows:
                return
            vectors = await self._embeddings.passages([row["text"] for row in rows])
            async with self._pool.connection() as held:
                pairs = zip(rows, vectors, strict=True)
                await held.executemany(WRITE, [(row["id"], vector_literal(vector)) for row, vector in pairs])
            last, left = rows[-1]["id"], None if left is None else left - len(rows)
