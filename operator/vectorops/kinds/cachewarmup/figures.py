"""The figures of the status: queries, hit rates, progress, and the bookmark. Pure."""

from __future__ import annotations

from vectorops.kinds.cachewarmup.observation import Ledger
from vectorops.kinds.cachewarmup.plan import Look, decide
from vectorops.kinds.cachewarmup.resource import Bookmark, Measured, QueryCounts, Status, WarmupFailure
from vectorops.runtime.api import Progress
from vectorops.runtime.rounding import duration, rate_text

MOST_FAILURES = 10


def figures(view: Look) -> Status:
    """What the ledger says, in the words of the status."""
    if view.observed.over:
        return view.status
    ledger, verdict = view.observed.ledger, decide(view)
    ended = verdict.complete or verdict.failed
    failures = sorted(ledger.failures.items(), key=lambda one: (-one[1], one[0]))[:MOST_FAILURES]
    return Status(
        run_token=view.spec.run_token,
        attempts=ledger.attempts,
        queries=_counts(ledger) if view.spec.queries is not None else None,
        removed=ledger.removed,
        invalidated=ledger.invalidated or None,
        before=ledger.before,
        after=ledger.after,
        hit_rate=_hit_rate(ledger),
        prewarmed=ledger.prewarmed,
        bookmark=Bookmark(list_hash=ledger.list_hash, position=ledger.position) if ledger.list_hash else None,
        progress=_progress(view) if view.spec.queries is not None and ledger.selected else None,
        start_time=ledger.started_at,
        completion_time=view.now if ended else None,
        failures=[WarmupFailure(reason=reason, count=count) for reason, count in failures],
    )


def _counts(ledger: Ledger) -> QueryCounts:
    return QueryCounts(
        selected=ledger.selected,
        warmed=ledger.warmed,
        failed=ledger.failed,
        ignored=ledger.ignored,
        covered_percent=ledger.covered_percent,
    )


def _hit_rate(ledger: Ledger) -> str | None:
    """Before and after; while there is no after, what is known."""
    before, after = _percent(ledger.before), _percent(ledger.after)
    if ledger.before is None and ledger.after is None:
        return None
    return before if ledger.after is None else f"{before} -> {after}"


def _percent(measured: Measured | None) -> str:
    known = measured.cache_hit_rate_percent if measured is not None else None
    return "?" if known is None else f"{known}%"


def _progress(view: Look) -> Progress:
    ledger, work = view.observed.ledger, view.observed.work
    rate = work.rate if work is not None and work.running else None
    percent = 100 * ledger.position // ledger.selected
    seconds = round((ledger.selected - ledger.position) / rate) if rate else None
    former = view.status.progress.last_advance_time if view.status.progress is not None else None
    return Progress(
        done=ledger.position,
        total=ledger.selected,
        percent=percent,
        summary=f"{percent}%",
        rate_per_second=rate_text(rate) if rate else None,
        eta_seconds=seconds,
        eta=duration(seconds) if seconds is not None else None,
        last_advance_time=(work.advanced_at if work is not None else None) or former,
    )
