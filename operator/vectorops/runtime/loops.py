"""One supervised task per object, woken by what is seen of it and by the clock.

The first sight of an object starts its loop, its end ends it. Between passes a loop sleeps for what its plan asked;
a wake cuts that short. A turn of a VectorStore wakes every object that refers to it, finished long work its owner.
Nothing here speaks Kopf: events come in through `deliver`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from vectorops import metrics
from vectorops.errors import frames
from vectorops.runtime.context import Context
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Kind
from vectorops.runtime.reconcile import BACKOFF_CAP, one_pass
from vectorops.runtime.store import STORE_KIND
from vectorops.runtime.tracked import Tracked

logger = logging.getLogger(__name__)

PASSES_AT_ONCE = 20  # of all objects: enough to keep a few databases busy, few enough to keep the loop responsive


class ObjectLoop:
    """The loop of one object."""

    def __init__(self, loops: Loops, tracked: Tracked) -> None:
        self._loops = loops
        self.tracked = tracked
        self._woken = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"loop {tracked.ref}")

    def wake(self) -> None:
        """Have the next pass now."""
        self._woken.set()

    async def _run(self) -> None:
        while not self.tracked.gone:
            self._woken.clear()
            try:
                async with self._loops.passes:
                    delay = await self._pass()
            except Exception as error:  # one_pass turns errors into conditions; what comes here is a bug of the runtime
                logger.error("%s: the pass itself failed: %s", self.tracked.ref, frames(error))
                metrics.failed(self.tracked.kind.names.kind, type(error).__name__)
                delay = BACKOFF_CAP / 10
            try:
                async with asyncio.timeout(delay):
                    await self._woken.wait()
            except TimeoutError:
                continue
        self._loops.lost(self.tracked.subject.uid)

    async def _pass(self) -> float:
        before = _signature(self.tracked)
        delay = await one_pass(self._loops.ctx, self.tracked)
        if self.tracked.kind.names.kind == STORE_KIND and before != _signature(self.tracked):
            self._loops.store_turned(self.tracked.subject.namespace, self.tracked.subject.name)
        return delay


class Loops:
    """All object loops of this process, by uid."""

    def __init__(self, progress_period: timedelta) -> None:
        self.ctx: Context  # set once by the composition root, before the first event
        self.passes = asyncio.Semaphore(PASSES_AT_ONCE)
        self._recorder = Recorder()
        self._period = progress_period
        self._loops: dict[str, ObjectLoop] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __iter__(self) -> Iterator[Tracked]:
        return (loop.tracked for loop in self._loops.values())

    def deliver(self, kind: Kind[Any, Any, Any], body: dict[str, Any], *, deleted: bool) -> None:
        """Take in one sight of an object."""
        if self._stopping:
            return
        meta = body["metadata"]
        uid, is_store = meta["uid"], kind.names.kind == STORE_KIND
        if deleted:
            self.lost(uid)
            return
        if is_store:
            self.ctx.stores.seen(meta["namespace"], meta["name"], body)
        loop = self._loops.get(uid)
        if loop is None:
            tracked = Tracked.begin(kind, body, self._recorder, self._period)
            self._loops[uid] = ObjectLoop(self, tracked)
            metrics.objects(kind.names.kind, self._count(kind))
        elif loop.tracked.offer(body):
            loop.wake()
        else:
            return
        if is_store:
            self.store_turned(meta["namespace"], meta["name"])

    def lost(self, uid: str) -> None:
        """The object of that uid is gone: end its loop and its work. Safe to say twice."""
        loop = self._loops.get(uid)
        if loop is None or self._stopping:
            return
        self._end(uid)
        subject = loop.tracked.subject
        if loop.tracked.kind.names.kind == STORE_KIND:
            self.ctx.stores.seen(subject.namespace, subject.name, None)
            self.store_turned(subject.namespace, subject.name)

    def wake(self, uid: str) -> None:
        """Wake the object of that uid, if it is followed."""
        loop = self._loops.get(uid)
        if loop is not None:
            loop.wake()

    def store_turned(self, namespace: str, name: str) -> None:
        """Wake every object that refers to that VectorStore."""
        for loop in self._loops.values():
            ref = loop.tracked.raw_spec.get("storeRef") or {}
            if loop.tracked.subject.namespace == namespace and ref.get("name") == name:
                loop.wake()

    async def stop(self) -> None:
        """End all loops, without touching long work: that was let go of before."""
        self._stopping = True
        tasks = [loop.task for loop in self._loops.values()] + list(self._ending)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def _end(self, uid: str) -> None:
        loop = self._loops.pop(uid, None)
        if loop is None:
            return
        tracked = loop.tracked
        tracked.gone = True
        loop.wake()
        kind = tracked.kind
        metrics.objects(kind.names.kind, self._count(kind))
        metrics.forget(kind.names.kind, tracked.subject.namespace, tracked.subject.name)
        if kind.stop is not None:
            task = asyncio.create_task(self._ended(kind, tracked), name=f"end {tracked.ref}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _ended(self, kind: Kind[Any, Any, Any], tracked: Tracked) -> None:
        assert kind.stop is not None
        try:
            await kind.stop(self.ctx, tracked.subject)
        except Exception as error:  # nobody is left to tell; what goes on in the server is found by the next object
            logger.warning("%s: its work was not ended: %s", tracked.ref, frames(error))

    def _count(self, kind: Kind[Any, Any, Any]) -> int:
        return sum(1 for loop in self._loops.values() if loop.tracked.kind is kind)


def _signature(tracked: Tracked) -> tuple[tuple[str, str, str], ...]:
    return tuple((c["type"], c["status"], c["reason"]) for c in tracked.written.get("conditions", []))
