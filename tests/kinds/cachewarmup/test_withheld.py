"""A search that is sent costs an embedding: none is sent, and nothing cleared, while nobody could stop it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from vectorops.clients.apiserver.contact import PAUSE_AFTER, Contact

from .driver import CachedSearch, World

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real


@pytest.fixture
def service() -> Iterator[CachedSearch]:
    one = CachedSearch()
    yield one
    one.stop()


@pytest.mark.parametrize("inline", [["thermos", "kettle"], None])
async def test_a_warm_up_waits_while_cut_off_and_goes_on_by_itself(
    postgres: Postgres, database_url: str, service: CachedSearch, inline: list[str] | None
) -> None:
    name = database_url.rsplit("/", 1)[1].split("?", maxsplit=1)[0]
    postgres.sql("CREATE TABLE products (id int PRIMARY KEY, embedding vector(3))", name)
    now = [0.0]
    contact = Contact(lambda: now[0])
    async with World(database_url, service.address) as world:
        world.ctx.withholding = (contact.cut_off,)
        now[0] = PAUSE_AFTER
        queries = {"queries": {"inline": inline}} if inline else {}
        warmup = world.warmup(invalidate="All", **queries)
        service.cache.add("cached before")
        await warmup.until(lambda verdict: verdict.reason == "KubernetesUnavailable")
        for _ in range(20):
            await warmup.until(lambda verdict: True)
        assert (service.asked, service.cache) == ({}, {"cached before"}) or not service.asked
        assert "cached before" in service.cache
        contact.answered()
        await warmup.to_end()
        assert "cached before" not in service.cache
