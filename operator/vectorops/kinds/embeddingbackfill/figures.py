"""The figures of the status: rows, coverage, money, progress. Pure; the verdict's conditions are the runtime's."""

from __future__ import annotations

from decimal import Decimal

from vectorops.clients.embedding_packing import PROVIDER_ESTIMATE
from vectorops.kinds.embeddingbackfill.batching_figures import seconds_left, shown_batches
from vectorops.kinds.embeddingbackfill.observation import Counts, Observation, Spend
from vectorops.kinds.embeddingbackfill.plan import MILLION, Look, decide
from vectorops.kinds.embeddingbackfill.status import Cost, Failure, Rows, Status
from vectorops.kinds.embeddingbackfill.target import Declared
from vectorops.runtime.api import Progress
from vectorops.runtime.rounding import duration, rate_text


def figures(view: Look) -> Status:
    """What is seen now; of what could not be looked at, the figures of the same run's last status stay."""
    seen, same_run = view.observed, view.status.run_token == view.spec.run_token
    if seen.over:
        return view.status
    former = view.status if same_run else Status()
    if not isinstance(seen.declared, Declared) or seen.counts is None:
        return former.model_copy(update={"run_token": view.spec.run_token})
    rows = _rows(view, seen.counts)
    percent = 100 * seen.counts.embedded // seen.counts.rows if seen.counts.rows else 100
    verdict = decide(view)
    ended = verdict.complete or verdict.failed
    return Status(
        run_token=view.spec.run_token,
        rows=rows,
        coverage_percent=percent,
        coverage=f"{percent}%",
        rate=_rate(seen),
        cost=_cost(seen.spend, seen.counts, seen.declared.price),
        progress=_progress(view, rows, former),
        start_time=seen.spend.started_at or former.start_time,
        completion_time=view.now if ended else None,
        batches=shown_batches(seen),
        failures=[Failure(key_hash=f.key_hash, reason=f.reason, attempts=f.attempts) for f in seen.failures],
    )


def usd(tokens: int, price: Decimal | None) -> str | None:
    """Dollars, by the user's own price; cents' fractions are kept as small amounts are usual here."""
    if price is None:
        return None
    amount = Decimal(tokens) * price / MILLION
    return f"{amount:.2f}" if amount >= 1 else f"{amount:.4f}"


def _rows(view: Look, counts: Counts) -> Rows:
    done, limit, work = view.observed.spend.rows_done, view.spec.limit, view.observed.work
    remaining = counts.pending if limit is None else min(counts.pending, max(0, limit - done))
    return Rows(
        total=done + counts.blank + counts.failed + remaining,
        done=done,
        skipped=counts.blank,
        failed=counts.failed,
        remaining=remaining,
        truncated=work.truncated if work else 0,
    )


def _cost(spend: Spend, counts: Counts, price: Decimal | None) -> Cost:
    estimated = spend.billed + round(counts.pending_bytes * PROVIDER_ESTIMATE)
    billed = usd(spend.billed, price)
    return Cost(
        tokens=spend.billed,
        usd=billed,
        summary=f"{spend.billed} tokens" if billed is None else f"${billed}",
        estimated_tokens=estimated,
        estimated_usd=usd(estimated, price),
        at_risk_tokens=spend.reserved,
    )


def _rate(seen: Observation) -> str | None:
    rate = seen.work.rate if seen.work is not None and seen.work.running else None
    return f"{rate_text(rate)}/s" if rate and not seen.batches else None


def _progress(view: Look, rows: Rows, former: Status) -> Progress:
    seen = view.observed
    total, left = rows.total or 0, rows.remaining or 0
    percent = 100 * (total - left) // total if total else 100
    rate = seen.work.rate if seen.work is not None and seen.work.running else None
    if seen.batches:  # rows come all at once, when a batch has ended
        rate = None
    seconds = seconds_left(seen, left, view.now) if seen.batches else round(left / rate) if rate else None
    advanced = seen.work.advanced_at if seen.work is not None else None
    return Progress(
        done=total - left,
        total=total,
        percent=percent,
        summary=f"{percent}%",
        rate_per_second=rate_text(rate) if rate else None,
        eta_seconds=seconds,
        eta=duration(seconds) if seconds is not None else None,
        last_advance_time=advanced or (former.progress.last_advance_time if former.progress else None),
    )
