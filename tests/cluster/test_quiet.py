"""An unchanged world writes nothing, and little is written for what is new: counted in the API server's audit log."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stand.scene import Scene, backfill_spec, index_spec, store_spec
from stand.shop import create_shop
from stand.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{SERVICE_ACCOUNT}"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
QUIET_SECONDS = 90
SETTLE_SECONDS = 12  # two health checks of 5 s: first figures come to rest
PASSES_SECONDS = 6  # a health check of 5 s, and some: a write too many would come with the next pass
SWEEPS_SECONDS = 20  # four health checks
ROUND_TRIPS = 2  # of one sweep


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


@pytest.fixture(scope="module")
def settled(
    cluster: Cluster, postgres: Postgres, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A store with a finished backfill and an index, at rest; shared, since nothing here disturbs it for long."""
    provider.reset()
    shop = asyncio.run(create_shop(postgres.create_database("quiet_shop"), 1000, searches=100))
    scene = Scene(cluster, "quiet", tmp_path_factory.mktemp("quiet"))
    cluster.kubectl("create", "namespace", scene.namespace)
    scene.secret("shop-db", url=shop.operator_dsn)
    scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
    scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("EmbeddingBackfill", "products", backfill_spec())
    scene.wait_status("vfill/products", "Complete", timeout=120)
    scene.apply("VectorIndex", "products", index_spec())
    scene.wait_reason("vidx/products", "IndexReady", timeout=120)
    scene.wait_reason("vst/shop", "Healthy", timeout=30, condition="CoverageHealthy")
    postgres.sql("VACUUM ANALYZE products", shop.database)  # autovacuum would do it at a time of its own
    time.sleep(SETTLE_SECONDS)
    yield scene
    scene.stop()


def written_since(scene: Scene, before: int) -> list[dict[str, Any]]:
    """What the operator wrote since there were `before` entries, some passes later."""
    time.sleep(PASSES_SECONDS)
    return writes(scene.cluster, scene.namespace)[before:]


def quiet_for(scene: Scene, seconds: float) -> None:
    """The clock runs here on purpose: the promise is about time."""
    before = len(writes(scene.cluster, scene.namespace))
    time.sleep(seconds)
    after = written_since(scene, before)
    assert not after, summary(after)


def test_an_unchanged_world_writes_nothing_for_ninety_seconds(settled: Scene) -> None:
    quiet_for(settled, QUIET_SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_unchanged_world_writes_nothing_for_ten_minutes(settled: Scene) -> None:
    quiet_for(settled, 600)


def test_labels_and_annotations_of_others_cause_nothing(settled: Scene) -> None:
    before = len(writes(settled.cluster, settled.namespace))
    for resource in ("vst/shop", "vidx/products", "vfill/products"):
        settled.kubectl("label", resource, "team=search")
        settled.kubectl("annotate", resource, "example.com/note=seen")
    after = written_since(settled, before)
    assert not after, summary(after)


@pytest.mark.parametrize(
    ("kind", "resource", "spec"),
    [
        ("VectorStore", "vst/twin", store_spec()),
        ("EmbeddingBackfill", "vfill/nothing-missing", backfill_spec()),
    ],
)
def test_an_object_with_nothing_to_do_outside_costs_two_writes(
    settled: Scene, kind: str, resource: str, spec: dict[str, Any]
) -> None:
    before = len(writes(settled.cluster, settled.namespace))
    settled.apply(kind, resource.split("/")[1], spec)
    settled.wait_status(resource, "Ready")
    after = written_since(settled, before)
    assert len(after) <= 2, summary(after)


def test_adopting_an_existing_index_costs_two_writes(settled: Scene) -> None:
    settled.kubectl("delete", "vidx/products", "--wait=true")
    before = len(writes(settled.cluster, settled.namespace))
    settled.apply("VectorIndex", "again", index_spec())
    settled.wait_reason("vidx/again", "IndexReady")
    after = written_since(settled, before)
    assert len(after) <= 2, summary(after)


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


async def sent(shop: Shop) -> int:
    """Statements during a few sweeps."""
    before = await statements(shop)
    time.sleep(SWEEPS_SECONDS)
    return await statements(shop) - before


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
    one = await sent(shop)
    items = [index_spec(table=f"many_{n}") for n in range(1, 100)]
    scene.apply_all([("VectorIndex", f"many-{n}", spec) for n, spec in enumerate(items, start=1)])
    scene.wait("a hundred indexes to be Ready", lambda: scene.count_ready("vidx") == 100, timeout=120)
    time.sleep(SETTLE_SECONDS)
    hundred = await sent(shop)
    memory = rss_megabytes(operator.process.pid)
    print(f"statements in {SWEEPS_SECONDS} s: one index {one}, a hundred {hundred}; operator's memory {memory:.0f} MB")
    assert one > 0
    assert hundred <= one + ROUND_TRIPS, "at most the one sweep more that may begin at the edge of the window"


def rss_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
