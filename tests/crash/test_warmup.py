"""A killed operator goes on with a warm-up where its status says, and never clears what it has warmed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stand.scene import Scene, store_spec
from stand.service import SearchServiceProcess

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = pytest.mark.crash

QUERIES = 120
PER_SECOND = 30
SAMPLES = 200  # of both measurements, at most


def test_ten_kills_cost_repeated_searches_and_nothing_else(
    cluster: Cluster, namespace: str, shop: Shop, provider: Provider, tmp_path: Path
) -> None:
    provider.reset()
    with SearchServiceProcess(
        tmp_path, database_url=shop.api_dsn, embeddings_base_url=provider.base_url,
        embeddings_api_key=provider.api_key, env={"SIMILARITY": "-1", "VECTOR_POOL_MAX": "5"},
    ) as service:  # fmt: skip
        table = json.dumps({f"{namespace}/api:3000": [service.address]})
        scene = Scene(cluster, namespace, tmp_path, {"VECTOROPS_SERVICE_ADDRESSES": table})
        scene.secret("shop-db", url=shop.operator_dsn)
        scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
        try:
            scene.apply("VectorStore", "shop", store_spec(service={"serviceRef": {"name": "api", "port": 3000}}))
            spec = {
                "storeRef": {"name": "shop"}, "invalidate": "All", "requestsPerSecond": PER_SECOND,
                "queries": {"inline": [f"a thing of kind {number}" for number in range(QUERIES)]},
            }  # fmt: skip
            scene.apply("CacheWarmup", "popular", spec)
            chance, positions, firsts = random.Random(4), [], set()
            for _ in range(10):
                operator = scene.operator()
                time.sleep(chance.uniform(0.2, 2.5))
                operator.process.kill()
                status = scene.get("vwarm/popular").get("status", {})
                positions.append(status.get("bookmark", {}).get("position", 0))
                if "before" in status:
                    firsts.add(json.dumps(status["before"]))
            scene.operator()
            scene.wait_status("vwarm/popular", "Complete", timeout=90)
            status = scene.get("vwarm/popular")["status"]
        finally:
            scene.stop()
    assert positions == sorted(positions), "it never goes back"
    assert len(firsts) <= 1  # measured once
    assert (status["queries"]["warmed"], status["queries"]["failed"]) == (QUERIES, 0)
    assert status["after"]["cacheHitRatePercent"] == 100  # nothing that was warmed was cleared again
