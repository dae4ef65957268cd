"""The metrics that the runbook greps for, in a registry of the process's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)  # seconds; the runbook's 0.5 and 2 are bounds


class Metrics:
    """Searches, errors by type, tokens."""

    def __init__(self) -> None:
        """Counters begin at zero, which is seen before the first search."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.duration = Histogram(
            "vector_search_duration_seconds", "A whole search", buckets=BUCKETS, registry=self.registry
        )
        self.searches = Counter("vector_searches_total", "Searches", ["status"], registry=self.registry)
        self.errors = Counter("vector_errors_total", "Errors", ["type"], registry=self.registry)
        self.tokens = Counter("embedding_tokens_total", "Tokens billed", registry=self.registry)
        for status in ("ok", "error"):
            self.searches.labels(status)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
