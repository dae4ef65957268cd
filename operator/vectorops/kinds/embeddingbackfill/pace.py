"""Rows a second, for `rateLimits.rowsPerSecond`: asked before rows are sent for or copied, never before a write.

What is paid for is written at once; so rows are let go to the provider no faster than they may be written.
"""

from __future__ import annotations

import asyncio
import time


class Pace:
    """A second's rows at a time, and the next when these are due. None is unlimited."""

    def __init__(self, per_second: int | None = None) -> None:
        self.per_second = per_second
        self._free_at = 0.0

    def most(self, rows: int) -> int:
        """How many of these rows go at a time."""
        return rows if self.per_second is None else min(rows, self.per_second)

    async def admit(self, rows: int) -> None:
        """Wait until so many rows may go; those who come later wait for these as well."""
        if self.per_second is None:
            return
        now = time.monotonic()
        wait = max(0.0, self._free_at - now)
        self._free_at = now + wait + rows / self.per_second
        await asyncio.sleep(wait)
