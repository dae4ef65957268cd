"""A tenant whose neighbours accept and say nothing: the objects of a second tenant keep their period.

Real kinds, a real database for the second tenant, and a listener that is silent for the first. Passes are counted of
two operators at once, one of which has a hundred objects of the first tenant beside them: what else the machine and
this process have to do holds up both alike.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from vectorops.clients.embeddings import Embedders
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import Means, Reasons
from vectorops.kinds.vectorstore import KIND as STORES
from vectorops.runtime.api import CommonSpec, CommonStatus
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Family, Kind, Names, Outcome, Subject, Verdict
from vectorops.runtime.loops import Loops
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work

pytestmark = pytest.mark.real

PERIOD = 0.5  # seconds between two passes of the second tenant's object
ENOUGH = 8  # passes of the undisturbed one, after which both are compared
SILENT_OBJECTS = 100


class Why(Reasons):
    """Reasons."""

    Seen = "Seen", "Nothing.", Means.GOOD


class Played:
    """As much of Kubernetes as passes ask: Secrets by name, and writes that always succeed."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls, self._version = urls, 100

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
        url = self._urls[namespace].replace("USER", name)
        labels = {"vectorops.dev/for": "any"}
        return {"metadata": {"labels": labels}, "data": {"url": base64.b64encode(url.encode()).decode()}}

    async def get(self, *_: Any) -> None:
        return None

    async def replace_status(self, *_: Any) -> dict[str, Any]:
        self._version += 1
        return {"metadata": {"resourceVersion": str(self._version)}}

    async def create_event(self, *_: Any) -> str:
        return "event"

    async def patch_event(self, *_: Any) -> bool:
        return True


def body(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "generation": 1, "resourceVersion": "10",
        "creationTimestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip
    return {"metadata": meta, "spec": spec}


def store(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    database = {"connectionSecretRef": {"name": name, "key": "url"}}
    return body(namespace, name, {"database": database, "healthCheckPeriodSeconds": 5, **spec})


def looking(passes: list[str]) -> Kind[Any, Any, Any]:
    """A kind that reads its store's database in every pass."""

    async def observe(ctx: Context, subject: Subject, spec: CommonSpec, _: Any) -> None:
        await ctx.stores.catalogue(await ctx.stores.resolve(subject.namespace, spec.store_ref.name), 0.0)
        passes.append(subject.name)

    async def act(*_: Any) -> Outcome:
        return Outcome()

    return Kind(
        names=Names("Look", "looks", "look", "lk"), family=Family.STANDING, room=__name__, spec=CommonSpec,
        status=CommonStatus, reasons=Why, columns=(), observe=observe, act=act, figures=lambda view: CommonStatus(),
        checks=(lambda view: Verdict(Why.Seen, "", ready="True", look_again=PERIOD),),
    )  # fmt: skip


@contextmanager
def silence() -> Iterator[int]:
    """A port that accepts and says nothing: the kernel takes the connections, and nobody reads them."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        yield int(listening.getsockname()[1])


@asynccontextmanager
async def operator(port: int, database_url: str) -> AsyncIterator[Loops]:
    urls = {"evil": f"postgresql://USER:p@127.0.0.1:{port}/d?sslmode=disable", "good": database_url}
    kubernetes: Any = Played(urls)
    databases, loops = Databases(), Loops(timedelta(seconds=5))
    services = SearchServices(Addresses(json.dumps({"evil/slow:3000": [f"127.0.0.1:{port}"]})))
    secrets, work, embedders = Secrets(kubernetes), Work(loops.wake), Embedders()
    stores = Stores(kubernetes, secrets, databases, services=services)
    loops.ctx = Context(kubernetes, secrets, databases, embedders, stores, work)
    stores.kept.held = loops.held
    yield loops
    await work.stop()
    await loops.stop()
    for closing in (embedders, services, databases):
        await closing.close()


async def second_tenant(
    database_url: str, port: int, beside: list[dict[str, Any]], passes: list[str], over: Callable[[], bool]
) -> None:
    """Note the passes of the second tenant's object until it is over."""
    async with operator(port, database_url) as loops:
        for one in beside:
            loops.deliver(STORES if "database" in one["spec"] else looking([]), one, deleted=False)
        await asyncio.sleep(0)  # they have all come before
        loops.deliver(STORES, store("good", "shop"), deleted=False)
        loops.deliver(looking(passes), body("good", "a", {"storeRef": {"name": "shop"}}), deleted=False)
        while not over():
            await asyncio.sleep(PERIOD / 10)


def hundred(how: str) -> list[dict[str, Any]]:
    service = {"service": {"serviceRef": {"name": "slow", "port": 3000}}}
    if how == "stores":
        return [store("evil", f"s{at}", **service) for at in range(SILENT_OBJECTS)]
    dependants = [body("evil", f"d{at}", {"storeRef": {"name": "s0"}}) for at in range(SILENT_OBJECTS - 1)]
    return [store("evil", "s0", **service), *dependants]


@pytest.mark.parametrize("how", ["stores", "dependants of one store"])
async def test_a_hundred_objects_with_silent_neighbours_do_not_hold_up_a_second_tenant(
    database_url: str, how: str
) -> None:
    quiet: list[str] = []
    beside: list[str] = []

    def over() -> bool:
        return len(quiet) >= ENOUGH

    with silence() as port:
        async with asyncio.timeout(120):
            await asyncio.gather(
                second_tenant(database_url, port, [], quiet, over),
                second_tenant(database_url, port, hundred(how), beside, over),
            )
    assert len(beside) * 2 >= ENOUGH, f"{len(beside)} passes beside a hundred silent objects; formerly none"
