"""When a figure of a VectorStore is a Warning and when Critical; the defaults are the runbook's Key Metrics.

Only types and rules of the API; what is measured against them is the VectorStore's own room's.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.runtime.api import ApiModel, Rule

Percent = Annotated[int, Field(ge=0, le=100)]


class Upper(ApiModel):
    """Bad above: warning < critical."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(rule="self.warning < self.critical", message="warning must be below critical: critical is the worse one."),
    )


class Lower(ApiModel):
    """Bad below: warning > critical."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(rule="self.warning > self.critical", message="warning must be above critical: critical is the worse one."),
    )


class Latency(Upper):
    """Milliseconds."""

    warning: int = Field(default=500, ge=1, le=600_000, description="Above it: Warning.")
    critical: int = Field(default=2000, ge=1, le=600_000, description="Above it: Critical.")


class ErrorRate(Upper):
    """Percent of searches."""

    warning: Percent = Field(default=2, description="Above it: Warning.")
    critical: Percent = Field(default=5, description="Above it: Critical.")


class PoolUtilization(Upper):
    """Percent of the pool."""

    warning: Percent = Field(default=80, description="Above it: Warning.")
    critical: Percent = Field(default=95, description="Above it: Critical.")


class Coverage(Lower):
    """Percent of the rows that could be embedded."""

    warning: Percent = Field(default=80, description="Below it: Warning.")
    critical: Percent = Field(default=50, description="Below it: Critical.")


class HitRate(Lower):
    """Percent of the cache's lookups."""

    warning: Percent = Field(default=50, description="Below it: Warning.")
    critical: Percent = Field(default=30, description="Below it: Critical.")


class Thresholds(ApiModel):
    """When a figure is a Warning and when Critical; the defaults are the runbook's Key Metrics."""

    p95_latency_milliseconds: Latency = Field(default_factory=Latency, description="p95 of the search latency.")
    error_rate_percent: ErrorRate = Field(default_factory=ErrorRate, description="Failed searches.")
    embedding_coverage_percent: Coverage = Field(
        default_factory=Coverage, description="Embedded rows of those that have a text; of the worst table."
    )
    cache_hit_rate_percent: HitRate = Field(default_factory=HitRate, description="Hits of the query cache.")
    pool_utilization_percent: PoolUtilization = Field(default_factory=PoolUtilization, description="Use of the pool.")
