"""The API of EmbeddingBackfill: what may be written, what may be changed, and the CRD that comes out of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from vectorops.kinds.embeddingbackfill import KIND
from vectorops.kinds.embeddingbackfill.resource import Reason, Spec, Status
from vectorops.runtime.schema import structural, without_defaults

LEAST = {"storeRef": {"name": "shop"}, "tableName": "products"}
MAY_CHANGE = {
    "suspend", "budget", "rateLimits", "runToken", "approval", "approvedPlan", "ttlSecondsAfterFinished",
}  # fmt: skip


def test_store_and_table_are_enough() -> None:
    spec = Spec.model_validate(LEAST)
    assert (spec.select, spec.suspend, spec.limit, spec.batch_size, spec.budget) == ("Missing", False, None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"select": "Some"}, {"ids": []}, {"ids": [""]}, {"where": []}, {"mode": "Bulk"},
        {"window": {"schedule": "0 22 * * *"}},
        {"batchSize": 0}, {"batchSize": 2049}, {"concurrency": 33}, {"limit": 0},
        {"maxFailedRows": -1},
        {"budget": {"maxCostUSD": "2,00"}}, {"budget": {"maxCostUSD": "-1"}}, {"budget": {"maxTokens": -1}},
        {"rateLimits": {"requestsPerMinute": 0}}, {"tableName": ""}, {"runToken": "x" * 129},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate(LEAST | wrong)


def test_money_has_the_name_that_people_know() -> None:
    spec = Spec.model_validate(LEAST | {"budget": {"maxCostUSD": "2.00"}})
    assert spec.budget is not None and spec.budget.max_cost_usd == "2.00"


def test_what_identifies_a_request_is_immutable_and_what_steers_it_is_not() -> None:
    frozen = {rule.message.split(" ")[0] for rule in Spec.rules}
    fields = {info.alias or name for name, info in Spec.model_fields.items()}
    assert fields - frozen == MAY_CHANGE
    assert all("has(oldSelf." in rule.rule for rule in Spec.rules)


def test_the_crd_schema_is_structural() -> None:
    spec = structural(Spec, "EmbeddingBackfill.spec")
    status = without_defaults(structural(Status, "EmbeddingBackfill.status"))
    assert spec["properties"]["select"]["enum"] == ["Missing", "Stale", "All"]
    assert spec["properties"]["budget"]["properties"].keys() == {"maxCostUSD", "maxTokens"}
    assert status["properties"]["cost"]["properties"].keys() >= {"usd", "estimatedUSD", "atRiskTokens"}


def test_columns_are_those_of_the_contract() -> None:
    names = [column.name.upper() for column in KIND.columns]
    assert names == ["STATUS", "DONE", "TOTAL", "FAILED", "COVERAGE", "RATE", "COST", "ETA", "AGE"]


def test_every_reason_says_what_to_do() -> None:
    assert all(reason.next_step.endswith(".") for reason in Reason)
