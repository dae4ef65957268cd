"""An unchanged world writes nothing, and little is written for what is new: counted in the API server's audit log."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stand.scene import Scene, backfill_spec, index_spec, store_spec
from stand.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.shop import Shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{SERVICE_ACCOUNT}"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
QUIET_SECONDS = 90
SETTLE_SECONDS = 12  # two health checks of 5 s: autovacuum and first figures come to rest
SWEEPS_SECONDS = 30


def writes(cluster: Cluster, namespace: str, user: str = OPERATOR) -> list[dict[str, Any]]:
    """What the user wrote in the namespace, over all resources, events included."""
    assert cluster.audit_log is not None
    entries = (json.loads(line) for line in cluster.audit_log.read_text().splitlines() if line)
    return [
        e
        for e in entries
        if e["verb"] in WRITES
        and e["user"]["username"] == user
        and e.get("objectRef", {}).get("namespace") == namespace
    ]


def summary(entries: list[dict[str, Any]]) -> Counter[str]:
    """Entries by verb and resource, for the message of a failed assertion."""
    return Counter(f"{e['verb']} {e['objectRef']['resource']}/{e['objectRef'].get('subresource', '')}" for e in entries)


def settled(scene: Scene) -> None:
    """A store with an index and a finished backfill."""
    scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("EmbeddingBackfill", "products", backfill_spec())
    scene.wait_status("vfill/products", "Complete", timeout=120)
    scene.apply("VectorIndex", "products", index_spec())
    scene.wait_status("vidx/products", "Ready", timeout=120)
    scene.wait_status("vst/shop", "CoverageHealthy", timeout=30)


def quiet_for(scene: Scene, seconds: float) -> None:
    """The clock runs here on purpose: the promise is about time."""
    time.sleep(SETTLE_SECONDS)
    before = writes(scene.cluster, scene.namespace)
    time.sleep(seconds)
    after = writes(scene.cluster, scene.namespace)
    assert len(after) == len(before), summary(after[len(before) :])


def test_an_unchanged_world_writes_nothing_for_ninety_seconds(scene: Scene) -> None:
    settled(scene)
    quiet_for(scene, QUIET_SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_unchanged_world_writes_nothing_for_ten_minutes(scene: Scene) -> None:
    settled(scene)
    quiet_for(scene, 600)


def test_an_object_with_nothing_to_do_outside_costs_two_writes(scene: Scene) -> None:
    settled(scene)
    before = len(writes(scene.cluster, scene.namespace))
    for resource, kind, name, spec in (
        ("vst", "VectorStore", "twin", store_spec()),
        ("vfill", "EmbeddingBackfill", "nothing-missing", backfill_spec()),
    ):
        scene.apply(kind, name, spec)
        scene.wait_status(f"{resource}/{name}", "Ready")
        time.sleep(3)  # a third write would come within the next passes
        after = writes(scene.cluster, scene.namespace)
        assert len(after) - before <= 2, summary(after[before:])
        before = len(after)


def test_adopting_an_existing_index_costs_two_writes(scene: Scene) -> None:
    settled(scene)
    scene.kubectl("delete", "vidx/products", "--wait=true")
    before = len(writes(scene.cluster, scene.namespace))
    scene.apply("VectorIndex", "again", index_spec())
    scene.wait_status("vidx/again", "Ready")
    time.sleep(3)
    after = writes(scene.cluster, scene.namespace)
    assert len(after) - before <= 2, summary(after[before:])


def test_labels_and_annotations_of_others_cause_nothing(scene: Scene) -> None:
    settled(scene)
    time.sleep(SETTLE_SECONDS)
    before = len(writes(scene.cluster, scene.namespace))
    for resource in ("vst/shop", "vidx/products", "vfill/products"):
        scene.kubectl("label", resource, "team=search")
        scene.kubectl("annotate", resource, "example.com/note=seen")
    time.sleep(7)
    after = writes(scene.cluster, scene.namespace)
    assert len(after) == before, summary(after[before:])


async def statements(shop: Shop) -> int:
    """How many statements the operator's role has sent to this database, by pg_stat_statements."""
    connection = await asyncpg.connect(shop.admin_dsn)
    try:
        return int(
            await connection.fetchval(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid "
                "JOIN pg_database d ON d.oid = s.dbid "
                "WHERE r.rolname = 'shop_operator' AND d.datname = current_database()"
            )
        )
    finally:
        await connection.close()


async def rate(shop: Shop) -> float:
    """Statements a second over a few sweeps."""
    before, began = await statements(shop), time.monotonic()
    time.sleep(SWEEPS_SECONDS)  # noqa: ASYNC251 - nothing else runs in this loop
    return (await statements(shop) - before) / (time.monotonic() - began)


async def test_a_hundred_indexes_cost_as_many_round_trips_a_sweep_as_one(scene: Scene, shop: Shop) -> None:
    connection = await asyncpg.connect(shop.operator_dsn)
    try:
        for n in range(100):
            await connection.execute(f"CREATE TABLE many_{n} (id bigint PRIMARY KEY, embedding vector(3))")
            await connection.execute(
                f"CREATE INDEX idx_many_{n}_embedding_hnsw ON many_{n} USING hnsw (embedding vector_cosine_ops) "
                "WITH (m = 24, ef_construction = 100)"
            )
    finally:
        await connection.close()
    operator = scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("VectorIndex", "many-0", index_spec(table="many_0"))
    scene.wait_status("vidx/many-0", "Ready")
    time.sleep(SETTLE_SECONDS)
    one = await rate(shop)
    for n in range(1, 100):
        scene.apply("VectorIndex", f"many-{n}", index_spec(table=f"many_{n}"))
    for n in range(1, 100):
        scene.wait_status(f"vidx/many-{n}", "Ready", timeout=120)
    time.sleep(SETTLE_SECONDS)
    hundred = await rate(shop)
    memory = rss_megabytes(operator.process.pid)
    print(f"statements a second: one index {one:.2f}, a hundred {hundred:.2f}; operator's memory {memory:.0f} MB")
    assert one > 0
    assert hundred <= one * 1.25, (one, hundred)


def rss_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
