"""Notice a dead watch, and tell when the first listing was taken in.

A watch can end or fall silent without an error. So every half minute the objects are listed (metadata only, from the
API server's cache, no write) and compared with what the watch delivered. An object that the watch still owes after a
second look, while nothing of what it owed has come, or a watcher that no longer runs, fails `/healthz`, and Kubernetes
restarts the process. Slowness is no death: what is owed and shrinks is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from vectorops.errors import OperatorError, Stalled, frames
from vectorops.runtime.api import in_each
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops
from vectorops.runtime.probes.health import Health
from vectorops.runtime.tracked import older

if TYPE_CHECKING:
    from vectorops.clients.kubernetes import Kubernetes

logger = logging.getLogger(__name__)

PERIOD = 30.0  # seconds: two looks stay below the minute after which a probe should act
FIRST = 0.2  # seconds between looks until the first listing was taken in
LOST_AFTER = 600.0  # seconds after which an object that is owed is lost, whatever else arrives


class Watchdog:
    """Compares the resource versions of the world with those delivered: annotations move no generation."""

    def __init__(
        self,
        kinds: Collection[Kind[Any, Any, Any]],
        namespaces: Collection[str],
        kubernetes: Kubernetes,
        loops: Loops,
        health: Health,
        watching: Callable[[Kind[Any, Any, Any]], bool],
        period: float = PERIOD,
        clock: Callable[[], float] = time.monotonic,
        also: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`also`: another look to take each time."""
        self._kinds, self._namespaces = kinds, namespaces
        self._kubernetes, self._loops, self._health = kubernetes, loops, health
        self._watching, self._period, self._clock = watching, period, clock
        self._also = also
        self._owed: dict[str, tuple[str, float]] = {}  # by uid: the version first owed, and since when
        self._silent: frozenset[str] = frozenset()
        self._unlisted: set[str] = set()
        self._told: str | None = None

    async def run(self) -> None:
        """Look for ever; the process decides by the probes what follows."""
        failures = 0
        while True:
            failures = 0 if await self._looked() else failures + 1
            first = min(self._period, FIRST * 2.0 ** min(failures, 16))
            await asyncio.sleep(self._period if self._health.not_ready is None else first)

    async def _looked(self) -> bool:
        try:
            await self.look()
            if self._also is not None:
                await self._also()
        except OperatorError as error:
            self._blind(error)
            return False
        except Exception as error:  # a watchdog that dies of a surprise would be the silence it is there to notice
            logger.error("the watchdog's look failed: %s", frames(error))
            return False
        if self._told is not None:
            logger.info("the API server answers the watchdog again")
            self._told = None
        return True

    async def look(self) -> None:
        """One comparison."""
        silent = frozenset(k.names.plural for k in self._kinds if not self._watching(k))
        if self._health.not_ready is not None and silent:
            return  # still starting: nothing to compare with yet
        listed, delivered = await self._list(), self._loops.delivered()
        await self._end_unlisted(listed)
        behind = self._behind(listed, delivered)
        if self._health.not_ready is not None:
            if listed.keys() <= delivered.keys():
                logger.info("ready: every kind is watched and its first listing taken in")
                self._health.not_ready = None
        elif dead := silent & self._silent:
            self._health.dead_watch = f"no watcher runs for {', '.join(sorted(dead))}"
        elif behind:
            self._health.dead_watch = f"the watch has not delivered {behind} changed object(s)"
        elif not silent:
            self._health.dead_watch = None
        self._silent = silent

    def _behind(self, listed: dict[str, str], delivered: dict[str, str]) -> int:
        """How many objects are owed although they should have come by now."""
        now, before, owed = self._clock(), self._owed, {}
        moving = any(uid not in listed or _came(delivered.get(uid), version) for uid, (version, _) in before.items())
        for uid, version in listed.items():
            if not _came(delivered.get(uid), version):
                first = before.get(uid)
                still = first is not None and not _came(delivered.get(uid), first[0])
                owed[uid] = first if first is not None and still else (version, now)
        self._owed = owed
        overdue = [since for _, since in owed.values() if since < now]
        return sum(now - since >= LOST_AFTER for since in overdue) if moving else len(overdue)

    async def _end_unlisted(self, listed: dict[str, str]) -> None:
        """Objects deleted while the watch was away: nobody delivers that. Two looks, for listing and watch race.

        A listing may be of a cache that lags by minutes, and what ends with an object is not begun again for free: so
        each is asked for by name, which is answered from the store itself.
        """
        followed = {tracked.subject.uid: tracked for tracked in self._loops if tracked.subject.uid not in listed}
        for uid in followed.keys() & self._unlisted:
            subject = followed[uid].subject
            with contextlib.suppress(OperatorError):  # not known yet; the next look asks again
                plural = followed[uid].kind.names.plural
                present = await self._kubernetes.get(plural, subject.namespace, subject.name)
                if present is None or present["metadata"]["uid"] != uid:
                    self._loops.lost(uid)
        self._unlisted = set(followed)

    async def _list(self) -> dict[str, str]:
        """resourceVersion of every object that there is, by uid."""
        found: dict[str, str] = {}
        for kind in self._kinds:
            for namespace in in_each(self._namespaces):
                listing = await self._kubernetes.list(kind.names.plural, namespace)
                for item in listing.get("items") or []:
                    found[item["metadata"]["uid"]] = str(item["metadata"].get("resourceVersion", ""))
        return found

    def _blind(self, error: OperatorError) -> None:
        """Say so once, not at every look; where a person must act, `/readyz` says it too while it starts."""
        told = f"{error.reason}: {error.message}"
        if self._told != error.reason:
            self._told = error.reason
            logger.warning("the watchdog cannot list: %s", told)
        if isinstance(error, Stalled) and self._health.not_ready is not None:
            self._health.not_ready = told


def _came(delivered: str | None, version: str) -> bool:
    """Whether the watch has delivered that version, or a newer one."""
    return delivered is not None and not older(delivered, version)
