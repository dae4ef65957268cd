"""Long work: one piece an object, its end wakes the owner, a stop lets go of what goes on without us."""

from __future__ import annotations

import asyncio

import pytest

from vectorops.errors import Stalled
from vectorops.runtime.work import Job, Work


async def test_there_is_never_a_second_piece_of_work_for_one_object() -> None:
    work, gate, begun = Work(lambda uid: None), asyncio.Event(), []

    async def run(job: Job) -> None:
        begun.append(job.name)
        await gate.wait()

    first = work.start("u1", "build", run)
    await asyncio.sleep(0)
    assert work.start("u1", "build", run) is first
    gate.set()
    assert first.task is not None
    await first.task
    assert begun == ["build"]


async def test_the_end_of_work_wakes_its_owner_who_finds_the_error() -> None:
    woken: list[str] = []
    work = Work(woken.append)

    async def run(job: Job) -> None:
        raise Stalled("DiskFull", "free some space")

    job = work.start("u1", "build", run)
    assert job.task is not None
    await job.task
    assert woken == ["u1"]
    assert isinstance(job.error, Stalled)
    work.forget("u1")
    assert work.find("u1") is None


async def test_a_stop_detaches_what_can_be_detached_and_cancels_only_the_rest() -> None:
    work, connection_closed, ended = Work(lambda uid: None), asyncio.Event(), []

    async def statement(job: Job) -> None:
        job.detach = connection_closed.set
        try:
            await connection_closed.wait()
        except asyncio.CancelledError:
            ended.append("statement cancelled: the server would abort the build")
            raise
        ended.append("statement let go")

    async def batches(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("batches cancelled")

    work.start("u1", "build", statement)
    work.start("u2", "embed", batches)
    await asyncio.sleep(0)
    await work.stop()
    assert sorted(ended) == ["batches cancelled", "statement let go"]


async def test_nothing_is_begun_while_stopping() -> None:
    work = Work(lambda uid: None)
    await work.stop()

    async def run(job: Job) -> None:
        raise AssertionError("must not run")

    with pytest.raises(asyncio.CancelledError):
        work.start("u1", "build", run)


async def test_who_waits_for_the_end_is_not_woken_and_who_gave_up_is() -> None:
    woken: list[str] = []
    work, gate = Work(woken.append), asyncio.Event()

    async def run(job: Job) -> str:
        await gate.wait()
        return "done"

    work.start("u1:count", "count", run)
    assert not await work.ended_within("u1:count", 0.0)
    gate.set()
    job = work.find("u1:count")
    assert job is not None and job.task is not None
    await job.task
    assert woken == ["u1"]
    work.start("u1:count", "count", run)
    assert await work.ended_within("u1:count", 5.0)
    assert woken == ["u1"], "it knows already"
