"""The query cache: the process's own memory (L1), then a Postgres table that all replicas share (L2); both expire."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict, deque
from typing import Any

from stand.service.pool import Pool

WINDOW_SECONDS = 300.0  # the hit rate is that of the last five minutes, not of all time

CREATE = """
CREATE UNLOGGED TABLE IF NOT EXISTS search_cache.query (
    key        text PRIMARY KEY,
    answer     jsonb NOT NULL,
    expires_at timestamptz NOT NULL
)
"""
GET = "SELECT answer, extract(epoch FROM expires_at - now())::float8 AS left FROM search_cache.query \
WHERE key = $1 AND expires_at > now()"
PUT = "INSERT INTO search_cache.query VALUES ($1, $2, now() + make_interval(secs => $3)) \
ON CONFLICT (key) DO UPDATE SET answer = excluded.answer, expires_at = excluded.expires_at"


def key_of(query: str, limit: int) -> str:
    """The same for a query however it is cased and spaced."""
    return hashlib.sha256(f"{limit}:{' '.join(query.lower().split())}".encode()).hexdigest()


class Cache:
    """Two levels; a hit in the second is put into the first."""

    def __init__(self, pool: Pool, ttl: float, most: int) -> None:
        """`ttl` in seconds, `most` entries in the process."""
        self._pool, self._ttl, self._most = pool, ttl, most
        self._first: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._lookups: deque[tuple[float, str]] = deque()
        self._hits = {"l1": 0, "l2": 0}
        self._misses = 0

    async def prepare(self) -> None:
        """Make the table, one replica at a time: CREATE IF NOT EXISTS races with itself."""
        async with self._pool.connection() as held, held.transaction():
            await held.execute("SELECT pg_advisory_xact_lock(hashtext('search_cache'))")
            await held.execute(CREATE)

    async def get(self, key: str) -> tuple[str | None, Any]:
        """(level, answer), or (None, None)."""
        level, answer = await self._look(key)
        self._lookups.append((time.monotonic(), level or "miss"))
        self._forget()
        if level is None:
            self._misses += 1
        else:
            self._hits[level] += 1
        return level, answer

    async def put(self, key: str, answer: Any) -> None:
        """Into both levels."""
        self._remember(key, answer, self._ttl)
        async with self._pool.connection() as held:
            await held.execute(PUT, key, json.dumps(answer), self._ttl)

    async def invalidate(self) -> int:
        """Empty both levels; returns how many entries of the shared level (or, if more, of ours) there were."""
        ours = len(self._first)
        self._first.clear()
        async with self._pool.connection() as held:
            return max(ours, int((await held.execute("DELETE FROM search_cache.query")).split()[-1]))

    async def clean_up(self) -> int:
        """Remove what has expired; returns how many entries of the shared level (or, if more, of ours) there were."""
        now = time.monotonic()
        expired = [key for key, (until, _) in self._first.items() if until <= now]
        for key in expired:
            del self._first[key]
        async with self._pool.connection() as held:
            told = await held.execute("DELETE FROM search_cache.query WHERE expires_at <= now()")
        return max(len(expired), int(told.split()[-1]))

    async def stats(self) -> dict[str, Any]:
        """As `/api/performance/cache/stats` says it; hitRate is a fraction, and absent while nothing was looked up."""
        self._forget()
        async with self._pool.connection() as held:
            shared = await held.fetchval("SELECT count(*) FROM search_cache.query")
        stats: dict[str, Any] = {
            "hits": sum(self._hits.values()),
            "misses": self._misses,
            "l1": {"hits": self._hits["l1"], "size": len(self._first)},
            "l2": {"hits": self._hits["l2"], "size": shared},
        }
        if self._lookups:
            hits = sum(1 for _, level in self._lookups if level != "miss")
            stats["hitRate"] = round(hits / len(self._lookups), 4)
        return stats

    def _forget(self) -> None:
        while self._lookups and self._lookups[0][0] < time.monotonic() - WINDOW_SECONDS:
            self._lookups.popleft()

    async def _look(self, key: str) -> tuple[str | None, Any]:
        until, answer = self._first.get(key, (0.0, None))
        if until > time.monotonic():
            self._first.move_to_end(key)
            return "l1", answer
        self._first.pop(key, None)
        async with self._pool.connection() as held:
            row = await held.fetchrow(GET, key)
        if row is None:
            return None, None
        answer = json.loads(row["answer"])
        self._remember(key, answer, row["left"])
        return "l2", answer

    def _remember(self, key: str, answer: Any, seconds: float) -> None:
        self._first[key] = (time.monotonic() + seconds, answer)
        self._first.move_to_end(key)
        while len(self._first) > self._most:
            self._first.popitem(last=False)
