"""The task of an object is supervised, and a turn of a store wakes its own dependants only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import Field

from vectorops.errors import Means, Reasons
from vectorops.runtime import loops as module
from vectorops.runtime.api import ApiModel, CommonStatus, ShortText
from vectorops.runtime.context import utc_now
from vectorops.runtime.kind import Family, Kind, Names, Outcome, Verdict
from vectorops.runtime.loops import Followers, Loops


class Words(ApiModel):
    """A spec."""

    words: ShortText = Field(default="", description="Some.")


class Why(Reasons):
    """Reasons."""

    Fine = "Fine", "Nothing.", Means.GOOD


def kind(observe: Callable[..., Any], name: str = "Word") -> Kind[Any, Any, Any]:
    async def act(*_: Any) -> Outcome:
        return Outcome()

    return Kind(
        names=Names(name, "words", "word", "wrd"),
        family=Family.STANDING,
        room=__name__,
        spec=Words,
        status=CommonStatus,
        reasons=Why,
        columns=(),
        observe=observe,
        checks=(lambda view: Verdict(Why.Fine, "", ready="True", look_again=3600.0),),
        act=act,
        figures=lambda view: CommonStatus(),
    )


def body(name: str = "a", version: int = 10, **spec: Any) -> dict[str, Any]:
    meta = {
        "namespace": "shop", "name": name, "uid": f"uid-{name}", "generation": 1, "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip
    return {"metadata": meta, "spec": spec}


class Kubernetes:
    """As much of the API server as a pass writes to."""

    async def replace_status(self, *arguments: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "11"}}

    async def create_event(self, *_: Any) -> str:
        return "event"


@pytest.fixture
async def loops(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loops]:
    monkeypatch.setattr(module, "backoff", lambda failures: 0.0)
    made = Loops(timedelta(0))
    stores = SimpleNamespace(released=lambda: None)
    made.ctx = SimpleNamespace(  # type: ignore[assignment]
        kubernetes=Kubernetes(), clock=utc_now, progress_deadline=timedelta(seconds=600), stores=stores
    )
    yield made
    await made.stop()


async def until(seen: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not seen():
            await asyncio.sleep(0.001)


def restarts(kind: str) -> float:
    return REGISTRY.get_sample_value("vectorops_loop_restarts_total", {"kind": kind}) or 0.0


async def test_a_loop_that_a_leaked_cancellation_ended_is_begun_again_and_counted(
    loops: Loops, caplog: pytest.LogCaptureFixture
) -> None:
    passes = 0

    async def observe(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if passes <= 2:
            raise asyncio.CancelledError  # of an inner task that somebody cancelled
        await asyncio.sleep(0)

    before = restarts("Leaky")
    loops.deliver(kind(observe, "Leaky"), body(), deleted=False)
    await until(lambda: passes == 3)
    assert restarts("Leaky") - before == 2
    assert "its loop ended early (cancelled)" in caplog.text
    loops.deliver(kind(observe, "Leaky"), body(version=20, words="new"), deleted=False)
    await until(lambda: passes == 4)


async def test_the_loop_of_a_deleted_object_is_not_begun_again(loops: Loops) -> None:
    seen = asyncio.Event()

    async def observe(*_: Any) -> None:
        seen.set()

    word = kind(observe, "Short")
    loops.deliver(word, body(), deleted=False)
    await seen.wait()
    [loop] = loops._loops.values()
    loops.deliver(word, body(version=12), deleted=True)
    async with asyncio.timeout(5):
        await loop.task
    await asyncio.sleep(0)
    assert loop.task.done()
    assert restarts("Short") == 0


async def test_what_the_watch_delivered_is_remembered_beside_what_we_wrote(loops: Loops) -> None:
    """Our own write of status answers with a newer version, which the watch still owes."""

    async def observe(*_: Any) -> None:
        pass

    loops.deliver(kind(observe), body(version=10), deleted=False)
    [tracked] = loops
    await until(lambda: tracked.resource_version == "11")
    assert loops.delivered() == {"uid-a": "10"}


async def test_an_object_that_cannot_be_taken_in_is_heard_all_the_same(
    loops: Loops, caplog: pytest.LogCaptureFixture
) -> None:
    """One body must not look like a dead watch, for which the whole process is restarted; another body mends it."""

    async def observe(*_: Any) -> None:
        pass

    bad = body(version=10)
    bad["metadata"]["creationTimestamp"] = "0000-01-01T00:00:00Z"
    loops.deliver(kind(observe), bad, deleted=False)
    assert loops.delivered() == {"uid-a": "10"}
    assert "was not taken in" in caplog.text
    loops.deliver(kind(observe), body(version=12), deleted=False)
    assert loops.delivered() == {"uid-a": "12"}
    loops.deliver(kind(observe), {**bad, "metadata": {**bad["metadata"], "uid": "other"}}, deleted=False)
    loops.lost("other")
    assert loops.delivered() == {"uid-a": "12"}


def test_followers_are_those_that_name_the_store_now() -> None:
    followers = Followers()
    for name, store in (("a", "one"), ("b", "one"), ("c", "two")):
        followers.note(f"uid-{name}", body(name, storeRef={"name": store}))
    assert set(followers.of("shop", "one")) == {"uid-a", "uid-b"}
    assert followers.of("elsewhere", "one") == ()
    followers.note("uid-b", body("b", storeRef={"name": "two"}))
    assert set(followers.of("shop", "two")) == {"uid-b", "uid-c"}
    for uid in ("uid-a", "uid-b", "uid-c", "unknown"):
        followers.forget(uid)
    assert followers.of("shop", "two") == followers.of("shop", "one") == ()
    assert not followers._uids
