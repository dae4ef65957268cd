"""The VectorStore in the API: its CRD, what kubectl shows, and what the schema refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from vectorops.kinds.vectorstore import KIND
from vectorops.runtime.manifests import crd
from vectorops.runtime.schema import rules_of
from vectorops.runtime.store_spec import VectorStoreSpec

DATABASE = {"connectionSecretRef": {"name": "db", "key": "url"}}


def schema() -> dict[str, Any]:
    made: dict[str, Any] = crd(KIND)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return made


def test_kubectl_shows_the_columns_of_the_contract() -> None:
    columns = [column["name"] for column in crd(KIND)["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["READY", "LATENCY", "ERRORS", "COVERAGE", "CACHE", "POOL", "REASON", "AGE"]


def test_names_with_capitals_inside_are_spelled_as_in_the_contract() -> None:
    spec = schema()["spec"]["properties"]
    assert {"baseURLSecretRef", "priceUSDPerMillionTokens", "apiKeySecretRef"} <= spec["embeddings"][
        "properties"
    ].keys()
    assert "p95LatencyMilliseconds" in spec["thresholds"]["properties"]
    assert "schema" in spec["tables"]["items"]["properties"]
    observed = schema()["status"]["properties"]["observed"]["properties"]
    assert {"p95LatencyMilliseconds", "coveragePercent", "pgvectorVersion"} <= observed.keys()


def test_tables_are_a_map_by_name() -> None:
    tables = schema()["spec"]["properties"]["tables"]
    assert (tables["x-kubernetes-list-type"], tables["x-kubernetes-list-map-keys"]) == ("map", ["name"])


def test_rules_stand_where_a_mistake_can_be_made() -> None:
    paths = {path for path, _ in rules_of(schema()["spec"])}
    thresholds = {f".thresholds.{name}" for name in schema()["spec"]["properties"]["thresholds"]["properties"]}
    assert thresholds | {".database.tls", ".tables[]"} <= paths


def test_the_defaults_are_the_runbooks_figures() -> None:
    shown = VectorStoreSpec.model_validate({"database": DATABASE}).thresholds.model_dump(by_alias=True)
    assert shown == {
        "p95LatencyMilliseconds": {"warning": 500, "critical": 2000},
        "errorRatePercent": {"warning": 2, "critical": 5},
        "embeddingCoveragePercent": {"warning": 80, "critical": 50},
        "cacheHitRatePercent": {"warning": 50, "critical": 30},
        "poolUtilizationPercent": {"warning": 80, "critical": 95},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"database": {}},
        {"database": DATABASE | {"maxConnections": 1}},
        {"database": DATABASE, "healthCheckPeriodSeconds": 4},
        {"database": DATABASE, "embeddings": {"model": "m", "dimensions": 0}},
        {"database": DATABASE, "tables": [{"name": "Not DNS", "table": "t"}]},
        {"database": DATABASE, "tables": [{"name": "t", "table": ""}]},
        {"database": DATABASE | {"tls": {"mode": "Sometimes"}}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VectorStoreSpec.model_validate(wrong)


def test_the_crd_is_yaml_of_a_reasonable_size() -> None:
    assert len(yaml.safe_dump(crd(KIND))) < 100_000
