"""Look at the world for one warm-up: the store, its work, who else works on the service. No decisions, no writes.

A run that has ended is not looked at again. What is done so far is known to the work of this process, else to the
status: the one place where a status serves as memory, since losing it costs only repeated searches.
"""

from __future__ import annotations

from vectorops.errors import OperatorError, Reason, Stalled
from vectorops.kinds.cachewarmup.observation import Ledger, Observation, Trouble, WorkSeen
from vectorops.kinds.cachewarmup.resource import Bookmark, QueryCounts, Spec, Status
from vectorops.kinds.cachewarmup.run import Run
from vectorops.runtime.backfills import unfilled
from vectorops.runtime.completion import ended
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store

UNUSABLE = frozenset({Reason.StoreSuspended, Reason.StoreNotFound})  # told as a verdict, so that running work is ended


async def observe(ctx: Context, subject: Subject, spec: Spec, status: Status) -> Observation:
    """The picture a decision needs. Raises what the store and the Secrets raise."""
    over, seen = ended(spec.run_token, status) is not None, _work(ctx, subject)
    ledger = _ledger(spec, status, seen)
    if over or subject.deleting_since is not None or spec.suspend:
        return Observation(over=over, ledger=ledger, work=seen)
    try:
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    except OperatorError as error:
        if error.reason not in UNUSABLE:
            raise
        trouble = Trouble(error.reason, error.message, isinstance(error, Stalled))
        return Observation(store=trouble, ledger=ledger, work=seen)
    if store.spec.service is None:
        text = f"VectorStore {store.name} names no search service. {Reason.ServiceNotDeclared.next_step}"
        return Observation(store=Trouble(Reason.ServiceNotDeclared, text, True), ledger=ledger, work=seen)
    new = spec.queries is not None and ledger.started_at is None
    filling = next(iter((await unfilled(ctx, store)).values()), "") if new else ""
    return Observation(filling=filling, other=other_at_work(ctx, subject, store), ledger=ledger, work=seen)


def job_name(store: Store) -> str:
    """Of the work on that store's service: two stores may name the same one."""
    assert store.spec.service is not None, "told as trouble before"
    ref = store.spec.service.service_ref
    return f"warmup {store.namespace}/{ref.name}:{ref.port}"


def other_at_work(ctx: Context, subject: Subject, store: Store) -> str:
    """Another warm-up that works on the same service now, or ''."""
    name = job_name(store)
    others = (job for job in ctx.work.running() if job.name == name and job.uid != subject.uid)
    return next((str(job.notes.get("at", "another")) for job in others), "")


def run_of(ctx: Context, subject: Subject) -> Run | None:
    """The object's run in this process, at work or ended."""
    job = ctx.work.find(subject.uid)
    run = job.notes.get("run") if job is not None else None
    return run if isinstance(run, Run) else None


def _work(ctx: Context, subject: Subject) -> WorkSeen | None:
    job, run = ctx.work.find(subject.uid), run_of(ctx, subject)
    if job is None or run is None:
        return None
    return WorkSeen(
        running=job.running,
        ledger=run.ledger,
        pacing=run.pacing,
        step=run.step,
        waiting=run.waiting,
        stopping=run.stopping,
        finished=run.finished,
        former=run.former,
        error=run.error,
        ended_at=run.ended_at,
        rate=run.rate,
        advanced_at=run.advanced_at,
    )


def _ledger(spec: Spec, status: Status, seen: WorkSeen | None) -> Ledger:
    token = spec.run_token or ""
    if seen is not None and seen.ledger.token == token:
        return seen.ledger
    if status.run_token != spec.run_token:
        return Ledger(token=token)
    counts = status.queries or QueryCounts()
    bookmark = status.bookmark or Bookmark(list_hash="", position=0)
    return Ledger(
        token=token,
        attempts=status.attempts,
        started_at=status.start_time,
        list_hash=bookmark.list_hash,
        position=bookmark.position,
        selected=counts.selected,
        warmed=counts.warmed,
        failed=counts.failed,
        ignored=counts.ignored,
        covered_percent=counts.covered_percent,
        failures={failure.reason: failure.count for failure in status.failures},
        invalidated=bool(status.invalidated),
        removed=status.removed,
        before=status.before,
        after=status.after,
        prewarmed=status.prewarmed,
    )
