"""Kill the operator anywhere in a rebuild: a new one goes on, and nobody searching ever notices.

Every test begins with a table that has an index of other parameters, so that the whole way is gone: intent, statement,
comment, rename, drop, ANALYZE. The operator is killed by SIGKILL right after one side effect (see launcher.py), or
anywhere; a fresh one has to bring the same end, with never two builds at once and nothing left behind.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from stand.scene import Scene, index_spec, store_spec

if TYPE_CHECKING:
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

STEPS = "vectorops.kinds.vectorindex.steps"
INDEX = "vidx/products"
NAME = "idx_products_embedding_hnsw"
SLOW = {"m": 24, "efConstruction": 400}  # about a second for 1,000 rows: long enough to be looked at and commented on
FORMER = f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 40)"
VECTORS = """
UPDATE products SET embedding = (
    SELECT array_agg(sin(id * 0.37 + n * 1.7) + cos(id * n * 0.011)) FROM generate_series(1, 384) n
)::vector
"""
INDEXES = """
SELECT c.relname AS name, i.indisvalid AS valid, c.reloptions AS options
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'products'::regclass AND a.amname = 'hnsw'
"""
BUILDING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""


def query(dsn: str, statement: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(fetch())


@pytest.fixture
def table(scene: Scene, shop: Shop) -> Scene:
    """Products with vectors and an index of other parameters; the store is applied."""
    query(shop.operator_dsn, VECTORS)
    query(shop.operator_dsn, FORMER)
    scene.apply("VectorStore", "shop", store_spec())
    return scene


def assert_rebuilt(scene: Scene, shop: Shop, m: int = 24) -> None:
    """Ready, one valid index under the right name with the new parameters, nothing invalid, nothing unfinished."""
    scene.wait_status(INDEX, "Ready", timeout=90)
    scene.wait_reason(INDEX, "IndexReady", timeout=90)
    rows = query(shop.operator_dsn, INDEXES)
    assert [(row["name"], row["valid"]) for row in rows] == [(NAME, True)], rows
    assert f"m={m}" in rows[0]["options"], rows
    left = query(shop.operator_dsn, "SELECT step FROM vectorops.intent")
    assert [row["step"] for row in left] == ["Adopted"], left


def assert_unnoticed(watch: Any) -> None:
    """Never two builds at once, never a moment without a valid index."""
    assert watch.most_builds == 1
    assert watch.without_index == 0
    assert watch.looks > 10


@pytest.mark.parametrize(
    ("mode", "function", "amount"),
    [
        ("after", "write_intent", 1),  # the claim of the name
        ("after", "write_intent", 2),  # the intent to build
        ("during", "send_create", 0.05),  # the statement was just sent
        ("during", "send_create", 0.4),
        ("after", "send_create", 1),  # built, nothing verified
        ("after", "write_comment", 1),  # while it is built; where no look fell into that second, with the swap
        ("after", "write_intent", 3),  # within the transaction of the swap, just before its end
        ("after", "rename", 1),  # swapped, the old one still there
        ("during", "send_drop", 0.0),
        ("after", "send_drop", 1),
        ("after", "send_analyze", 1),
        ("after", "forget_intent", 1),
    ],
)
def test_a_rebuild_survives_a_kill_after_each_side_effect(
    table: Scene, shop: Shop, watch: Any, killed: Callable[..., None], mode: str, function: str, amount: float
) -> None:
    spec = index_spec(hnsw=SLOW)
    killed(mode, f"{STEPS}:{function}", amount, lambda: table.apply("VectorIndex", "products", spec))
    table.operator()
    assert_rebuilt(table, shop)
    assert_unnoticed(watch)


def test_ten_rebuilds_survive_a_kill_anywhere(table: Scene, shop: Shop, watch: Any) -> None:
    chance, unfinished, parameters = random.Random(7), 0, {"efConstruction": 200}
    operator = table.operator()
    table.apply("VectorIndex", "products", index_spec(hnsw=parameters))
    begun = time.monotonic()
    table.wait_reason(INDEX, "IndexReady", timeout=90)
    span = time.monotonic() - begun
    for m in range(10, 30, 2):
        table.patch(INDEX, {"hnsw": parameters | {"m": m}})
        time.sleep(chance.uniform(0, span))  # anywhere is a moment, not a condition
        operator.process.kill()
        options = [option for row in query(shop.operator_dsn, INDEXES) for option in row["options"]]
        unfinished += f"m={m}" not in options or len(options) > 2
        operator = table.operator()
        assert_rebuilt(table, shop, m)
    assert_unnoticed(watch)
    assert unfinished >= 3, "most kills came before the end"


def test_a_running_build_is_adopted_by_the_next_operator(
    table: Scene, shop: Shop, watch: Any, old_transaction: threading.Event, wait_looks: Callable[[str], None]
) -> None:
    first = table.operator()
    table.apply("VectorIndex", "products", index_spec())
    table.wait_reason(INDEX, "WaitingForOldTransactions")
    first.process.kill()
    before = query(shop.admin_dsn, BUILDING)
    assert len(before) == 1, "the build goes on in the server"

    table.operator()
    wait_looks("VectorIndex")
    assert table.get(INDEX)["status"]["build"]["blockedBy"]["application"] == "forgotten-psql"
    assert query(shop.admin_dsn, BUILDING) == before, "no second build was begun"
    old_transaction.set()
    assert_rebuilt(table, shop)
    assert_unnoticed(watch)


def test_a_graceful_stop_leaves_the_build_running_and_the_next_operator_adopts_it(
    table: Scene, shop: Shop, watch: Any, old_transaction: threading.Event
) -> None:
    first = table.operator()
    table.apply("VectorIndex", "products", index_spec())
    table.wait_reason(INDEX, "WaitingForOldTransactions")
    before = query(shop.admin_dsn, BUILDING)
    begun = time.monotonic()
    first.process.terminate(grace=30)
    assert first.process.exit_code == 0
    assert time.monotonic() - begun < 4, "nothing is waited for"
    assert len(before) == 1 and query(shop.admin_dsn, BUILDING) == before
    table.operator()
    old_transaction.set()
    assert_rebuilt(table, shop)
    assert_unnoticed(watch)


def test_an_object_deleted_during_its_build_leaves_the_former_index_alone(
    table: Scene, shop: Shop, watch: Any, old_transaction: threading.Event
) -> None:
    table.operator()
    table.apply("VectorIndex", "products", index_spec())
    table.wait_reason(INDEX, "WaitingForOldTransactions")
    table.kubectl("delete", INDEX, "--wait=false")
    old_transaction.set()
    table.wait_gone(INDEX)
    rows = query(shop.operator_dsn, INDEXES)
    assert [(row["name"], row["valid"]) for row in rows] == [(NAME, True)]
    assert "m=8" in rows[0]["options"]
    assert query(shop.operator_dsn, "SELECT step FROM vectorops.intent") == []
    assert_unnoticed(watch)
