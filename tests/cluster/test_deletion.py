"""Deleting always ends: whatever is down or gone, nothing hangs, and what is left behind is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stand.scene import Scene, index_spec, store_spec

if TYPE_CHECKING:
    from stand.postgres import Postgres
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

INDEXES = "SELECT count(*) FROM pg_indexes WHERE tablename = 'products' AND indexdef LIKE '%hnsw%'"


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


@pytest.mark.parametrize("gone", ["secret/shop-db", "vst/shop"])
def test_an_object_whose_store_or_secret_is_gone_is_released_with_a_warning(scene: Scene, gone: str) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    operator.process.terminate()
    delete(scene, gone)
    delete(scene, "vidx/products")
    scene.operator()
    scene.wait_gone("vidx/products")
    abandoned = [e for e in scene.events("products") if e["reason"] == "Abandoned"]
    assert abandoned
    assert abandoned[0]["type"] == "Warning"


def test_an_object_deleted_while_the_database_is_down_goes_when_its_time_is_up(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete", deletionTimeoutSeconds=15)
    operator.process.terminate()
    scene.secret("shop-db", url="postgresql://shop_operator:x@127.0.0.1:9/shop")
    scene.operator()
    delete(scene, "vidx/products")
    scene.wait_reason("vidx/products", "DatabaseUnavailable", timeout=14)
    scene.wait_gone("vidx/products", timeout=60)
    assert any(e["reason"] == "Abandoned" for e in scene.events("products"))


def test_an_annotation_abandons_what_cannot_be_reached_at_once(scene: Scene) -> None:
    operator = scene.operator()
    ready_index(scene, deletionPolicy="Delete")
    operator.process.terminate()
    scene.secret("shop-db", url="postgresql://shop_operator:x@127.0.0.1:9/shop")
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
