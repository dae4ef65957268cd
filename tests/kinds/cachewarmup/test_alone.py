"""Two operator processes, one service: only one of them warms it, and it is cleared once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .driver import CachedSearch, World

pytestmark = pytest.mark.real


@pytest.fixture
def service() -> Iterator[CachedSearch]:
    one = CachedSearch()
    yield one
    one.stop()


async def test_of_two_operators_one_warms_and_the_other_waits(database_url: str, service: CachedSearch) -> None:
    queries = {"inline": [f"query {n}" for n in range(40)]}
    async with World(database_url, service.address) as first, World(database_url, service.address) as second:
        spec = {"queries": queries, "invalidate": "All", "rateLimits": {"queriesPerSecond": 10}}
        one, other = first.warmup(**spec), second.warmup(**spec)
        await one.until(lambda v: str(v.reason) == "Warming")
        verdict = await other.until(lambda v: str(v.reason) == "LockHeld")
        assert "Another operator process" in verdict.message
        assert other.status.removed is None and service.agents == {"vectorops"}
        await one.to_end()
        assert all(service.asked[query] <= 3 for query in queries["inline"]), "warmed once, and two samples"
