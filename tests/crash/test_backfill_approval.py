"""Kill the operator around an approval: what was approved is the bound of all its processes together.

Approved through the API server; the table grows tenfold and the budget is raised meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.crash.conftest import query

from stand.scene import Scene, backfill_spec, store_spec

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

FILL = "vfill/products"
GROW = """INSERT INTO products (title, description, category, price)
          SELECT title || ' no. ' || n, description, category, price FROM products, generate_series(1, 9) n"""
SPENT = "SELECT tokens_billed + tokens_reserved AS spent FROM vectorops.spend"
KEPT = "SELECT plan_hash, most_tokens FROM vectorops.approval ORDER BY approved_at"
LEFT = "SELECT count(*) AS n FROM products WHERE embedding IS NULL"
EFFECTS = "vectorops.kinds.embeddingbackfill.effects"


def test_processes_that_are_killed_spend_together_what_was_approved_and_a_new_approval_ends_it(
    scene: Scene, shop: Shop, provider: Provider, killed: Callable[..., None]
) -> None:
    scene.apply("VectorStore", "shop", store_spec())
    query(shop, "DELETE FROM products WHERE id > (SELECT id FROM products ORDER BY id OFFSET 150 LIMIT 1)")
    operator = scene.operator()
    scene.apply("EmbeddingBackfill", "products", backfill_spec(approval="Manual", batchSize=16, concurrency=1))
    scene.wait_reason(FILL, "WaitingForApproval")
    plan = scene.get(FILL)["status"]["plan"]
    operator.process.kill()

    killed("after", "vectorops.clients.approvals:record", 1, lambda: scene.approve(FILL))
    assert [tuple(row) for row in query(shop, KEPT)] == [(plan["hash"], plan["mostTokens"])]
    assert provider.bill()["requests"] == 0
    killed("after", f"{EFFECTS}:send_request", 2)
    query(shop, GROW)
    scene.patch(FILL, {"budget": {"maxTokens": 10**12}})
    killed("after", f"{EFFECTS}:write_batch", 2)

    scene.operator()
    scene.wait_reason(FILL, "WaitingForApproval", timeout=90)
    scene.wait("the next plan", lambda: scene.get(FILL)["status"]["plan"]["hash"] != plan["hash"])
    body = scene.get(FILL)
    assert {c["type"]: c["status"] for c in body["status"]["conditions"]}["Suspended"] == "True"
    assert 0.4 * plan["tokens"] < provider.bill()["tokens"] <= plan["mostTokens"]
    assert query(shop, SPENT)[0]["spent"] <= plan["mostTokens"] and query(shop, LEFT)[0]["n"] > 1000
    assert body["status"]["approved"]["hash"] == plan["hash"]

    scene.approve(FILL)
    scene.wait_status(FILL, "Complete", timeout=120)
    assert query(shop, LEFT)[0]["n"] == 0
    kept = query(shop, KEPT)
    assert len(kept) == 2 and kept[1]["plan_hash"] == body["status"]["plan"]["hash"]
