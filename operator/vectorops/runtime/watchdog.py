"""Notice a dead watch, and tell when the first listing was taken in.

A watch can end or fall silent without an error. So every half minute the objects are listed (metadata only, from the
API server's cache, no write) and compared with what the watch delivered: an object that the watch still owes after a
second look, or a watcher that no longer runs, fails `/healthz`, and Kubernetes restarts the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from vectorops.errors import OperatorError, Stalled, frames
from vectorops.runtime.api import in_each
from vectorops.runtime.health import Health
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops

if TYPE_CHECKING:
    from vectorops.clients.kubernetes import Kubernetes

logger = logging.getLogger(__name__)

PERIOD = 30.0  # seconds: two looks stay below the minute after which a probe should act
FIRST = 0.2  # seconds between looks until the first listing was taken in


class Watchdog:
    """Compares the world's generations with those delivered."""

    def __init__(
        self,
        kinds: Collection[Kind[Any, Any, Any]],
        namespaces: Collection[str],
        kubernetes: Kubernetes,
        loops: Loops,
        health: Health,
        watching: Callable[[Kind[Any, Any, Any], Collection[str]], bool],
        period: float = PERIOD,
    ) -> None:
        self._kinds, self._namespaces = kinds, namespaces
        self._kubernetes, self._loops, self._health = kubernetes, loops, health
        self._watching, self._period = watching, period
        self._owed: set[tuple[str, int]] = set()
        self._unlisted: set[str] = set()

    async def run(self) -> None:
        """Look for ever; the process decides by the probes what follows."""
        while True:
            try:
                await self.look()
            except Stalled as error:
                self._refused(error)
            except OperatorError as error:
                logger.warning("the watchdog could not list: %s", error.reason)
            except Exception as error:  # a watchdog that dies of a surprise would be the silence it is there to notice
                logger.error("the watchdog's look failed: %s", frames(error))
            await asyncio.sleep(self._period if self._health.not_ready is None else FIRST)

    async def look(self) -> None:
        """One comparison."""
        if self._health.not_ready is not None and not all(self._watching(k, self._namespaces) for k in self._kinds):
            return  # still starting: nothing to compare with yet
        silent = [k.names.plural for k in self._kinds if not self._watching(k, self._namespaces)]
        owed = await self._undelivered()
        if not silent and not owed:
            if self._health.not_ready is not None:
                logger.info("ready: every kind is watched and its first listing taken in")
            self._health.not_ready = self._health.dead_watch = None
        elif self._health.not_ready is None:
            overdue = owed & self._owed
            if silent:
                self._health.dead_watch = f"no watcher runs for {', '.join(silent)}"
            elif overdue:
                self._health.dead_watch = f"the watch has not delivered {len(overdue)} changed object(s)"
        self._owed = owed

    async def _undelivered(self) -> set[tuple[str, int]]:
        followed = {tracked.subject.uid for tracked in self._loops}
        delivered = {tracked.subject.uid: tracked.delivered for tracked in self._loops}
        owed: set[tuple[str, int]] = set()
        for kind in self._kinds:
            for namespace in in_each(self._namespaces):
                listing = await self._kubernetes.list(kind.names.plural, namespace)
                for item in listing.get("items") or []:
                    uid, generation = item["metadata"]["uid"], int(item["metadata"].get("generation", 0))
                    followed.discard(uid)
                    if delivered.get(uid, -1) < generation:
                        owed.add((uid, generation))
        for uid in followed & self._unlisted:  # deleted while the watch was away: nobody delivers that
            self._loops.lost(uid)
        self._unlisted = followed
        return owed

    def _refused(self, error: Stalled) -> None:
        told = f"{error.reason}: {error.message}"
        if self._health.not_ready is None or self._health.not_ready != told:
            logger.error("cannot list: %s", error.message)
        if self._health.not_ready is not None:
            self._health.not_ready = told
