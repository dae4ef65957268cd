"""Supervised long work: statements and loops that take longer than a pass may.

Started by act, seen by observe, never awaited inside a pass. A piece of work belongs to one object (its uid): there
is never a second one for the same object, but for what goes by another key, `uid:word`, and may run beside it. When it
ends, its owner is woken and finds `error` or `result` here until it forgets the work. Nothing here survives the
process: after a restart the world is observed, and what still runs in the database is adopted by the room that sent it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from vectorops import metrics

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """One piece of long work. The running coroutine may put what observe should see into `notes`."""

    uid: str
    name: str
    notes: dict[str, Any] = field(default_factory=dict)
    task: asyncio.Task[Any] | None = None
    quiet: bool = False  # somebody waits for its end, so that it need not wake its owner
    disowned: bool = False
    result: Any = None
    error: BaseException | None = None
    detach: Callable[[], None] | None = (
        None  # set by the coroutine: let go of the server at once, without cancelling it
    )

    @property
    def verb(self) -> str:
        """The first word of its name: few enough for a metric's label."""
        return self.name.split(" ", 1)[0]

    @property
    def running(self) -> bool:
        """Whether it has neither ended nor failed."""
        return self.task is not None and not self.task.done()


class Work:
    """All long work of this process, at most one piece an object."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._jobs: dict[str, Job] = {}
        self._stopping = False

    def find(self, uid: str) -> Job | None:
        """The object's work, running or ended, or None."""
        return self._jobs.get(uid)

    def running(self) -> list[Job]:
        """All that runs now."""
        return [job for job in self._jobs.values() if job.running]

    def start(self, uid: str, name: str, run: Callable[[Job], Awaitable[Any]]) -> Job:
        """Start `run(job)` for the object. Returns the present job instead while one runs; refuses while stopping."""
        present = self._jobs.get(uid)
        if present is not None and present.running:
            return present
        if self._stopping:
            raise asyncio.CancelledError
        job = Job(uid=uid, name=name)
        job.task = asyncio.create_task(self._supervise(job, run), name=f"work {name} {uid}")
        self._jobs[uid] = job
        self._count(job)
        return job

    def forget(self, uid: str) -> None:
        """Drop an ended job's outcome. A running one stays."""
        job = self._jobs.get(uid)
        if job is not None and not job.running:
            del self._jobs[uid]

    async def ended_within(self, uid: str, seconds: float) -> bool:
        """Wait for the work's end, at most so long. Whoever has waited is not woken; who gave up is, at the end."""
        job = self._jobs[uid]
        if job.task is not None and not job.task.done():
            job.quiet = True
            try:
                await asyncio.wait([job.task], timeout=seconds)
            finally:
                job.quiet = False
        return not job.running

    def disown(self, uid: str) -> None:
        """The object is gone: nobody will ask what became of its work, now or when it ends."""
        for key in [key for key in self._jobs if key.partition(":")[0] == uid]:
            self._jobs[key].disowned = True
            self.forget(key)

    async def cancel(self, uid: str) -> None:
        """Cancel the object's work and wait until it has ended; for work that may be interrupted anywhere."""
        job = self._jobs.get(uid)
        if job is None or job.task is None:
            return
        job.task.cancel()
        await asyncio.wait([job.task])
        self._jobs.pop(uid, None)

    async def stop(self, grace: float = 10.0) -> None:
        """Graceful stop: let go of what goes on without us first, then end the rest, at most `grace` seconds."""
        self._stopping = True
        running = self.running()
        for job in running:
            if job.detach is not None:
                job.detach()
            elif job.task is not None:
                job.task.cancel()
        tasks = [job.task for job in running if job.task is not None]
        if tasks:  # a detached one ends by itself, with the error of its closed connection
            await asyncio.wait(tasks, timeout=grace)

    async def _supervise(self, job: Job, run: Callable[[Job], Awaitable[Any]]) -> None:
        try:
            job.result = await run(job)
        except asyncio.CancelledError:
            job.error = asyncio.CancelledError()
            raise
        except Exception as exc:  # the owner's next pass turns it into a condition
            job.error = exc
            logger.debug("work %s of %s ended with %s", job.name, job.uid, type(exc).__name__)
        finally:
            asyncio.get_running_loop().call_soon(self._count, job)  # the task is done only after this frame
            if not self._stopping and not job.quiet:
                self._wake(job.uid.partition(":")[0])

    def _count(self, changed: Job) -> None:
        if changed.disowned and self._jobs.get(changed.uid) is changed:
            self.forget(changed.uid)
        metrics.work_running(changed.verb, sum(1 for job in self.running() if job.verb == changed.verb))
