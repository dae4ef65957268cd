"""One supervised task per object, woken by what is seen of it and by the clock.

The first sight of an object starts its loop, its end ends it. Between passes a loop sleeps for what its plan asked;
a wake cuts that short. A turn of a VectorStore wakes every object that refers to it, finished long work its owner.
A task that ends while its object is there is begun again and counted: nobody else would notice that it is missing.
Nothing here speaks Kopf: events come in through `deliver`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from vectorops import logs, metrics
from vectorops.clients.foreign.budget import on_behalf_of
from vectorops.errors import frames
from vectorops.runtime.context import Context
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Kind
from vectorops.runtime.passes.pace import BACKOFF_CAP, backoff
from vectorops.runtime.passes.permits import Permits
from vectorops.runtime.reconcile import one_pass
from vectorops.runtime.store import STORE_KIND
from vectorops.runtime.tracked import Tracked

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # for the passes that are under way when the process stops; they are cancelled, and close sessions


class ObjectLoop:
    """The loop of one object. `version` is the resourceVersion that the watch delivered last, taken over or not."""

    def __init__(self, loops: Loops, tracked: Tracked, version: str) -> None:
        self._loops = loops
        self.tracked = tracked
        self.version = version
        self.ended_early = 0
        self._woken = asyncio.Event()
        self.task = self._begin()

    def wake(self) -> None:
        """Have the next pass now."""
        self._woken.set()

    def _begin(self, pause: float = 0.0) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(pause), name=f"loop {self.tracked.ref}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whatever ended the task, a cancellation that leaked out of an inner one say, its object is still there."""
        if self.tracked.gone or self._loops.stopping:
            return
        self.ended_early += 1
        kind = self.tracked.kind.names.kind
        ended_by = None if task.cancelled() else task.exception()
        why = "cancelled" if task.cancelled() else type(ended_by).__name__ if ended_by else "returned"
        logger.error("%s: its loop ended early (%s) and is begun again", self.tracked.ref, why)
        metrics.loop_restarted(kind)
        self.task = self._begin(backoff(self.ended_early))

    async def _run(self, pause: float) -> None:
        subject = self.tracked.subject
        logs.about(subject.kind, subject.namespace, subject.name, subject.uid)
        on_behalf_of(subject.namespace)
        await asyncio.sleep(pause)
        while not self.tracked.gone:
            self._woken.clear()
            try:
                await asyncio.sleep(self.tracked.pace.wait(self.tracked.now()))
                async with self._loops.permits.one(*self.tracked.neighbour):
                    delay = await self._pass()
                self.ended_early = 0
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
        self.permits = Permits()
        self._recorder = Recorder()
        self._period = progress_period
        self._loops: dict[str, ObjectLoop] = {}
        self._untaken: dict[str, str] = {}  # versions by uid: heard, and not understood
        self._counts: Counter[str] = Counter()
        self._followers = Followers()
        self._ending: set[asyncio.Task[None]] = set()
        self.stopping = False

    def __iter__(self) -> Iterator[Tracked]:
        return (loop.tracked for loop in self._loops.values())

    def delivered(self) -> dict[str, str]:
        """The resourceVersion that the watch delivered last, by uid. Our own writes do not count: it owes those too."""
        return {uid: loop.version for uid, loop in self._loops.items()} | self._untaken

    def deliver(self, kind: Kind[Any, Any, Any], body: dict[str, Any], *, deleted: bool) -> None:
        """Take in one sight of an object. One that cannot be is that object's trouble: the watch has brought it."""
        if self.stopping:
            return
        uid = body["metadata"]["uid"]
        self._untaken.pop(uid, None)
        if deleted:
            self.lost(uid)
            return
        try:
            self._take(kind, body)
        except Exception as error:
            logger.error("a %s (uid %s) was not taken in: %s", kind.names.kind, uid, frames(error))
            metrics.failed(kind.names.kind, type(error).__name__)
            self._untaken[uid] = str(body["metadata"].get("resourceVersion", ""))

    def _take(self, kind: Kind[Any, Any, Any], body: dict[str, Any]) -> None:
        meta = body["metadata"]
        uid, is_store = meta["uid"], kind.names.kind == STORE_KIND
        if is_store:
            self.ctx.stores.seen(meta["namespace"], meta["name"], body)
        self._followers.note(uid, body)
        version = str(meta.get("resourceVersion", ""))
        loop = self._loops.get(uid)
        if loop is None:
            tracked = Tracked.begin(kind, body, self._recorder, self._period)
            self._loops[uid] = ObjectLoop(self, tracked, version)
            self._count(kind.names.kind, 1)
        else:
            loop.version = version
            if not loop.tracked.offer(body):
                return
            loop.wake()
        if is_store:
            self.store_turned(meta["namespace"], meta["name"])

    def lost(self, uid: str) -> None:
        """The object of that uid is gone: end its loop and its work. Safe to say twice."""
        self._untaken.pop(uid, None)
        loop = self._loops.get(uid)
        if loop is None or self.stopping:
            return
        self._end(uid)
        subject = loop.tracked.subject
        if loop.tracked.kind.names.kind == STORE_KIND:
            self.ctx.stores.seen(subject.namespace, subject.name, None, uid)
            self.store_turned(subject.namespace, subject.name)

    def held(self, namespace: str, name: str) -> bool:
        """Whether an object that names that VectorStore holds our finalizer."""
        of_store = (self._loops[uid].tracked for uid in self._followers.of(namespace, name) if uid in self._loops)
        return any(tracked.subject.has_finalizer for tracked in of_store)

    def wake(self, uid: str) -> None:
        """Wake the object of that uid, if it is followed."""
        loop = self._loops.get(uid)
        if loop is not None:
            loop.wake()

    def store_turned(self, namespace: str, name: str) -> None:
        """Wake every object that refers to that VectorStore."""
        for uid in self._followers.of(namespace, name):
            self.wake(uid)

    async def stop(self) -> None:
        """End all loops, without touching long work: that was let go of before."""
        self.stopping = True
        tasks = [loop.task for loop in self._loops.values()] + list(self._ending)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)

    def _end(self, uid: str) -> None:
        loop = self._loops.pop(uid, None)
        if loop is None:
            return
        tracked = loop.tracked
        tracked.gone = True
        loop.wake()
        kind = tracked.kind
        self._followers.forget(uid)
        self._count(kind.names.kind, -1)
        metrics.forget(kind.names.kind, tracked.subject.namespace, tracked.subject.name)
        self.ctx.stores.released()
        task = asyncio.create_task(self._ended(kind, tracked), name=f"end {tracked.ref}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, kind: Kind[Any, Any, Any], tracked: Tracked) -> None:
        subject = tracked.subject
        logs.about(subject.kind, subject.namespace, subject.name, subject.uid)
        on_behalf_of(subject.namespace)
        try:
            if kind.stop is not None:
                await kind.stop(self.ctx, tracked.subject)
        except Exception as error:  # nobody is left to tell; what goes on in the server is found by the next object
            logger.warning("%s: its work was not ended: %s", tracked.ref, frames(error))
        finally:
            self.ctx.work.disown(subject.uid)

    def _count(self, kind: str, by: int) -> None:
        self._counts[kind] += by
        metrics.objects(kind, self._counts[kind])


class Followers:
    """Which objects name which VectorStore: a turn of one of a thousand wakes its own and looks at no others."""

    def __init__(self) -> None:
        self._store: dict[str, tuple[str, str]] = {}
        self._uids: dict[tuple[str, str], set[str]] = {}

    def note(self, uid: str, body: dict[str, Any]) -> None:
        """Take in what an object refers to now."""
        ref = (body.get("spec") or {}).get("storeRef") or {}
        at = (body["metadata"]["namespace"], str(ref.get("name", "")))
        if self._store.get(uid) == at:
            return
        self.forget(uid)
        if at[1]:
            self._store[uid] = at
            self._uids.setdefault(at, set()).add(uid)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        at = self._store.pop(uid, None)
        if at is not None:
            self._uids[at].discard(uid)
            if not self._uids[at]:
                del self._uids[at]

    def of(self, namespace: str, name: str) -> tuple[str, ...]:
        """The uids of those that name that store."""
        return tuple(self._uids.get((namespace, name), ()))


def _signature(tracked: Tracked) -> tuple[tuple[str, str, str], ...]:
    return tuple((c["type"], c["status"], c["reason"]) for c in tracked.written.get("conditions", []))
