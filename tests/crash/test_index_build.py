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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from stand.scene import Scene, index_spec, store_spec

if TYPE_CHECKING:
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
STEPS = "vectorops.kinds.vectorindex.steps"
NAME = "idx_products_embedding_hnsw"
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
POLL_SECONDS = 0.01


class Watch:
    """Looks at the table every 10 ms: how many builds run at once, and whether a valid index is there."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._stop = dsn, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()), daemon=True)
        self.most_builds = self.without_index = self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    async def _look(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        while not self._stop.is_set():
            builds = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()"
            )
            rows = await connection.fetch(INDEXES)
            self.looks += 1
            self.most_builds = max(self.most_builds, builds)
            self.without_index += not any(row["valid"] for row in rows)
            await asyncio.sleep(POLL_SECONDS)
        await connection.close()


async def query(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


@pytest.fixture
def table(scene: Scene, shop: Shop) -> Scene:
    """Products with vectors and an index of other parameters; the store is applied."""
    asyncio.run(query(shop.operator_dsn, VECTORS))
    asyncio.run(query(shop.operator_dsn, FORMER))
    scene.apply("VectorStore", "shop", store_spec())
    return scene


def rebuilt(scene: Scene) -> None:
    scene.wait_status("vidx/products", "Ready", timeout=90)
    scene.wait_reason("vidx/products", "IndexReady", timeout=90)


def assert_one_valid_index(shop: Shop, watch: Watch) -> None:
    rows = asyncio.run(query(shop.operator_dsn, INDEXES))
    assert [(row["name"], row["valid"]) for row in rows] == [(NAME, True)], rows
    assert "m=24" in rows[0]["options"], rows
    left = asyncio.run(query(shop.operator_dsn, "SELECT step FROM vectorops.intent"))
    assert [row["step"] for row in left] == ["Adopted"], left
    assert watch.most_builds <= 1
    assert watch.without_index == 0
    assert watch.looks > 10


def killed(scene: Scene, mode: str, target: str, amount: float) -> None:
    """Run an operator until it kills itself there."""
    operator = scene.operator(LAUNCHER, mode, target, str(amount), wait=False)
    scene.apply("VectorIndex", "products", index_spec())
    scene.wait(f"the operator to be killed {mode} {target}", lambda: not operator.process.alive(), 90)
    assert "crash point reached" in operator.log.read_text()


@pytest.mark.parametrize(
    ("mode", "function", "amount"),
    [
        ("after", "write_intent", 1),  # the claim of the name
        ("after", "write_intent", 2),  # the intent to build
        ("during", "send_create", 0.05),  # the statement was just sent
        ("during", "send_create", 0.4),
        ("after", "send_create", 1),  # built, nothing verified
        ("after", "write_comment", 1),
        ("after", "rename", 1),  # swapped, the old one still there
        ("during", "send_drop", 0.0),
        ("after", "send_drop", 1),
        ("after", "send_analyze", 1),
        ("after", "forget_intent", 1),
    ],
)
def test_a_rebuild_survives_a_kill_after_each_side_effect(
    table: Scene, shop: Shop, mode: str, function: str, amount: float
) -> None:
    with Watch(shop.admin_dsn) as watch:
        killed(table, mode, f"{STEPS}:{function}", amount)
        table.operator()
        rebuilt(table)
    assert_one_valid_index(shop, watch)


@pytest.mark.parametrize("seed", range(10))
def test_a_rebuild_survives_a_kill_anywhere(table: Scene, shop: Shop, seed: int) -> None:
    with Watch(shop.admin_dsn) as watch:
        operator = table.operator()
        table.apply("VectorIndex", "products", index_spec())
        time.sleep(random.Random(seed).uniform(0.05, 2.0))  # anywhere is a moment, not a condition
        operator.process.kill()
        table.operator()
        rebuilt(table)
    assert_one_valid_index(shop, watch)


@pytest.fixture
def old_transaction(shop: Shop) -> Iterator[threading.Event]:
    """An old snapshot, for which CREATE INDEX CONCURRENTLY waits until the event is set."""
    ready, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(shop.admin_dsn, server_settings={"application_name": "forgotten-psql"})
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.fetch("SELECT count(*) FROM products")
        ready.set()
        await asyncio.to_thread(release.wait, 120)
        await transaction.rollback()
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield release
    release.set()
    thread.join(20)


def test_a_running_build_is_adopted_by_the_next_operator(
    table: Scene, shop: Shop, old_transaction: threading.Event
) -> None:
    with Watch(shop.admin_dsn) as watch:
        first = table.operator()
        table.apply("VectorIndex", "products", index_spec())
        table.wait_reason("vidx/products", "WaitingForOldTransactions")
        first.process.kill()
        table.operator()
        building = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
        before = asyncio.run(query(shop.admin_dsn, building))
        assert len(before) == 1, "the build goes on in the server"
        table.wait(
            "who blocks the build, in status",
            lambda: table.get("vidx/products")["status"].get("build", {}).get("blockedBy", {}).get("application")
            == "forgotten-psql",
        )
        assert asyncio.run(query(shop.admin_dsn, building)) == before, "no second build was begun"
        old_transaction.set()
        rebuilt(table)
    assert_one_valid_index(shop, watch)


def test_a_graceful_stop_leaves_the_build_running_and_the_next_operator_adopts_it(
    table: Scene, shop: Shop, old_transaction: threading.Event
) -> None:
    with Watch(shop.admin_dsn) as watch:
        first = table.operator()
        table.apply("VectorIndex", "products", index_spec())
        table.wait_reason("vidx/products", "WaitingForOldTransactions")
        first.process.terminate(grace=30)
        assert first.process.exit_code == 0
        building = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
        assert len(asyncio.run(query(shop.admin_dsn, building))) == 1
        table.operator()
        old_transaction.set()
        rebuilt(table)
    assert_one_valid_index(shop, watch)


def test_an_object_deleted_during_its_build_leaves_the_former_index_alone(
    table: Scene, shop: Shop, old_transaction: threading.Event
) -> None:
    table.operator()
    table.apply("VectorIndex", "products", index_spec())
    table.wait_reason("vidx/products", "WaitingForOldTransactions")
    table.kubectl("delete", "vidx/products", "--wait=false")
    old_transaction.set()
    table.wait_gone("vidx/products")
    rows = asyncio.run(query(shop.operator_dsn, INDEXES))
    assert [(row["name"], row["valid"]) for row in rows] == [(NAME, True)]
    assert "m=8" in rows[0]["options"]
