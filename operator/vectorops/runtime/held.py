"""What is open for the VectorStores that are there: closed when the last store lets go of it, and never opened again.

A store holds the database it names and the standby it reads from. Both go when the store goes, or when its Secret names
another one. Refused: anything for a store that is gone, which a pass that began before would open and nobody close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from vectorops.clients.postgres import Database, Databases
from vectorops.errors import Reason, Stalled

MOST_GONE = 4096
"""Uids of stores that are gone: a pass that began before has ended long before so many more have gone."""

At: TypeAlias = tuple[str, str]  # namespace and name


class Held:
    """Databases by the store that holds them."""

    def __init__(self, databases: Databases, let_go: Callable[[Database], object]) -> None:
        """`let_go` is told of each database that no store holds any more."""
        self._databases, self._told = databases, let_go
        self.primaries: dict[At, Database] = {}
        self.readers: dict[At, Database] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._gone: dict[str, None] = {}  # uids, the latest last

    def check(self, uid: str, name: str) -> None:
        """Raises Stalled(StoreNotFound) for a store that is gone."""
        if uid in self._gone:
            text = f"VectorStore {name} was deleted. {Reason.StoreNotFound.next_step}"
            raise Stalled(Reason.StoreNotFound, text)

    def there(self, uid: str) -> None:
        """The watch has seen it, perhaps again: a look that missed it may have been told first."""
        self._gone.pop(uid, None)

    def take(self, held: dict[At, Database], at: At, present: Database | None) -> None:
        """The store holds `present` there instead of what it held."""
        former = held.pop(at, None)
        if present is not None:
            held[at] = present
        if former is not None and former not in held.values():
            self._told(former)
            self.close(self._databases.discard(former))

    def gone(self, at: At, uid: str | None) -> None:
        """The store is gone."""
        if uid is not None:
            self.ended(uid)
        self.take(self.primaries, at, None)
        self.take(self.readers, at, None)

    def ended(self, uid: str) -> None:
        """That store is gone, whatever bears its name now."""
        self._gone[uid] = None
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def close(self, closing: Coroutine[Any, Any, None]) -> None:
        """Have something closed beside what goes on."""
        task = asyncio.ensure_future(closing)
        self._closing.add(task)  # or the garbage collector may take it before it ran
        task.add_done_callback(self._closing.discard)
