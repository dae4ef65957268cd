"""Kill the operator anywhere in a backfill: a new one goes on, every row is right, only what was in flight is lost.

The provider is a process with a bill; the vector of a text and its tokens are functions of the text. So every row of
the filled table is compared, and every token on the bill is accounted for.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.crash.conftest import TEXTS, query

from stand.provider.vectors import tokens_of, vector_for
from stand.scene import Scene, backfill_spec, index_spec, store_spec

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

EFFECTS = "vectorops.kinds.embeddingbackfill.effects"
FILL = "vfill/products"
IN_FLIGHT = 16  # rows: batchSize times concurrency
STATES = "SELECT row_key, text_hash, model, dimensions FROM vectorops.embedding_state"
ACCOUNT = "SELECT tokens_reserved AS reserved, tokens_billed AS billed, rows_done FROM vectorops.spend"
EMBEDDED = (
    "SELECT (SELECT count(embedding) FROM products) AS n, (SELECT count(*) FROM vectorops.embedding_state) AS states"
)
MEND = "UPDATE products SET title = title || ', mended' WHERE id = $1"
BUILDING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""
INDEXES = """
SELECT c.relname AS name, i.indisvalid AS valid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'products'::regclass AND a.amname = 'hnsw'
"""


@pytest.fixture
def stored(scene: Scene) -> Scene:
    """A scene whose store is applied."""
    scene.apply("VectorStore", "shop", store_spec())
    return scene


def most_in_flight(shop: Shop) -> int:
    """The tokens of the longest texts that can be in flight at a time; the table is at least twenty times that."""
    tokens = sorted((tokens_of(row["text"]) for row in query(shop, TEXTS)), reverse=True)
    most = sum(tokens[:IN_FLIGHT])
    assert sum(tokens) >= 20 * most
    return most


def assert_filled(scene: Scene, shop: Shop, provider: Provider, kills: int = 0) -> int:
    """Complete, every row right, and paid at most once and what the kills cost. Returns the tokens that were lost."""
    scene.wait_status(FILL, "Complete", timeout=90)
    assert scene.condition(FILL, "Complete")["reason"] == "Succeeded"
    rows, states = query(shop, TEXTS), {row["row_key"]: row for row in query(shop, STATES)}
    assert len(rows) == len(states) == 1000
    wrong = [
        row["id"]
        for row in rows
        if row["embedding"] is None or not np.array_equal(row["embedding"].to_numpy(), vector_for(row["text"], 384))
    ]
    assert wrong == []
    for row in rows:
        state = states[str(row["id"])]
        assert state["text_hash"] == hashlib.sha256(row["text"].encode()).digest(), row["id"]
        assert (state["model"], state["dimensions"]) == ("e5-passage", 384)
    bill, account = provider.bill()["tokens"], query(shop, ACCOUNT)[0]
    lost = paid_in_vain(shop, provider)
    assert 0 <= lost <= kills * most_in_flight(shop)
    assert account["billed"] <= bill <= account["billed"] + account["reserved"], "what may have been billed is at risk"
    return lost


def assert_nothing_half_written(shop: Shop) -> None:
    """Vectors, what they were made from, and the account are written together or not at all."""
    written, account = query(shop, EMBEDDED)[0], query(shop, ACCOUNT)[0]
    assert written["n"] == written["states"] == account["rows_done"], (dict(written), dict(account))


def held_and_killed(scene: Scene, provider: Provider, point: str) -> int:
    """Kill an operator whose request the provider holds; the provider goes on and bills it. Returns its tokens."""
    before = len(provider.requests())
    provider.control(holdRequests=point)
    operator = scene.operator(wait=False)
    scene.wait("the request to be held", lambda: provider.requests("Held"))
    operator.process.kill()
    provider.control(holdRequests=None)
    scene.wait("the request to be billed", lambda: all(one["billed"] for one in provider.requests()[before:]))
    return sum(one["tokens"] for one in provider.requests()[before:])


def test_of_all_kills_at_one_backfill_only_those_between_the_request_and_the_write_cost_that_one_request(
    stored: Scene, shop: Shop, provider: Provider, killed: Callable[..., None]
) -> None:
    lost: dict[str, int] = {}

    def kill_after(effect: str, nth: int, *, paid: bool = False, then: Callable[[], object] = lambda: None) -> None:
        killed("after", f"{EFFECTS}:{effect}", nth, then)
        lost[effect] = provider.requests()[-1]["tokens"] if paid else 0
        assert_nothing_half_written(shop)

    spec = backfill_spec(batchSize=IN_FLIGHT, concurrency=1)
    kill_after("begin_run", 1, then=lambda: stored.apply("EmbeddingBackfill", "products", spec))
    kill_after("reserve_spend", 3)
    lost["Received"] = held_and_killed(stored, provider, "Received")
    kill_after("send_request", 3, paid=True)
    lost["Billed"] = held_and_killed(stored, provider, "Billed")
    kill_after("write_batch", 3)
    bad = query(shop, "SELECT id FROM products WHERE embedding IS NULL ORDER BY id OFFSET 40 LIMIT 1")[0]["id"]
    provider.control(poison=[row["text"] for row in query(shop, TEXTS) if row["id"] == bad])
    kill_after("release_spend", 1)
    kill_after("record_failure", 1)
    assert [row["row_key"] for row in query(shop, "SELECT row_key FROM vectorops.failure")] == [str(bad)]
    query(shop, MEND, bad)

    stored.operator()
    assert assert_filled(stored, shop, provider, kills=len(lost)) == sum(lost.values()), lost


def paid_in_vain(shop: Shop, provider: Provider) -> int:
    """Tokens on the bill beyond those of the texts that are embedded now."""
    embedded = sum(tokens_of(row["text"]) for row in query(shop, TEXTS) if row["embedding"] is not None)
    return int(provider.bill()["tokens"]) - embedded


def test_a_row_edited_while_its_text_is_at_the_provider_gets_the_vector_of_its_new_text(
    stored: Scene, shop: Shop, provider: Provider
) -> None:
    provider.control(holdRequests="Received")
    stored.operator()
    stored.apply("EmbeddingBackfill", "products", backfill_spec(batchSize=IN_FLIGHT, concurrency=1))
    provider.wait_for("Held", timeout=60)
    former = {row["id"]: row["text"] for row in query(shop, TEXTS)}
    query(shop, MEND, 5)
    provider.control(holdRequests=None)
    lost = assert_filled(stored, shop, provider, kills=1)
    assert lost == tokens_of(former[5]), "the old text was in the first request, and paid for in vain"


def test_a_backfill_that_waits_for_an_index_build_waits_on_after_a_kill_and_both_end_well(
    stored: Scene,
    shop: Shop,
    provider: Provider,
    old_transaction: threading.Event,
    wait_looks: Callable[[str], None],
) -> None:
    first = stored.operator()
    stored.apply("VectorIndex", "products", index_spec())
    stored.wait_reason("vidx/products", "WaitingForOldTransactions")
    stored.apply("EmbeddingBackfill", "products", backfill_spec(batchSize=IN_FLIGHT))
    stored.wait_reason(FILL, "WaitingForIndexBuild")
    building = query(shop, BUILDING)
    first.process.kill()

    stored.operator()
    wait_looks("EmbeddingBackfill")
    assert stored.condition(FILL, "Ready")["reason"] == "WaitingForIndexBuild"
    assert len(building) == 1 and query(shop, BUILDING) == building, "the build goes on, and no second one was begun"
    assert provider.requests() == []

    old_transaction.set()
    assert assert_filled(stored, shop, provider) == 0
    assert_index(stored, shop)


def test_an_index_and_a_backfill_applied_together_end_well_also_when_the_operator_is_killed(
    stored: Scene, shop: Shop, provider: Provider, watch: Any
) -> None:
    stored.apply("VectorIndex", "products", index_spec())
    stored.apply("EmbeddingBackfill", "products", backfill_spec(batchSize=IN_FLIGHT // 2, concurrency=2))
    first = stored.operator()
    provider.wait_for(None, at_least=5, timeout=60)
    first.process.kill()

    stored.operator()
    assert_filled(stored, shop, provider, kills=1)
    assert_index(stored, shop)
    assert watch.most_builds <= 1


def assert_index(scene: Scene, shop: Shop) -> None:
    scene.wait_reason("vidx/products", "IndexReady", timeout=90)
    indexes = [(row["name"], row["valid"]) for row in query(shop, INDEXES)]
    assert indexes == [("idx_products_embedding_hnsw", True)]
    assert [row["step"] for row in query(shop, "SELECT step FROM vectorops.intent")] == ["Adopted"]
