"""A store as its dependants use it: found or named as missing, read once for all, and mended by a new Secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from vectorops.clients.postgres import Databases, Target
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting
from vectorops.runtime.store import Store, Stores
from vectorops.runtime.store_spec import VectorStoreSpec


class Cluster:
    """What a store needs of Kubernetes: objects by name and values of Secrets, and how often both were asked for."""

    def __init__(self, **values: str) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.values = values
        self.gets = 0
        self.forgotten: list[str] = []

    async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.gets += 1
        assert plural == "vectorstores"
        return self.objects.get(name)

    async def value(self, namespace: str, name: str, key: str, purpose: str) -> SecretStr:
        if name not in self.values:
            raise Stalled(Reason.SecretNotFound, f"there is no Secret {name}")
        return SecretStr(self.values[name])

    def forget(self, namespace: str, name: str) -> None:
        self.forgotten.append(name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def body(name: str = "shop", **spec: Any) -> dict[str, Any]:
    database = {"connectionSecretRef": {"name": "db", "key": "url"}}
    return {"metadata": {"uid": "u1", "name": name, "generation": 3}, "spec": {"database": database, **spec}}


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases()
    yield opened
    await opened.close()


def stores_of(cluster: Cluster, databases: Databases, clock: Clock | None = None) -> Stores:
    return Stores(cluster, cluster, databases, clock or Clock())  # type: ignore[arg-type]


NOWHERE = "postgresql://u:p@127.0.0.1:1/d"


async def test_a_store_that_does_not_exist_is_named(databases: Databases) -> None:
    with pytest.raises(Stalled, match="no VectorStore shop in namespace team") as caught:
        await stores_of(Cluster(), databases).resolve("team", "shop")
    assert caught.value.reason == Reason.StoreNotFound


async def test_a_store_is_taken_from_the_watch_or_else_asked_for_once(databases: Databases) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    cluster.objects["shop"] = body()
    assert (await stores.resolve("team", "shop")).generation == 3
    assert cluster.gets == 1
    stores.seen("team", "shop", body(tables=[{"name": "products", "table": "products"}]))
    store = await stores.resolve("team", "shop")
    assert cluster.gets == 1
    assert store.table("products").embedding_column == "embedding"
    with pytest.raises(Stalled, match="has: products") as caught:
        store.table("users")
    assert caught.value.reason == Reason.TargetNotFound
    stores.seen("team", "shop", None)
    del cluster.objects["shop"]
    with pytest.raises(Stalled):
        await stores.resolve("team", "shop")


async def test_a_suspended_store_makes_its_dependants_wait(databases: Databases) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    stores.seen("team", "shop", body(suspend=True))
    with pytest.raises(Waiting) as caught:
        await stores.resolve("team", "shop")
    assert caught.value.reason == Reason.StoreSuspended


async def test_undoing_goes_on_while_the_store_is_suspended(databases: Databases) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    stores.seen("team", "shop", body(suspend=True))
    assert (await stores.resolve("team", "shop", undoing=True)).name == "shop"


@pytest.mark.parametrize("goes", ["store", "secret", "both"])
async def test_a_store_that_goes_first_is_kept_for_undoing_alone(databases: Databases, goes: str) -> None:
    cluster, holders = Cluster(db=NOWHERE), {"index"}
    stores = stores_of(cluster, databases)
    stores.kept.held = lambda namespace, name: bool(holders)
    stores.seen("team", "shop", body())
    opened = await stores.resolve("team", "shop")
    if goes in ("secret", "both"):
        del cluster.values["db"]
    if goes in ("store", "both"):
        stores.seen("team", "shop", None)
    assert (await stores.resolve("team", "shop", undoing=True)).database.key == opened.database.key
    with pytest.raises(OperatorError) as caught:
        await stores.resolve("team", "shop")
    assert caught.value.reason == (Reason.SecretNotFound if goes == "secret" else Reason.StoreNotFound)
    holders.clear()
    stores.released()
    if goes != "secret":
        with pytest.raises(OperatorError):
            await stores.resolve("team", "shop", undoing=True)


async def test_a_store_that_nobody_holds_is_kept_no_longer_than_it_is_there(databases: Databases) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    for at in range(100):
        stores.seen("team", f"s{at}", body(f"s{at}"))
        await stores.resolve("team", f"s{at}")
        stores.seen("team", f"s{at}", None)
        with pytest.raises(OperatorError):
            await stores.resolve("team", f"s{at}", undoing=True)


async def test_a_store_that_is_there_again_is_the_one_that_is_undone_in(databases: Databases) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    stores.kept.held = lambda namespace, name: True
    stores.seen("team", "shop", body())
    former = await stores.resolve("team", "shop")
    stores.seen("team", "shop", None)
    cluster.values["db"] = "postgresql://u:other@127.0.0.1:1/d"
    stores.seen("team", "shop", body())
    now = await stores.resolve("team", "shop", undoing=True)
    assert now.database.key != former.database.key


async def test_the_end_of_a_store_that_is_told_late_leaves_the_one_that_bears_its_name_alone(
    databases: Databases,
) -> None:
    """A watch that was away tells of the new store only; that the former is gone is noticed by a look, later."""
    stores = stores_of(Cluster(db=NOWHERE), databases)
    stores.seen("team", "shop", body())
    await stores.resolve("team", "shop")
    anew = body()
    anew["metadata"]["uid"] = "u2"
    stores.seen("team", "shop", anew)
    before = await stores.resolve("team", "shop")
    stores.seen("team", "shop", None, "u1")
    after = await stores.resolve("team", "shop")
    assert (after.uid, after.database) == ("u2", before.database)
    with pytest.raises(OperatorError) as caught:  # a pass of the former that goes on opens nothing
        await stores.open("team", "shop", "u1", 1, before.spec)
    assert caught.value.reason == Reason.StoreNotFound
    stores.seen("team", "shop", None, "u2")
    with pytest.raises(OperatorError):
        await stores.resolve("team", "shop")


async def test_a_spec_that_cannot_be_read_names_its_fields_and_not_their_values(databases: Databases) -> None:
    stores = stores_of(Cluster(), databases)
    stores.seen("team", "shop", {"metadata": {"uid": "u"}, "spec": {"database": {"connectionSecretRef": "hunter2"}}})
    with pytest.raises(Stalled, match=r"database\.connectionSecretRef") as caught:
        await stores.resolve("team", "shop")
    assert caught.value.reason == Reason.InvalidSpec
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_missing_secret_and_a_bad_url_are_told_apart(databases: Databases) -> None:
    cluster = Cluster()
    stores = stores_of(cluster, databases)
    stores.seen("team", "shop", body())
    with pytest.raises(Stalled) as missing:
        await stores.resolve("team", "shop")
    cluster.values["db"] = "hunter2"
    with pytest.raises(Stalled) as invalid:
        await stores.resolve("team", "shop")
    assert (missing.value.reason, invalid.value.reason) == (Reason.SecretNotFound, Reason.SecretInvalid)


async def test_a_changed_secret_gives_another_database(databases: Databases) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    stores.seen("team", "shop", body())
    first = await stores.resolve("team", "shop")
    assert (await stores.resolve("team", "shop")).database is first.database
    cluster.values["db"] = "postgresql://u:other@127.0.0.1:1/d"
    second = await stores.resolve("team", "shop")
    assert second.database is not first.database
    assert databases.open(Target(SecretStr(NOWHERE))) is not first.database  # it was forgotten


async def test_tls_of_the_spec_is_read_from_its_secrets(databases: Databases) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    tls = {"mode": "VerifyFull", "caSecretRef": {"name": "ca", "key": "ca.crt"}}
    database = {"connectionSecretRef": {"name": "db", "key": "url"}, "tls": tls}
    stores.seen("team", "shop", body(database=database))
    with pytest.raises(Stalled, match="Secret ca"):
        await stores.resolve("team", "shop")
    cluster.values["ca"] = "no certificate"
    with pytest.raises(Stalled, match="no PEM") as caught:
        await stores.resolve("team", "shop")
    assert caught.value.reason == Reason.SecretInvalid


async def test_the_service_s_ca_is_read_from_its_secret_and_read_anew_once_it_was_none(databases: Databases) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    service = {"serviceRef": {"name": "api", "port": 443, "scheme": "HTTPS"}}
    stores.seen("team", "shop", body(service={**service, "caSecretRef": {"name": "ca", "key": "ca.crt"}}))
    store = await stores.resolve("team", "shop")
    with pytest.raises(Stalled, match="Secret ca"):
        await stores.service(store)
    cluster.values["ca"] = "no certificate"
    with pytest.raises(Stalled, match="no PEM") as caught:
        await stores.service(store)
    assert (caught.value.reason, cluster.forgotten) == (Reason.SecretInvalid, ["ca"])
    cluster.values["ca"] = trustme.CA().cert_pem.bytes().decode()
    first = await stores.service(store)
    assert await stores.service(store) is first
    cluster.values["ca"] = trustme.CA().cert_pem.bytes().decode()
    assert await stores.service(store) is not first  # rotated


# -- the shared snapshot -----------------------------------------------------------------------


class Reader:
    """Stands for `read_catalogue`: counts readings, answers when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.readings = 0
        self.error: OperatorError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        monkeypatch.setattr("vectorops.runtime.passes.snapshot.read_catalogue", self)

    async def __call__(self, database: object) -> Any:
        self.readings += 1
        reading = self.readings
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return reading


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(monkeypatch)


async def opened(stores: Stores) -> Store:
    stores.seen("team", "shop", body())
    return await stores.resolve("team", "shop")


async def test_a_hundred_dependants_cost_no_more_than_the_sweep_of_their_store(
    databases: Databases, reader: Reader
) -> None:
    clock = Clock()
    stores = stores_of(Cluster(db=NOWHERE), databases, clock)
    store = await opened(stores)
    for sweep in range(10):
        clock.now = sweep * 30.0
        await stores.catalogue(store, max_age=15.0)
        clock.now += 29.0
        await asyncio.gather(*(stores.catalogue(store, max_age=45.0) for _ in range(100)))
    assert reader.readings == 10


async def test_a_reading_under_way_is_waited_for_and_survives_whoever_began_it(
    databases: Databases, reader: Reader
) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    store = await opened(stores)
    reader.gate.clear()
    first, second = (asyncio.create_task(stores.catalogue(store, max_age=0.0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    reader.gate.set()
    assert (await second, reader.readings) == (1, 1)


async def test_after_an_act_of_ours_not_even_a_reading_under_way_is_shared(
    databases: Databases, reader: Reader
) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    store = await opened(stores)
    reader.gate.clear()
    before = asyncio.create_task(stores.catalogue(store, max_age=60.0))
    await asyncio.sleep(0)
    stores.forget(store)
    after = asyncio.create_task(stores.catalogue(store, max_age=60.0))
    await asyncio.sleep(0)
    reader.gate.set()
    assert (await before, await after) == (1, 2)


async def test_a_failure_is_shared_for_a_moment_and_then_tried_again(databases: Databases, reader: Reader) -> None:
    clock = Clock()
    stores = stores_of(Cluster(db=NOWHERE), databases, clock)
    store = await opened(stores)
    reader.error = Transient(Reason.DatabaseUnavailable, "gone")
    for _ in range(100):
        with pytest.raises(Transient):
            await stores.catalogue(store, max_age=45.0)
    assert reader.readings == 1
    clock.now, reader.error = 6.0, None
    assert await stores.catalogue(store, max_age=45.0) == 2


async def test_a_refused_password_makes_the_secret_be_read_anew(databases: Databases, reader: Reader) -> None:
    cluster = Cluster(db=NOWHERE)
    stores = stores_of(cluster, databases)
    store = await opened(stores)
    reader.error = Stalled(Reason.AuthenticationFailed, "no")
    with pytest.raises(Stalled):
        await stores.catalogue(store, max_age=0.0)
    assert cluster.forgotten == ["db"]


@pytest.mark.real
async def test_ready_names_the_statement_where_the_extension_is_missing(databases: Databases, postgres: Any) -> None:
    cluster = Cluster(db=postgres.create_database("bare_store"))
    stores = stores_of(cluster, databases)
    store = await opened(stores)
    with pytest.raises(Stalled, match="CREATE EXTENSION vector") as caught:
        await stores.ready(store, max_age=0.0)
    assert caught.value.reason == Reason.ExtensionMissing
    postgres.sql("CREATE EXTENSION vector", "bare_store")
    catalogue = await stores.ready(store, max_age=0.0)
    assert catalogue.extension is not None


def test_the_aliases_that_camel_case_would_get_wrong() -> None:
    reference = {"name": "s", "key": "k"}
    embeddings = {"model": "m", "dimensions": 3, "baseURLSecretRef": reference, "priceUSDPerMillionTokens": "0.02"}
    tables = [{"name": "t", "schema": "s", "table": "t"}]
    database = {"connectionSecretRef": reference}
    spec = VectorStoreSpec.model_validate({"database": database, "embeddings": embeddings, "tables": tables})
    assert spec.embeddings is not None
    assert spec.embeddings.base_url_secret_ref is not None
    assert spec.embeddings.price_usd_per_million_tokens == "0.02"
    assert spec.tables[0].schema_name == "s"
    shown = spec.model_dump(by_alias=True)
    assert shown["thresholds"]["p95LatencyMilliseconds"] == {"warning": 500, "critical": 2000}
    assert shown["healthCheckPeriodSeconds"] == 30


SERVICE = {"serviceRef": {"name": "api", "port": 3000}, "authSecretRef": {"name": "token", "key": "token"}}


async def test_a_store_without_a_search_service_says_what_to_declare(databases: Databases) -> None:
    stores = stores_of(Cluster(db=NOWHERE), databases)
    stores.seen("team", "shop", body())
    with pytest.raises(Stalled, match="names no search service. Name the search service in spec.service") as caught:
        await stores.service(await stores.resolve("team", "shop"))
    assert caught.value.reason == Reason.ServiceNotDeclared


@pytest.mark.parametrize("token", ["schl\u00fcssel", "one two", "line\nbreak", "\x00"])
async def test_a_token_that_fits_no_header_is_named_and_never_shown(databases: Databases, token: str) -> None:
    cluster = Cluster(db=NOWHERE, token=token)
    stores = stores_of(cluster, databases)
    stores.seen("team", "shop", body(service=SERVICE))
    with pytest.raises(Stalled, match="Secret token, key token: a bearer token is printable ASCII") as caught:
        await stores.service(await stores.resolve("team", "shop"))
    assert caught.value.reason == Reason.SecretInvalid
    assert token not in caught.value.message
    assert cluster.forgotten == ["token"]  # a corrected Secret is read at the next look


async def test_the_service_of_a_deleted_store_is_closed(databases: Databases) -> None:
    stores = stores_of(Cluster(db=NOWHERE, token="t"), databases)
    stores.seen("team", "shop", body(service=SERVICE))
    store = await stores.resolve("team", "shop")
    service = await stores.service(store)
    assert await stores.service(store) is service
    stores.seen("team", "shop", None)
    await asyncio.sleep(0)
    assert await stores.service(store) is not service
