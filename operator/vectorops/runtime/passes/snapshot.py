"""One reading of a database's catalogue, shared by all passes that accept its age."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from vectorops.clients.catalogue import Catalogue, read_catalogue
from vectorops.clients.postgres import Database
from vectorops.logs import apart

SHARED_FAILURE_SECONDS = 5.0
"""A database that did not answer is not asked again by each of a hundred dependants in turn, ten seconds apiece."""


@dataclass
class Snapshot:
    """One reading, under way or done."""

    begun: float
    task: asyncio.Task[Catalogue]

    @classmethod
    def begin(cls, database: Database, now: float) -> Snapshot:
        """Begin to read."""
        task = asyncio.create_task(read_catalogue(database), name="catalogue", context=apart())
        task.add_done_callback(_retrieve)
        return cls(now, task)

    def serves(self, now: float, max_age: float) -> bool:
        """Whether someone who accepts `max_age` seconds may have it."""
        if not self.task.done():
            return True
        if self.task.cancelled():
            return False
        failed = self.task.exception() is not None
        return now - self.begun < (min(max_age, SHARED_FAILURE_SECONDS) if failed else max_age)


def _retrieve(task: asyncio.Task[Catalogue]) -> None:
    """Look at the outcome even when whoever asked is gone, or asyncio complains about an error nobody saw."""
    if not task.cancelled():
        task.exception()
