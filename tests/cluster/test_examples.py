"""Every manifest under examples/ runs, under the generated RBAC, as the README applies it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from stand.scene import Scene
from stand.service import SearchServiceProcess
from stand.world import NAMESPACE, ROOT

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def test_every_example_becomes_ready_and_reads_well(
    cluster: Cluster, shop: Shop, provider: Provider, tmp_path: Path
) -> None:
    cluster.kubectl("create", "namespace", NAMESPACE)
    service = SearchServiceProcess(
        tmp_path / "service", database_url=shop.api_dsn, embeddings_base_url=provider.base_url,
        embeddings_api_key=provider.api_key, env={"API_TOKEN": "of-the-service", "SIMILARITY": "-1"},
    )  # fmt: skip
    addresses = json.dumps({f"{NAMESPACE}/api:3000": [service.address]})
    scene = Scene(cluster, NAMESPACE, tmp_path, {"VECTOROPS_SERVICE_ADDRESSES": addresses})
    scene.secret("shop-db", url=shop.operator_dsn)
    scene.secret("shop-api", token="of-the-service")
    scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
    try:
        service.start()
        scene.operator()
        for file in EXAMPLES:
            scene.kubectl("apply", "-f", str(file))
        for file in EXAMPLES:
            for body in yaml.safe_load_all(file.read_text()):
                scene.wait_settled(body)
        scene.wait_reason("vst/shop", "Healthy", condition="CoverageHealthy")
        screen = scene.kubectl("get", "vst,vidx,vfill,vwarm,vtune")
    finally:
        scene.stop()
        service.stop()
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    headings = [" ".join(line.split()) for line in screen.splitlines() if line.startswith("NAME")]
    assert headings == [
        "NAME READY LATENCY ERRORS COVERAGE CACHE POOL REASON AGE",
        "NAME READY TABLE METHOD SIZE RECALL PROGRESS ETA REASON AGE",
        "NAME STATUS DONE TOTAL FAILED COVERAGE RATE COST ETA AGE",
        "NAME STATUS WARMED FAILED HITRATE AGE",
        "NAME STATUS CHOSEN RECALL P95 AGE",
    ], screen
    assert "Succeeded" in screen
    assert "1000" in screen


def test_explain_describes_every_field_of_the_spec(cluster: Cluster) -> None:
    for kind in ("vectorstore", "vectorindex", "embeddingbackfill", "cachewarmup", "searchtuning"):
        text = cluster.kubectl("explain", f"{kind}.spec")
        assert "<no description>" not in text, text
