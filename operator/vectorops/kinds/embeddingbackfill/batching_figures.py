"""Batches in the status, and an honest guess of when they are done. Pure.

Rows come all at once when a batch has ended, so rows a second say nothing; what the provider counts does, once it has
begun to count, and only while every row that is left is in a batch.
"""

from __future__ import annotations

from datetime import datetime

from vectorops.kinds.embeddingbackfill.observation import Observation
from vectorops.kinds.embeddingbackfill.status import Batch


def shown_batches(seen: Observation) -> list[Batch]:
    """The batches at the provider that have not been written."""
    return [
        Batch(id=one.id, state=one.state or "unknown", texts=one.texts, done=one.done, failed=one.failed,
              created=one.created)
        for one in seen.batches
    ]  # fmt: skip


def seconds_left(seen: Observation, rows: int, now: datetime) -> int | None:
    """Until the slowest batch is through at its pace so far. None: nobody can know yet."""
    if rows > sum(one.texts for one in seen.batches):
        return None
    slowest = 0
    for one in seen.batches:
        counted, age = one.done + one.failed, (now - one.created).total_seconds()
        if not counted or age <= 0:
            return None
        slowest = max(slowest, round(age / counted * (one.texts - counted)))
    return slowest
