"""What the search service's figures turn into: one condition each, Unknown where nothing is known, Ready untouched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vectorops.clients.searchservice import CACHE_STATS, METRICS, ServiceFigures
from vectorops.clients.service_figures import CacheFigures, Interval, PoolFigures
from vectorops.errors import Reason, Stalled, Transient
from vectorops.kinds.vectorstore import KIND
from vectorops.kinds.vectorstore.observation import Failure, Observation
from vectorops.kinds.vectorstore.plan import Look
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.runtime.kind import Condition, Subject
from vectorops.runtime.store_spec import VectorStoreSpec

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SUBJECT = Subject("VectorStore", "team", "shop", "uid", 1, NOW)
FIGURES = ("LatencyHealthy", "ErrorRateHealthy", "CacheHealthy", "PoolHealthy")


def look(seen: ServiceFigures | None, *, declared: bool = True, **observed: Any) -> Look:
    service = {"service": {"serviceRef": {"name": "api", "port": 3000}}} if declared else {}
    spec = {"database": {"connectionSecretRef": {"name": "shop-db", "key": "url"}}} | service
    view = Observation(service=seen, **observed)
    return Look(SUBJECT, VectorStoreSpec.model_validate(spec), view, VectorStoreStatus(), NOW)


def conditions(view: Look) -> dict[str, Condition]:
    return {c.type: c for c in KIND.conditions(view)}


def seen(
    p95: float | None = 100, errors: float | None = 0, hits: float | None = 80, used: float | None = 20
) -> ServiceFigures:
    cache, pool = CacheFigures(hit_rate_percent=hits), PoolFigures(max=5, utilization_percent=used)
    return ServiceFigures("healthy", cache, pool, interval=Interval(p95, errors))


def test_without_a_service_there_are_no_conditions_of_one() -> None:
    assert not {"ServiceReachable", *FIGURES} & set(conditions(look(None, declared=False)))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Transient(Reason.ServiceUnavailable, "gone"), "ServiceUnavailable"),
        (Transient(Reason.ServiceTimeout, "slow"), "ServiceTimeout"),
        (Transient(Reason.ServiceAnswerInvalid, "nonsense"), "ServiceAnswerInvalid"),
        (Stalled(Reason.ServiceRedirects, "elsewhere"), "ServiceRedirects"),
        (Stalled(Reason.ServiceAuthenticationFailed, "token"), "ServiceAuthenticationFailed"),
    ],
)
def test_a_service_that_fails_is_one_condition_and_its_figures_are_unknown(error: Any, reason: str) -> None:
    found = conditions(look(ServiceFigures(failure=error, failures=((METRICS, error.reason),))))
    assert (found["ServiceReachable"].status, found["ServiceReachable"].reason) == ("False", reason)
    assert {found[name].status for name in FIGURES} == {"Unknown"}
    assert {found[name].reason for name in FIGURES} == {"NoFigures"}


def test_a_missing_secret_says_nothing_about_the_service() -> None:
    found = conditions(look(None, service_failure=Failure(Reason.SecretNotFound, "no Secret", stalled=True)))
    assert (found["ServiceReachable"].status, found["ServiceReachable"].reason) == ("Unknown", "SecretNotFound")


@pytest.mark.parametrize(
    ("name", "figures", "status", "reason"),
    [
        ("LatencyHealthy", seen(p95=500), "True", "Healthy"),
        ("LatencyHealthy", seen(p95=501), "False", "Warning"),
        ("LatencyHealthy", seen(p95=2000), "False", "Warning"),
        ("LatencyHealthy", seen(p95=2001), "False", "Critical"),
        ("LatencyHealthy", seen(p95=None), "Unknown", "NoFigures"),
        ("ErrorRateHealthy", seen(errors=2), "True", "Healthy"),
        ("ErrorRateHealthy", seen(errors=3), "False", "Warning"),
        ("ErrorRateHealthy", seen(errors=6), "False", "Critical"),
        ("CacheHealthy", seen(hits=50), "True", "Healthy"),
        ("CacheHealthy", seen(hits=49), "False", "Warning"),
        ("CacheHealthy", seen(hits=30), "False", "Warning"),
        ("CacheHealthy", seen(hits=29), "False", "Critical"),
        ("CacheHealthy", seen(hits=None), "Unknown", "NoFigures"),
        ("PoolHealthy", seen(used=80), "True", "Healthy"),
        ("PoolHealthy", seen(used=95), "False", "Warning"),
        ("PoolHealthy", seen(used=95.4), "False", "Critical"),
        ("ErrorRateHealthy", seen(errors=2.4), "False", "Warning"),
        ("CacheHealthy", seen(hits=49.6), "False", "Warning"),
        ("PoolHealthy", seen(used=96), "False", "Critical"),
    ],
)
def test_the_runbooks_thresholds(name: str, figures: ServiceFigures, status: str, reason: str) -> None:
    found = conditions(look(figures))[name]
    assert (found.status, found.reason) == (status, reason)
    assert conditions(look(figures))["ServiceReachable"].status == "True"


def test_an_endpoint_that_is_not_offered_is_unknown_and_the_rest_goes_on() -> None:
    figures = ServiceFigures("healthy", None, PoolFigures(utilization_percent=20), unsupported=frozenset({CACHE_STATS}))
    found = conditions(look(figures))
    assert (found["CacheHealthy"].status, found["CacheHealthy"].reason) == ("Unknown", "EndpointUnsupported")
    assert found["PoolHealthy"].status == "True"


def test_a_warning_names_the_runbooks_remedy() -> None:
    assert "CacheWarmup" in conditions(look(seen(hits=10)))["CacheHealthy"].message
    assert "VECTOR_POOL_MAX" in conditions(look(seen(used=99)))["PoolHealthy"].message


def test_the_message_of_a_figure_does_not_change_with_it() -> None:
    one, other = conditions(look(seen(p95=100, hits=80))), conditions(look(seen(p95=130, hits=70)))
    assert {name: one[name].message for name in FIGURES} == {name: other[name].message for name in FIGURES}


def test_the_figures_stand_in_status_also_while_the_database_is_away() -> None:
    view = look(seen(p95=1234), failure=Failure(Reason.DatabaseUnavailable, "away"))
    observed = KIND.figures(view).observed
    assert observed is not None
    assert observed.p95_latency_milliseconds == 1200
    assert (observed.error_rate_percent, observed.cache_hit_rate_percent) == (0, 80)
    assert observed.pool_utilization_percent == 20
    assert KIND.decide(view).reason == "DatabaseUnavailable"
