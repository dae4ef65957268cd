"""Deleting always ends: whatever goes first, nothing invalid is left and nothing is given up untried.

What must be given up is told by an Event that outlives the object, and its namespace.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stand.scene import Scene, index_spec, store_spec
from stand.world import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from stand.postgres import Postgres
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

INDEXES = "SELECT count(*) FROM pg_indexes WHERE tablename = 'products' AND indexdef LIKE '%hnsw%'"


LEFT = """
SELECT relname || ' is there, valid: ' || indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid
JOIN pg_am a ON a.oid = relam WHERE indrelid = 'products'::regclass AND amname = 'hnsw'
UNION ALL SELECT build_name || ' ' || step FROM vectorops.intent
"""
INVALID = "SELECT count(*) FROM pg_index WHERE indrelid = 'products'::regclass AND NOT indisvalid"
DOWN = "postgresql://shop_operator:x@127.0.0.1:9/shop"


@contextmanager
def writing(shop: Shop) -> Iterator[None]:
    """A transaction that has written: a concurrent build of an index waits for its end."""
    with asyncio.Runner() as runner:
        connection: Any = runner.run(asyncpg.connect(shop.operator_dsn))
        try:
            runner.run(connection.execute("BEGIN; LOCK TABLE products IN ROW EXCLUSIVE MODE"))
            yield
        finally:
            runner.run(connection.close())


def abandoned(scene: Scene) -> list[Any]:
    return [event for event in scene.events("products") if event["reason"] == "Abandoned"]


@contextmanager
def building(scene: Scene, shop: Shop, postgres: Postgres) -> Iterator[None]:
    """A build in flight, which ends or is undone only after the block."""
    with writing(shop):
        scene.apply("VectorStore", "shop", store_spec())
        scene.apply("VectorIndex", "products", index_spec())
        scene.wait("an index under way", lambda: postgres.sql(INVALID, shop.database).strip() == "1")
        yield


def ready_index(scene: Scene, **spec: object) -> None:
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("VectorIndex", "products", index_spec(**spec))
    scene.wait_reason("vidx/products", "IndexReady")


def delete(scene: Scene, resource: str) -> None:
    scene.kubectl("delete", resource, "--wait=false")


@pytest.mark.parametrize(("policy", "left"), [("Retain", "1"), ("Delete", "0")])
def test_deleting_keeps_or_drops_the_index_as_the_policy_says(
    scene: Scene, shop: Shop, postgres: Postgres, policy: str, left: str
) -> None:
    scene.operator()
    ready_index(scene, deletionPolicy=policy)
    delete(scene, "vidx/products")
    scene.wait_gone("vidx/products")
    assert postgres.sql(INDEXES, shop.database).strip() == left


def test_an_object_deleted_while_the_operator_is_down_is_cleaned_up_by_the_next(
    scene: Scene, shop: Shop, postgres: Postgres
) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    operator.process.kill()
    delete(scene, "vidx/products")
    assert scene.get("vidx/products"), "the finalizer holds it"
    scene.operator()
    scene.wait_gone("vidx/products")
    assert postgres.sql(INDEXES, shop.database).strip() == "0"


def test_a_retained_index_is_deleted_without_any_operator(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene)
    operator.process.kill()
    delete(scene, "vidx/products")
    scene.wait_gone("vidx/products", timeout=10)


def test_what_can_be_reached_no_more_is_released_in_time_and_the_warning_names_what_is_left(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete", deletionTimeoutSeconds=10)
    operator.process.terminate()
    uid = scene.get("vidx/products")["metadata"]["uid"]
    for resource in ("vidx/products", "vst/shop", "secret/shop-db"):
        delete(scene, resource)
    scene.operator()
    scene.wait_gone("vidx/products")
    (event,) = abandoned(scene)
    assert event["type"] == "Warning"
    assert uid in event["note"], "what is left, and where to look for it"
    assert "vectorops.intent" in event["note"]
    assert "VectorStore shop" in event["note"]


@pytest.mark.parametrize("order", ["vst/shop secret/shop-db vidx/products", "secret/shop-db vst/shop vidx/products"])
def test_a_prune_of_everything_during_a_build_leaves_nothing(
    scene: Scene, shop: Shop, postgres: Postgres, order: str
) -> None:
    scene.operator()
    with building(scene, shop, postgres):
        for resource in order.split():
            delete(scene, resource)
        scene.wait_gone("secret/shop-db")
    scene.wait_gone("vidx/products")
    scene.wait_gone("vst/shop")
    assert postgres.sql(LEFT, shop.database).strip() == "", "the former code: an INVALID index and two intents"
    assert not abandoned(scene)


def test_a_prune_of_everything_drops_the_index_that_is_to_go(scene: Scene, shop: Shop, postgres: Postgres) -> None:
    scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    scene.kubectl("delete", "vst/shop", "secret/shop-db", "vidx/products", "--wait=false")
    scene.wait_gone("vidx/products")
    assert postgres.sql(LEFT, shop.database).strip() == "", "the former code: the index stays"


def test_the_deletion_of_a_namespace_during_a_build_leaves_nothing(
    scene: Scene, shop: Shop, postgres: Postgres
) -> None:
    scene.operator()
    with building(scene, shop, postgres):
        scene.cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")
        scene.wait("the deletion", lambda: scene.get("vidx/products").get("metadata", {}).get("deletionTimestamp"))
    scene.wait_gone("vidx/products", timeout=90)
    assert postgres.sql(LEFT, shop.database).strip() == ""


def test_what_is_given_up_with_its_namespace_is_told_in_the_operators_own(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete", deletionTimeoutSeconds=10)
    operator.process.terminate()
    uid = scene.get("vidx/products")["metadata"]["uid"]
    scene.secret("shop-db", url=DOWN)
    scene.operator(env={"VECTOROPS_OWN_NAMESPACE": SYSTEM_NAMESPACE})
    scene.wait_reason("vidx/products", "DatabaseUnavailable")
    scene.cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")
    scene.wait_gone("vidx/products", timeout=90)
    told = scene.cluster.kubectl("-n", SYSTEM_NAMESPACE, "get", "events.events.k8s.io", "-ojson")
    about = [event for event in json.loads(told)["items"] if event.get("related", {}).get("uid") == uid]
    assert [(event["reason"], uid in event["note"]) for event in about] == [("Abandoned", True)]
    assert f"VectorIndex {scene.namespace}/products (uid {uid}): let go" in scene.logs()


def test_an_operator_that_was_away_for_longer_than_the_limit_undoes_all_the_same(
    scene: Scene, shop: Shop, postgres: Postgres
) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete", deletionTimeoutSeconds=10)
    operator.process.terminate()
    delete(scene, "vidx/products")
    over = time.monotonic() + 11
    scene.wait("the limit to be over", lambda: time.monotonic() > over)
    scene.operator()
    scene.wait_gone("vidx/products")
    assert postgres.sql(LEFT, shop.database).strip() == "", "the former code: released at once, the index stays"
    assert not abandoned(scene)


def test_a_secret_that_is_replaced_at_the_wrong_second_is_waited_for(
    scene: Scene, shop: Shop, postgres: Postgres
) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    operator.process.terminate()
    delete(scene, "secret/shop-db")
    delete(scene, "vidx/products")
    scene.operator()
    scene.wait_reason("vidx/products", "SecretNotFound")
    scene.secret("shop-db", url=shop.operator_dsn)
    scene.wait_gone("vidx/products")
    assert postgres.sql(LEFT, shop.database).strip() == "", "the former code: released at once, the index stays"


def test_a_suspended_store_does_not_keep_a_deletion_from_its_end(scene: Scene, shop: Shop, postgres: Postgres) -> None:
    scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    scene.patch("vst/shop", {"suspend": True})
    scene.wait_reason("vst/shop", "Suspended")
    delete(scene, "vidx/products")
    scene.wait_gone("vidx/products")
    assert postgres.sql(LEFT, shop.database).strip() == "", "the former code: ten minutes, then it is given up"


def test_an_object_deleted_while_the_database_is_down_goes_when_its_time_is_up(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete", deletionTimeoutSeconds=15)
    operator.process.terminate()
    scene.secret("shop-db", url=DOWN)
    scene.operator()
    delete(scene, "vidx/products")
    scene.wait_reason("vidx/products", "DatabaseUnavailable", timeout=14)
    scene.wait_gone("vidx/products", timeout=60)
    assert any(e["reason"] == "Abandoned" for e in scene.events("products"))


def test_an_annotation_abandons_what_cannot_be_reached_at_once(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    operator.process.terminate()
    scene.secret("shop-db", url=DOWN)
    scene.operator()
    delete(scene, "vidx/products")
    scene.wait_reason("vidx/products", "DatabaseUnavailable")
    scene.kubectl("annotate", "vidx/products", "vectorops.dev/abandon=true")
    scene.wait_gone("vidx/products", timeout=30)


def test_a_namespace_with_all_our_objects_in_it_can_be_deleted(scene: Scene) -> None:
    scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    scene.cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")
    scene.wait_gone("vidx/products", timeout=90)
