"""What is owed and shrinks is slow; what is owed and does not is a dead watch, whatever was changed of the object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vectorops.errors import OperatorError, Reason, Stalled, Transient
from vectorops.runtime.probes.health import Health
from vectorops.runtime.probes.watchdog import FIRST, LOST_AFTER, PERIOD, Watchdog

KIND: Any = SimpleNamespace(names=SimpleNamespace(plural="words"))


class World:
    """What the API server lists, what the watch has delivered, and a watchdog that looks every half minute."""

    def __init__(self) -> None:
        self.listed: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        self.ended: list[str] = []
        self.stored: dict[str, str] = {}  # uid by name of what a listing lacks
        self.gets: list[str] = []
        self.error: OperatorError | None = None
        self.watched, self.now, self.lists = True, 0.0, 0
        self.health = Health()
        self.watchdog = Watchdog(
            [KIND],
            (),
            self,
            self,
            self.health,
            lambda _: self.watched,
            clock=lambda: self.now,  # type: ignore[arg-type]
        )

    async def list(self, plural: str, namespace: str | None) -> dict[str, Any]:
        self.lists += 1
        if self.error is not None:
            raise self.error
        items = [{"metadata": {"uid": u, "resourceVersion": str(v), "generation": 1}} for u, v in self.listed.items()]
        return {"items": items}

    def __iter__(self) -> Any:
        subjects = [SimpleNamespace(uid=uid, namespace="shop", name=f"w{uid}") for uid in self.heard]
        return iter([SimpleNamespace(subject=subject, kind=KIND) for subject in subjects])

    async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.gets.append(name)
        if self.error is not None:
            raise self.error
        return {"metadata": {"uid": self.stored[name]}} if name in self.stored else None

    def delivered(self) -> dict[str, str]:
        return {uid: str(version) for uid, version in self.heard.items()}

    def lost(self, uid: str) -> None:
        self.ended.append(uid)
        self.heard.pop(uid, None)

    async def look(self) -> str | None:
        self.now += PERIOD
        await self.watchdog.look()
        return self.health.alive()


@pytest.fixture
async def world() -> World:
    made = World()
    made.listed = {str(n): 100 + n for n in range(600)}
    made.heard = dict(made.listed)
    await made.look()
    assert made.health.not_ready is None
    return made


async def test_it_is_ready_when_every_listed_object_was_delivered_once() -> None:
    world = World()
    world.listed = {"a": 7, "b": 8}
    world.heard = {"a": 7}
    await world.look()
    assert world.health.not_ready is not None
    world.heard = {"a": 7, "b": 5}  # b was written again meanwhile: that is owed, and not what ready means
    await world.look()
    assert world.health.not_ready is None


async def test_a_bulk_edit_that_is_delivered_slowly_is_never_a_dead_watch(world: World) -> None:
    world.listed = {uid: version + 1000 for uid, version in world.listed.items()}
    for uid in list(world.listed)[::2]:  # two a look: forty times slower than ever seen
        assert await world.look() is None
        world.heard[uid] = world.listed[uid]
        if world.now > LOST_AFTER - PERIOD:
            return


async def test_what_is_owed_and_does_not_shrink_is_a_dead_watch(world: World) -> None:
    world.listed["7"] += 1000
    assert await world.look() is None, "one look may be early"
    assert "has not delivered 1 changed" in str(await world.look())
    world.heard["7"] = world.listed["7"]
    assert await world.look() is None


async def test_an_annotation_moves_no_generation_and_is_owed_all_the_same(world: World) -> None:
    """The listing above always says generation 1: only the version tells."""
    world.listed["7"] += 1000
    await world.look()
    assert await world.look() is not None


async def test_an_object_that_is_changed_at_every_look_is_owed_since_its_first_change(world: World) -> None:
    world.listed["7"] += 1000
    await world.look()
    world.listed["7"] += 1000
    assert await world.look() is not None


async def test_an_object_that_is_written_all_the_time_and_delivered_a_little_late_is_fine(world: World) -> None:
    for _ in range(50):
        world.heard["7"] = world.listed["7"]
        world.listed["7"] += 1000
        assert await world.look() is None


async def test_one_object_that_is_lost_among_many_that_arrive_is_found_in_the_end(world: World) -> None:
    world.listed["lost"] = 9
    seen = []
    while world.now < LOST_AFTER + 4 * PERIOD:
        world.heard["7"] = world.listed["7"]
        world.listed["7"] += 1000
        seen.append(await world.look())
    assert seen[2] is None
    assert seen[-1] is not None


async def test_a_watcher_that_is_missing_twice_is_dead_and_once_is_being_begun_anew(world: World) -> None:
    world.watched = False
    assert await world.look() is None
    world.watched = True
    assert await world.look() is None
    world.watched = False
    await world.look()
    assert "no watcher runs for words" in str(await world.look())


async def test_a_vanished_object_is_ended_after_two_looks(world: World) -> None:
    del world.listed["7"]
    await world.look()
    assert world.ended == []
    await world.look()
    assert world.ended == ["7"]
    assert world.gets == ["w7"]


async def test_an_object_that_only_a_listing_lacks_is_not_ended(world: World) -> None:
    """A cache that lags must not cancel a build; whoever bears the name of one that is gone does not keep it."""
    world.stored = {"w7": "7", "w8": "another"}
    del world.listed["7"], world.listed["8"]
    for _ in range(4):
        await world.look()
    assert world.ended == ["8"]
    world.listed["7"] = 107
    assert await world.look() is None


async def test_an_object_that_cannot_be_asked_for_is_not_ended_yet(world: World) -> None:
    del world.listed["7"]
    await world.look()
    world.error = Transient(Reason.KubernetesUnavailable, "503")
    await world.watchdog._end_unlisted({uid: "" for uid in world.listed})
    assert world.ended == []
    world.error = None
    await world.look()
    assert world.ended == ["7"]


@pytest.mark.parametrize(
    "error", [Transient(Reason.KubernetesUnavailable, "503"), Stalled(Reason.RBACMissing, "no right")]
)
async def test_an_api_server_that_fails_is_asked_ever_more_seldom_and_is_no_dead_watch(
    error: OperatorError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.error = error

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        world.now += seconds
        assert seconds >= FIRST
        if world.now > 600:
            raise Enough

    monkeypatch.setattr("vectorops.runtime.probes.watchdog.asyncio.sleep", sleep)
    with pytest.raises(Enough):
        await world.watchdog.run()
    assert world.lists < 40, "ten minutes, starting: not five a second"
    assert world.health.dead_watch is None
    assert caplog.text.count("cannot list") == 1
