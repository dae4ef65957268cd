"""Who may be in a pass at the same time: a few an own neighbour, more a namespace, many in all.

A pass may be held up by whatever it talks to. What is held up then is whoever talks to the same: the objects of one
VectorStore share a handful of permits, all objects of a namespace a few handfuls, and the bound over everything is so
wide that a tenant cannot fill it. Refused: an order among those who wait beyond first come, first served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager

OF_A_STORE = 4  # as many as have something to ask of one database, whose watching connection answers one at a time
OF_A_NAMESPACE = 16  # four silent neighbours do not hold up a fifth of the same tenant
IN_ALL = 400  # twenty-five tenants whose every neighbour is silent; a waiting pass costs some ten kilobytes


class Permits:
    """Permits by neighbour. What nobody holds or waits for is not remembered."""

    def __init__(
        self, of_a_store: int = OF_A_STORE, of_a_namespace: int = OF_A_NAMESPACE, in_all: int = IN_ALL
    ) -> None:
        self._of_a_store, self._of_a_namespace = of_a_store, of_a_namespace
        self._all = asyncio.Semaphore(in_all)
        self._shared: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def one(self, namespace: str, store: str) -> AsyncIterator[None]:
        """Hold a permit for an object that talks to that store's neighbours. The narrowest is waited for first."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._of((namespace, store), self._of_a_store))
            await held.enter_async_context(self._of(namespace, self._of_a_namespace))
            await held.enter_async_context(self._all)
            yield

    def known(self) -> int:
        """How many neighbours are remembered."""
        return len(self._shared)

    @asynccontextmanager
    async def _of(self, key: Hashable, most: int) -> AsyncIterator[None]:
        semaphore, users = self._shared.get(key) or (asyncio.Semaphore(most), 0)
        self._shared[key] = (semaphore, users + 1)
        try:
            async with semaphore:
                yield
        finally:
            semaphore, users = self._shared.pop(key)
            if users > 1:
                self._shared[key] = (semaphore, users - 1)
