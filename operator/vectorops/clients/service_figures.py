"""What the search service says of itself, as figures. Pure: parsed JSON and Prometheus text in, numbers out.

Ratios are fractions from 0 to 1 unless the key's `...Percent` twin is there. What is missing, or is no number that
can be meant (text, booleans, NaN, negative, beyond 1 or 100), is None, never 0. Latency and error rate are of the
interval between two sights of one process: counters of different processes are never subtracted from each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DURATION = "vector_search_duration_seconds"
SEARCHES = "vector_searches_total"
STARTED = "process_start_time_seconds"
READ = (f"{DURATION}_bucket", SEARCHES, STARTED)  # the samples that are read, out of hundreds of others
FAILED = frozenset({"error", "failed", "failure"})  # values of the label status that are failed searches
QUANTILE = 0.95


@dataclass(frozen=True)
class CacheFigures:
    """`/api/performance/cache/stats`. Percent from 0 to 100."""

    hit_rate_percent: float | None = None
    hits: int | None = None
    misses: int | None = None


@dataclass(frozen=True)
class PoolFigures:
    """`/api/performance/pool/stats`. Connections, and percent from 0 to 100."""

    max: int | None = None
    active: int | None = None
    idle: int | None = None
    waiting: int | None = None
    utilization_percent: float | None = None


@dataclass(frozen=True)
class JobFigures:
    """`/api/embeddings/jobs/status`: the service's own backfill jobs."""

    waiting: int | None = None
    active: int | None = None
    completed: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class Counters:
    """One process's counters at one moment. `buckets`: upper bound in seconds -> searches up to it, cumulative."""

    process: str = ""
    buckets: Mapping[float, float] = field(default_factory=dict)
    searches: float | None = None
    failed: float | None = None


@dataclass(frozen=True)
class Interval:
    """What happened between two sights, over all processes."""

    p95_milliseconds: float | None = None
    error_rate_percent: float | None = None


def cache_figures(body: Any) -> CacheFigures:
    """Figures of the cache."""
    keys = _keys(body)
    return CacheFigures(_percent(keys, "hitRate"), _count(keys, "hits"), _count(keys, "misses"))


def pool_figures(body: Any) -> PoolFigures:
    """Figures of the pool; utilization is active / max where the service does not say it."""
    keys = _keys(body)
    size, active = _count(keys, "max"), _count(keys, "active")
    utilization = _percent(keys, "utilization")
    if utilization is None and size and active is not None:
        utilization = min(100.0, 100 * active / size)
    return PoolFigures(size, active, _count(keys, "idle"), _count(keys, "waiting"), utilization)


def job_figures(body: Any) -> JobFigures:
    """Figures of the service's own jobs."""
    keys = _keys(body)
    return JobFigures(*(_count(keys, name) for name in ("waiting", "active", "completed", "failed")))


def counters(text: str, address: str) -> Counters:
    """The counters of a Prometheus text. Raises ValueError where it is none."""
    from prometheus_client.parser import text_string_to_metric_families  # imported when a service is first read

    buckets: dict[float, float] = {}
    searches = failed = None
    started = ""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            value = float(sample.value)
            if not (math.isfinite(value) and value >= 0):
                continue  # no count that can be meant, and infinity minus infinity would be none either
            if sample.name == f"{DURATION}_bucket" and "le" in sample.labels:
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value
            elif sample.name == SEARCHES:
                searches = (searches or 0.0) + value
                failed = (failed or 0.0) + (value if sample.labels.get("status") in FAILED else 0.0)
            elif sample.name == STARTED:
                started = repr(value)
    return Counters(f"{address} {started}", buckets, searches, failed)


def interval(former: Mapping[str, Counters], present: Iterable[Counters]) -> Interval:
    """p95 and error rate of what was searched since the former sight of the same processes."""
    buckets: dict[float, float] = {}
    searches = failed = 0.0
    for now in present:
        before = former.get(now.process)
        if before is None or _went_back(before, now):
            continue
        for bound, count in now.buckets.items():
            buckets[bound] = buckets.get(bound, 0.0) + count - before.buckets.get(bound, 0.0)
        if now.searches is not None and before.searches is not None:
            searches += now.searches - before.searches
            failed += (now.failed or 0.0) - (before.failed or 0.0)
    seconds = quantile(QUANTILE, buckets)
    rate = 100 * failed / searches if searches > 0 else None
    return Interval(None if seconds is None else seconds * 1000, rate)


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """The q-quantile by linear interpolation within its bucket, as Prometheus' histogram_quantile does.

    Beyond the highest finite bound that bound is the answer; of nothing there is none.
    """
    bounds = sorted(buckets)
    if not bounds or not math.isinf(bounds[-1]) or len(bounds) < 2 or buckets[bounds[-1]] <= 0:
        return None
    rank = q * buckets[bounds[-1]]
    at = next(i for i, bound in enumerate(bounds) if buckets[bound] >= rank)
    if math.isinf(bounds[at]):
        return bounds[-2]
    lower = bounds[at - 1] if at else 0.0
    below = buckets[bounds[at - 1]] if at else 0.0
    within = buckets[bounds[at]] - below
    return bounds[at] if within <= 0 else lower + (bounds[at] - lower) * (rank - below) / within


def _went_back(before: Counters, now: Counters) -> bool:
    if any(now.buckets.get(bound, 0.0) < count for bound, count in before.buckets.items()):
        return True
    return (now.searches or 0.0) < (before.searches or 0.0) or (now.failed or 0.0) < (before.failed or 0.0)


def _keys(body: Any) -> Mapping[str, Any]:
    return body if isinstance(body, Mapping) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON knows no bounds
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(keys: Mapping[str, Any], name: str) -> int | None:
    number = _number(keys.get(name))
    return None if number is None or number > 2**53 else int(number)


def _percent(keys: Mapping[str, Any], name: str) -> float | None:
    """`name` is a fraction; `namePercent`, where it is there, is the percent itself and wins."""
    twin = _number(keys.get(f"{name}Percent"))
    if twin is not None:
        return twin if twin <= 100 else None
    fraction = _number(keys.get(name))
    return 100 * fraction if fraction is not None and fraction <= 1 else None
