"""A pool of VECTOR_POOL_MAX connections that can say truthfully how full it is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

ACQUIRE_SECONDS = 5.0  # a search that waits longer is refused: the pool is exhausted, and more waiting helps nobody
STATEMENT_SECONDS = 10.0


class Pool:
    """asyncpg's pool with the count that it does not keep: who waits."""

    def __init__(self, pool: asyncpg.Pool, size: int) -> None:
        """`size` is the most connections."""
        self._pool, self._size = pool, size
        self._waiting = self._active = 0

    @classmethod
    async def open(cls, dsn: str, size: int) -> Pool:
        """Connect once, so that a wrong URL is seen at the start."""
        named = {"application_name": "api"}
        made = await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, command_timeout=STATEMENT_SECONDS, server_settings=named
        )
        return cls(made, size)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy]:
        """One connection; TimeoutError when none is free in time."""
        self._waiting += 1
        try:
            held = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        finally:
            self._waiting -= 1
        self._active += 1
        try:
            yield held
        finally:
            self._active -= 1
            await self._pool.release(held)

    def stats(self) -> dict[str, float]:
        """As `/api/performance/pool/stats` says it; utilization is a fraction."""
        return {
            "max": self._size,
            "active": self._active,
            "idle": self._pool.get_idle_size(),
            "waiting": max(0, self._waiting - self._pool.get_idle_size()),
            "utilization": round(self._active / self._size, 3),
        }

    def health(self) -> str:
        """healthy, degraded or critical, by the runbook's thresholds."""
        used = 100 * self._active / self._size
        return "critical" if used > 95 else "degraded" if used > 80 else "healthy"
