"""Who may be in a pass at once: a stranger's slow neighbour holds up nobody, and nothing is remembered afterwards."""

from __future__ import annotations

import asyncio

from vectorops.runtime.passes.permits import IN_ALL, OF_A_NAMESPACE, OF_A_STORE, Permits


class Crowd:
    """Passes that go on until they are let go, and how many are in."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._over = asyncio.Event()
        self.inside = 0
        self.tasks: list[asyncio.Task[None]] = []

    def come(self, namespace: str, store: str, number: int) -> None:
        self.tasks += [asyncio.create_task(self._pass(namespace, store)) for _ in range(number)]

    async def go(self) -> None:
        self._over.set()
        await asyncio.gather(*self.tasks)

    async def _pass(self, namespace: str, store: str) -> None:
        async with self._permits.one(namespace, store):
            self.inside += 1
            await self._over.wait()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_hundred_passes_at_one_silent_store_leave_room_for_the_tenants_others_and_for_strangers() -> None:
    permits = Permits()
    silent, other, stranger = Crowd(permits), Crowd(permits), Crowd(permits)
    silent.come("evil", "silent", 100)
    await turns()
    assert silent.inside == OF_A_STORE
    other.come("evil", "healthy", 1)
    stranger.come("good", "silent", 1)
    await turns()
    assert (other.inside, stranger.inside) == (1, 1), "the former code: twenty in all, and whoever comes later waits"
    for crowd in (silent, other, stranger):
        await crowd.go()
    assert silent.inside == 100
    assert permits.known() == 0


async def test_a_hundred_silent_stores_of_one_tenant_leave_room_for_strangers() -> None:
    permits = Permits()
    silent, stranger = Crowd(permits), Crowd(permits)
    for store in range(100):
        silent.come("evil", f"store-{store}", 1)
    await turns()
    assert silent.inside == OF_A_NAMESPACE < IN_ALL
    stranger.come("good", "store", 1)
    await turns()
    assert stranger.inside == 1
    await silent.go()
    await stranger.go()
    assert permits.known() == 0


async def test_who_is_cancelled_while_waiting_holds_nothing() -> None:
    permits = Permits()
    crowd = Crowd(permits)
    crowd.come("a", "s", OF_A_STORE + 5)
    await turns()
    for task in crowd.tasks:
        task.cancel()
    await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert permits.known() == 0
