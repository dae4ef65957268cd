"""The figures of the status: rows, coverage, money, progress. Pure; the verdict's conditions are the runtime's."""

from __future__ import annotations

from datetime import datetime

from vectorops.clients.embedding_packing import PROVIDER_ESTIMATE
from vectorops.kinds.embeddingbackfill.batching_figures import seconds_left, shown_batches
from vectorops.kinds.embeddingbackfill.endings import ran_before
from vectorops.kinds.embeddingbackfill.look import Look, counts, declared, left_to_embed, price_of, usd
from vectorops.kinds.embeddingbackfill.observation import Counts, Observation
from vectorops.kinds.embeddingbackfill.plan import decide
from vectorops.kinds.embeddingbackfill.planning import plan_of
from vectorops.kinds.embeddingbackfill.status import Approved, Cost, Failure, Plan, Rows, Status
from vectorops.kinds.embeddingbackfill.target import Declared
from vectorops.runtime.api import HistoryEntry, Progress
from vectorops.runtime.kind import Verdict
from vectorops.runtime.rounding import duration, rate_text

RUNS = 10  # in the history
WORDS = 1024  # characters of a message in it


def figures(view: Look) -> Status:
    """What is seen now; of what could not be looked at, the figures of the same run's last status stay."""
    seen, same_run = view.observed, view.status.run_token == view.spec.run_token
    if seen.over:
        return view.status
    former = view.status if same_run else Status(history=view.status.history)
    verdict = decide(view)
    ended = {"history": _history(view, verdict), "completion_time": _ended_at(view, verdict)}
    if not isinstance(seen.declared, Declared) or seen.counts is None:
        return former.model_copy(update={"run_token": view.spec.run_token, **ended})
    rows = _rows(view)
    plan = plan_of(view) or _plan_of_the_work(view) or former.plan
    percent = 100 * seen.counts.embedded // seen.counts.rows if seen.counts.rows else 100
    return Status(
        run_token=view.spec.run_token,
        rows=rows,
        coverage_percent=percent,
        coverage=f"{percent}%",
        rate=_rate(seen),
        cost=_cost(view, plan),
        plan=plan,
        approved=_approved(seen),
        progress=_progress(view, rows, former),
        start_time=seen.spend.started_at or former.start_time,
        batches=shown_batches(seen),
        failures=[Failure(key_hash=f.key_hash, reason=f.reason, attempts=f.attempts) for f in seen.failures],
        **ended,
    )


def _approved(seen: Observation) -> Approved | None:
    one = seen.approved
    if one is None:
        return None
    return Approved(
        hash=one.plan_hash,
        time=one.approved_at,
        rows=one.rows,
        tokens=one.tokens,
        tokens_error_percent=one.error_percent,
        cost_usd=one.cost_usd,
        ceiling_tokens=one.ceiling_tokens,
    )


def _plan_of_the_work(view: Look) -> Plan | None:
    """As it was when the work of this run began."""
    work = view.observed.work
    return work.plan if work is not None and work.token == (view.spec.run_token or "") else None


def _ended_at(view: Look, verdict: Verdict) -> datetime | None:
    return view.now if verdict.complete or verdict.failed else None


def _history(view: Look, verdict: Verdict) -> list[HistoryEntry]:
    """The ends of this object's runs."""
    former = view.status.history
    if not (verdict.complete or verdict.failed):
        return former
    end = HistoryEntry(time=view.now, reason=str(verdict.reason), message=verdict.message[:WORDS])
    return [end, *former][:RUNS]


def _rows(view: Look) -> Rows:
    found, done, work = counts(view), view.observed.spend.rows_done, view.observed.work
    remaining = left_to_embed(view)
    return Rows(
        total=done + found.blank + found.failed + remaining,
        done=done,
        skipped=found.blank,
        failed=found.failed,
        remaining=remaining,
        truncated=work.truncated if work else 0,
    )


def _cost(view: Look, plan: Plan | None) -> Cost:
    spend, price = view.observed.spend, price_of(view.spec, declared(view))
    left = 0 if ran_before(view.observed.entry) else left_to_embed(view)
    estimated = spend.billed + _tokens_left(counts(view), left, plan)
    billed = usd(spend.billed, price)
    return Cost(
        tokens=spend.billed,
        usd=billed,
        summary=f"{spend.billed} tokens" if billed is None else f"${billed}",
        estimated_tokens=estimated,
        estimated_usd=usd(estimated, price),
        at_risk_tokens=spend.reserved,
    )


def _tokens_left(found: Counts, rows: int, plan: Plan | None) -> int:
    """By the plan's tokens a row; without a plan, by what a byte usually is."""
    if plan is not None and plan.rows and plan.tokens is not None:
        return round(plan.tokens * rows / plan.rows)
    share = rows / found.pending if found.pending else 0
    return round(found.pending_bytes * share * PROVIDER_ESTIMATE)


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
