"""A text of a search costs an embedding, also where a service tunes: none is asked for while nobody could stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from vectorops.clients.apiserver.contact import PAUSE_AFTER, Contact
from vectorops.errors import Reason, Waiting
from vectorops.kinds.searchtuning import tuning

from .driver import DIMENSIONS, TuningService, World

if TYPE_CHECKING:
    from stand.provider import Provider

pytestmark = pytest.mark.real


def cut_off(world: World) -> Contact:
    """The API server has not answered for five minutes, and does when told to."""
    now = [0.0]
    contact = Contact(lambda: now[0])
    now[0] = PAUSE_AFTER

    def withheld() -> Waiting | None:
        why = contact.cut_off()
        return Waiting(Reason.KubernetesUnavailable, why.message, after=0.1) if why is not None else None

    world.ctx.withholding = (withheld,)
    return contact


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks again at once."""
    monkeypatch.setattr(tuning, "LEAST_REST", 0.1)


async def test_no_text_is_embedded_while_cut_off(world: World, provider: Provider) -> None:
    provider.reset()
    connection = await asyncpg.connect(world.url)
    await connection.execute("CREATE TABLE log AS SELECT 'search ' || n AS q FROM generate_series(1, 40) AS n")
    await connection.close()
    world.kubernetes.secrets["at"] = {"url": provider.base_url, "key": provider.api_key}
    references = {"baseURLSecretRef": {"name": "at", "key": "url"}, "apiKeySecretRef": {"name": "at", "key": "key"}}
    world.declare(embeddings={"model": "m", "dimensions": DIMENSIONS, **references})
    request, contact = world.tuning(queries={"fromTable": {"table": "log", "queryColumn": "q"}}), cut_off(world)
    verdict = await request.until(lambda verdict: verdict.reason == "KubernetesUnavailable")
    assert not verdict.stalled and not provider.requests()
    contact.answered()
    await request.until(lambda verdict: bool(provider.requests()))


async def test_no_service_is_asked_while_cut_off(world: World) -> None:
    service = TuningService()
    try:
        async with World(world.url, service.address) as other:
            request, contact = other.tuning(runner="Service"), cut_off(other)
            verdict = await request.until(lambda verdict: verdict.reason == "KubernetesUnavailable")
            assert not verdict.stalled and not service.asked
            contact.answered()
            await request.until(lambda verdict: bool(service.asked))
    finally:
        service.stop()
