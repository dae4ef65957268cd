"""CRDs that are older than the operator: the API server drops what they do not know, and the operator says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stand.provider import Provider
from stand.scene import Scene, backfill_spec, store_spec

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CRD = Path(__file__).resolve().parents[2] / "crds" / "embeddingbackfills.yaml"


def without(field: str) -> str:
    """The CRD of backfills as it was before `spec.<field>`, and before the rules and columns that speak of it."""
    body: dict[str, Any] = yaml.safe_load(CRD.read_text())
    spec = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"][field]
    rules = spec.get("x-kubernetes-validations", [])
    spec["x-kubernetes-validations"] = [rule for rule in rules if field not in rule["rule"]]
    return yaml.safe_dump(body)


@contextmanager
def older(cluster: Cluster, field: str) -> Iterator[None]:
    """The API server serves that older CRD."""
    cluster.kubectl("replace", "-f", "-", input=without(field))
    try:
        yield
    finally:
        restore(cluster)


def restore(cluster: Cluster) -> None:
    cluster.kubectl("replace", "-f", str(CRD))


def test_a_budget_that_the_crd_drops_is_told_and_no_money_is_spent_meanwhile(
    scene: Scene, provider: Provider, cluster: Cluster
) -> None:
    with older(cluster, "budget"):
        operator = scene.operator(wait=False)

        def told() -> bool:
            code, said = operator.get("/readyz")
            return code == 503 and "EmbeddingBackfill.spec.budget" in said

        scene.wait("readyz to tell", told)
        assert operator.get("/healthz")[0] == 200, "a restart would mend nothing"
        scene.apply("VectorStore", "shop", store_spec())
        scene.wait_status("vst/shop", "Ready")  # all other work goes on
        limited = backfill_spec(budget={"maxTokens": 10})
        scene.kubectl("create", "--validate=false", "-f", "-", input=yaml.safe_dump(named("products", limited)))
        assert "budget" not in scene.get("vfill/products")["spec"], "dropped without a word"
        scene.wait_reason("vfill/products", "CRDsOutdated")
        assert provider.bill()["texts"] == 0
        assert "vectorops_crd_fields_missing 1.0" in operator.get("/metrics")[1]
        assert scene.logs().count("drop these fields") == 1
        restore(cluster)
        scene.wait("readyz again", lambda: operator.get("/readyz")[0] == 200, 90)
    scene.wait_status("vfill/products", "Complete", timeout=120)


def named(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A backfill as a manifest."""
    kind = {"apiVersion": "vectorops.dev/v1alpha1", "kind": "EmbeddingBackfill"}
    return {**kind, "metadata": {"name": name}, "spec": spec}
