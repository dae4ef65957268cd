"""What the search service's figures mean: its conditions, and the figures of status. Pure.

The figures never turn Ready. A figure that is not known is Unknown and never a zero: the service does not offer the
endpoint, has not searched since the last look, or was not reached (then ServiceReachable says why).
"""

from __future__ import annotations

from dataclasses import dataclass

from vectorops.clients.searchservice import CACHE_STATS, METRICS, POOL_STATS, ServiceFigures
from vectorops.errors import Reason
from vectorops.kinds.vectorstore.observation import Observation
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import Observed, VectorStoreStatus
from vectorops.runtime.kind import Condition, View
from vectorops.runtime.rounding import two_digits
from vectorops.runtime.store_spec import VectorStoreSpec
from vectorops.runtime.thresholds import ErrorRate, HitRate, Latency, PoolUtilization

Look = View[VectorStoreSpec, Observation, VectorStoreStatus]


@dataclass(frozen=True)
class Gauge:
    """One figure, what it is called, where it comes from, and the runbook's remedy."""

    condition: str
    what: str
    unit: str
    path: str
    value: float | None
    limits: Latency | ErrorRate | HitRate | PoolUtilization
    remedy: str


def service_conditions(look: Look) -> tuple[Condition, ...]:
    """ServiceReachable and one condition a figure; none where spec.service is not set."""
    if look.spec.service is None:
        return ()
    return (_reachable(look), *(_judged(look, gauge) for gauge in _gauges(look)))


def with_service(look: Look, observed: Observed) -> Observed:
    """The same figures with those of the service; percents are whole, milliseconds have two significant digits."""
    seen = look.observed.service
    if seen is None:
        return observed
    p95 = seen.interval.p95_milliseconds
    return observed.model_copy(
        update={
            "p95_latency_milliseconds": None if p95 is None else two_digits(round(p95)),
            "error_rate_percent": _whole(seen.interval.error_rate_percent),
            "cache_hit_rate_percent": _whole(seen.cache.hit_rate_percent if seen.cache else None),
            "pool_utilization_percent": _whole(seen.pool.utilization_percent if seen.pool else None),
        }
    )


def _whole(percent: float | None) -> int | None:
    return None if percent is None else round(percent)


def _gauges(look: Look) -> tuple[Gauge, ...]:
    seen, limits = look.observed.service or ServiceFigures(), look.spec.thresholds
    hits = seen.cache.hit_rate_percent if seen.cache else None
    used = seen.pool.utilization_percent if seen.pool else None
    p95, errors = seen.interval.p95_milliseconds, seen.interval.error_rate_percent
    return (
        Gauge(
            "LatencyHealthy", "The p95 of searches", " ms", METRICS, p95, limits.p95_latency_milliseconds,
            "Look at CacheHealthy and PoolHealthy, then at slow statements (pg_stat_statements).",
        ),
        Gauge(
            "ErrorRateHealthy", "The share of failed searches", " %", METRICS, errors, limits.error_rate_percent,
            "Look at vector_errors_total of the service and at the embedding provider.",
        ),
        Gauge(
            "CacheHealthy", "The cache's hit rate", " %", CACHE_STATS, hits, limits.cache_hit_rate_percent,
            "Warm the cache with what is asked most: create a CacheWarmup.",
        ),
        Gauge(
            "PoolHealthy", "The use of the connection pool", " %", POOL_STATS, used, limits.pool_utilization_percent,
            "Look for long queries, or raise VECTOR_POOL_MAX of the service.",
        ),
    )  # fmt: skip


def _judged(look: Look, gauge: Gauge) -> Condition:
    if gauge.value is None:
        return _unknown(look, gauge)
    warning, critical = gauge.limits.warning, gauge.limits.critical
    low_is_bad = isinstance(gauge.limits, HitRate)
    if not _worse(gauge.value, warning, low_is_bad):
        side = "at least" if low_is_bad else "at most"
        text = f"{gauge.what} is {side} {warning}{gauge.unit}."  # no figure: the message must not change at every look
        return Condition(gauge.condition, "True", Why.Healthy, text)
    bad = _worse(gauge.value, critical, low_is_bad)
    reason, limit = (Why.Critical, critical) if bad else (Why.Warning, warning)
    side = "below" if low_is_bad else "above"
    return Condition(gauge.condition, "False", reason, f"{gauge.what} is {side} {limit}{gauge.unit}. {gauge.remedy}")


def _worse(value: float, limit: int, low_is_bad: bool) -> bool:
    return value < limit if low_is_bad else value > limit


def _unknown(look: Look, gauge: Gauge) -> Condition:
    seen = look.observed.service
    if seen is not None and gauge.path in seen.unsupported:
        text = f"The search service does not offer {gauge.path}. {Reason.EndpointUnsupported.next_step}"
        return Condition(gauge.condition, "Unknown", Reason.EndpointUnsupported, text)
    failed = dict(seen.failures).get(gauge.path) if seen is not None else None
    if failed is not None or seen is None:
        text = f"{gauge.path} gave no figure ({failed or 'not asked'}); ServiceReachable says more."
    elif gauge.path == METRICS:
        text = "Nothing was searched between the last two looks, or the service has only been seen once."
    else:
        text = f"{gauge.path} holds no such figure yet."
    return Condition(gauge.condition, "Unknown", Why.NoFigures, text)


def _reachable(look: Look) -> Condition:
    failure, seen = look.observed.service_failure, look.observed.service
    if failure is not None:
        return Condition("ServiceReachable", "Unknown", failure.reason, failure.message)
    if seen is None:
        return Condition("ServiceReachable", "Unknown", Why.NoFigures, "The service was not asked; Ready says why.")
    if seen.failure is not None:
        return Condition("ServiceReachable", "False", seen.failure.reason, seen.failure.message)
    if seen.failures:
        failed = ", ".join(f"{path} ({reason})" for path, reason in seen.failures)
        return Condition("ServiceReachable", "True", Why.Reached, f"The service answered, but not on {failed}.")
    return Condition("ServiceReachable", "True", Why.Reached, "The search service answered.")
