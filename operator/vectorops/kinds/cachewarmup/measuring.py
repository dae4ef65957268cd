"""What people meet: hit rate and p95 of a sample that is drawn as the log draws its searches.

A query drawn three times is asked once and counts three times: the second time it would be in the cache for our asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectorops.errors import OperatorError, Stalled
from vectorops.kinds.cachewarmup.resource import Measured
from vectorops.kinds.cachewarmup.run import Run
from vectorops.kinds.cachewarmup.sending import ask, dispatch
from vectorops.kinds.cachewarmup.source import draw
from vectorops.runtime.rounding import two_digits

QUANTILE = 0.95
MISSES = frozenset({"", "miss", "false", "none", "no"})  # what a text under `cached` says where it is none
Seen = tuple[int, float, bool | None]  # times drawn, seconds, whether it was cached (None: it did not say)


async def measure(run: Run) -> Measured:
    """Ask a sample. Raises what ends the run."""
    seen: list[Seen] = []

    async def one(drawn: tuple[str, int]) -> None:
        asked = await ask(run, drawn[0])
        if asked.answer is not None:
            seen.append((drawn[1], asked.answer.seconds, cached(asked.answer.body)))

    await dispatch(run, await draw(run), one)
    return await _figures(run, seen)


def cached(body: Any) -> bool | None:
    """Whether an answer says it came from the cache: `cached` is a truth value, or names the level (l1, l2)."""
    if not isinstance(body, dict) or "cached" not in body:
        return None
    value = body["cached"]
    return value.lower() not in MISSES if isinstance(value, str) else bool(value)


def p95_seconds(seen: Sequence[Seen]) -> float | None:
    """The weighted 95th percentile; of nothing there is none."""
    total, upto = sum(times for times, _, _ in seen), 0
    for times, seconds, _ in sorted(seen, key=lambda one: one[1]):
        upto += times
        if upto >= QUANTILE * total:
            return seconds
    return None


def hit_rate_percent(seen: Sequence[Seen]) -> int | None:
    """Of those that said whether they were cached; None where none did."""
    told = [(times, hit) for times, _, hit in seen if hit is not None]
    total = sum(times for times, _ in told)
    return 100 * sum(times for times, hit in told if hit) // total if total else None


async def _figures(run: Run, seen: Sequence[Seen]) -> Measured:
    p95, percent, source = p95_seconds(seen), hit_rate_percent(seen), "Answers"
    if percent is None:
        percent, source = await _of_the_service(run), "Service"
    return Measured(
        cache_hit_rate_percent=percent,
        p95_milliseconds=None if p95 is None else two_digits(round(p95 * 1000)),
        sampled=sum(times for times, _, _ in seen),
        source=source if percent is not None else None,
    )


async def _of_the_service(run: Run) -> int | None:
    """The service's own hit rate, of all its searches of late."""
    try:
        figures = await run.service.cache()
    except Stalled:
        raise
    except OperatorError:
        return None
    rate = figures.hit_rate_percent if figures is not None else None
    return None if rate is None else int(rate)
