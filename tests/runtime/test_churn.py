"""A thousand stores, keys and Secrets come and go, and nothing of them stays: counts are exact, memory is bounded."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from vectorops import metrics
from vectorops.clients.embeddings import Embedders
from vectorops.clients.foreign.budget import ANSWERS
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import KEPT_SECONDS, LABEL, Secrets
from vectorops.kinds.vectorstore import KIND, _refusals
from vectorops.kinds.vectorstore.observation import SetFailure
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Stores
from vectorops.runtime.store_spec import VectorStoreSpec
from vectorops.runtime.work import Job, Work

if TYPE_CHECKING:
    from stand.provider import Provider

pytestmark = pytest.mark.real

STORES = 1_000
REALLY = 20  # so many of them are connected to, searched and embedded for; the others are opened
SPEC: dict[str, Any] = {
    "database": {
        "connectionSecretRef": {"name": "db", "key": "url"},
        "replicaConnectionSecretRef": {"name": "replica", "key": "url"},
    },
    "service": {"serviceRef": {"name": "search", "port": 80}},
    "embeddings": {
        "apiKeySecretRef": {"name": "provider", "key": "key"},
        "baseURLSecretRef": {"name": "provider", "key": "url"},
        "model": "m", "dimensions": 384,
    },
}  # fmt: skip


class Cluster:
    """Secrets of namespaces that come and go: each store has its own password, and keys are rotated."""

    def __init__(self, database_url: str, provider: Provider) -> None:
        self._database, self._provider = database_url, provider
        self.rotation = 0

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
        url = f"{self._database}?application_name={namespace}-{name}-{self.rotation}"
        values = {"url": self._provider.base_url if name == "provider" else url}
        values["key"] = self._provider.api_key if name == "provider" and not self.rotation else f"sk-{self.rotation}"
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return {"metadata": {"labels": {LABEL: "any"}}, "data": data}


class World:
    """The registries of one process."""

    def __init__(self, cluster: Any) -> None:
        self.now = 0.0
        self.secrets = Secrets(cluster, lambda: self.now)
        self.databases, self.embedders, self.services = Databases(), Embedders(), SearchServices()
        self.stores = Stores(cluster, self.secrets, self.databases, services=self.services)
        self.work = Work(lambda uid: None)
        self.ctx = Context(cluster, self.secrets, self.databases, self.embedders, self.stores, self.work)

    def counts(self) -> dict[str, int]:
        """How much of everything there is."""
        named = {**vars(self.stores), **vars(self.stores._held)}
        held = {
            f"stores.{name}": len(value)
            for name, value in named.items()
            if isinstance(value, dict | set) and name != "_gone"  # uids, and bounded
        }
        return held | {
            "databases": len(self.databases),
            "embedders": len(self.embedders),
            "closing": len(self.embedders._leaving),
            "services": len(self.services._open),
            "secrets": len(self.secrets._kept),
            "jobs": len(self.work._jobs),
            "refusals": len(_refusals.known),
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
            "reserved": ANSWERS.held + ANSWERS.waiting,
            "series": sum(len(family.samples) for family in REGISTRY.collect() if "process" not in family.name),
        }


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def subject_of(number: int) -> Subject:
    return Subject("VectorStore", f"tenant-{number}", "store", f"uid-{number}", 1, datetime.now(UTC))


async def one_store(world: World, cluster: Cluster, number: int, *, really: bool) -> None:
    """It is created, used, has its Secrets rotated, is used again, and goes with all of them."""
    subject, spec = subject_of(number), VectorStoreSpec.model_validate(SPEC | {"embeddings": _embeddings(number)})
    namespace, name, uid = subject.namespace, subject.name, subject.uid
    world.stores.seen(namespace, name, {"metadata": {"uid": uid, "namespace": namespace, "name": name}, "spec": SPEC})
    for cluster.rotation in (0, 1):
        store = await world.stores.open(namespace, name, uid, 1, spec)
        reader, embedder = await world.stores.reader(store), await world.ctx.embedder(store)
        await world.stores.service(store)
        if really:
            await world.stores.catalogue(store, 60.0)
            with suppress(Exception):  # it is no standby of anything
                await reader.fetchval("SELECT 1")
            if not cluster.rotation:
                await embedder.embed(["a text"])
        for secret in ("db", "replica", "provider"):
            world.secrets.forget(namespace, secret)
    _refusals.known[uid] = SetFailure("X", "", {}, datetime.now(UTC))
    job = world.work.start(uid, "build it", _nothing)
    metrics.conditions("VectorStore", namespace, name, [{"type": "Ready", "status": "True"}])
    world.stores.seen(namespace, name, None)
    metrics.forget("VectorStore", namespace, name)
    assert KIND.stop is not None and job.task is not None
    await KIND.stop(world.ctx, subject)
    world.work.disown(uid)
    await job.task


def _embeddings(number: int) -> dict[str, Any]:
    return SPEC["embeddings"] | {"model": f"model-{number}-{'x' * 200}"}


async def _nothing(job: Job) -> None:
    await asyncio.sleep(0)


async def settle(world: World, wanted: dict[str, int]) -> dict[str, int]:
    """Wait until what is closing has closed."""
    found: dict[str, int] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while not wanted.items() <= found.items():
                gc.collect()
                found = world.counts()
                await asyncio.sleep(0.02)
    return found


async def test_a_thousand_stores_keys_and_secrets_come_and_go_and_nothing_of_them_stays(
    database_url: str, provider: Provider
) -> None:
    provider.reset()
    cluster = Cluster(database_url, provider)
    world = World(cluster)
    watching = await asyncpg.connect(database_url)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    for number in range(-5, 0):  # what is imported, cached and pooled once for all
        await one_store(world, cluster, number, really=True)
    world.now += 2 * KEPT_SECONDS
    with suppress(Exception):
        await world.secrets.value("nobody", "x", "nothing", "database")  # type: ignore[arg-type]
    world.secrets.forget("nobody", "x")
    nothing = ("databases", "embedders", "closing", "services", "jobs", "stores._closing", "secrets", "reserved")
    before = await settle(world, dict.fromkeys(nothing, 0) | {"tasks": 1})
    assert {before[name] for name in nothing} == {0}
    connected = await watching.fetchval(sessions)
    objects, memory = len(gc.get_objects()), resident()
    for number in range(STORES):
        await one_store(world, cluster, number, really=number % (STORES // REALLY) == 0)
    world.now += 2 * KEPT_SECONDS
    with suppress(Exception):
        await world.secrets.value("nobody", "x", "nothing", "database")  # type: ignore[arg-type]
    world.secrets.forget("nobody", "x")
    assert await settle(world, before) == before
    assert len(gc.get_objects()) - objects < 2 * STORES  # a store that stays is some hundred
    assert resident() - memory < 16 << 20
    assert await watching.fetchval(sessions) == connected
    await watching.close()


async def test_a_store_that_went_while_its_secret_was_read_is_not_opened_again(database_url: str) -> None:
    from vectorops.errors import Reason, Stalled

    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow:
        async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
            asked.set()
            await answer.wait()
            url = base64.b64encode(database_url.encode()).decode()
            return {"metadata": {"labels": {LABEL: "any"}}, "data": {"url": url}}

    world = World(Slow())
    spec = VectorStoreSpec.model_validate({"database": SPEC["database"]})
    world.stores.seen("shop", "store", {"metadata": {"uid": "u"}, "spec": {}})
    opening = asyncio.create_task(world.stores.open("shop", "store", "u", 1, spec))
    await asked.wait()
    world.stores.seen("shop", "store", None)
    answer.set()
    with pytest.raises(Stalled) as caught:
        await opening
    assert caught.value.reason == Reason.StoreNotFound
    assert world.stores._held.primaries == {}


def test_names_of_models_are_few_and_short_in_the_metrics() -> None:
    def series() -> set[str]:
        return {sample.labels["model"] for sample in metrics.EMBEDDING_TOKENS.collect()[0].samples}

    before, names = series(), [f"{'m' * 60}-{number}-{'x' * 200}" for number in range(200)]
    for name in names:
        metrics.tokens_billed(name, 1)
    shown = series() - before
    assert len(shown) <= metrics.MOST_MODELS + 1
    assert max(len(name) for name in shown) <= metrics.MODEL_CHARACTERS
    for name in names:
        metrics.model_gone(name)
    assert series() - before <= {metrics.OTHER_MODELS}


async def test_a_rotated_key_takes_the_former_ones_place_without_breaking_what_is_under_way(provider: Provider) -> None:
    provider.reset()
    provider.control(latencySeconds=0.5)
    embedders = Embedders()

    def opened(key: str, model: str = "m") -> Any:
        url = provider.base_url
        return embedders.open("uid", api_key=SecretStr(key), model=model, dimensions=384, base_url=url)

    first = opened(provider.api_key)
    asking = asyncio.create_task(first.embed(["a"]))
    while not provider.requests():
        await asyncio.sleep(0.01)
    opened("sk-rotated")
    assert len(embedders) == 1
    assert (await asking).vectors[0] is not None
    for number in range(20):
        opened("sk-rotated", f"model-{number}")
    assert len(embedders) <= 4
    embedders.discard("uid")
    assert len(embedders) == 0
    await embedders.close()
    provider.reset()
