"""A pool of VECTOR_POOL_MAX connections that can say truthfully how full it is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

ACQUIRE_SHARE = 0.5  # of the patience: then the pool is exhausted, and more waiting helps nobody


class Pool:
    """asyncpg's pool with the count that it does not keep: who waits."""

    def __init__(self, pool: asyncpg.Pool, size: int, patience: float) -> None:
        """`size` is the most connections; `patience` the seconds a statement may take."""
        self._pool, self._size, self._acquire_seconds = pool, size, patience * ACQUIRE_SHARE
        self._waiting = self._active = 0

    @classmethod
    async def open(cls, dsn: str, size: int, patience: float = 10.0) -> Pool:
        """Connect once, so that a wrong URL is seen at the start."""
        named = {"application_name": "api"}
        made = await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, command_timeout=patience, server_settings=named
        )
        return cls(made, size, patience)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy]:
        """One connection; TimeoutError when none is free in time."""
        self._waiting += 1
        try:
            held = await self._pool.acquire(timeout=self._acquire_seconds)
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
