"""Carry out one action on a warm-up. No policy: what is to be done was decided in `plan.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from vectorops.errors import Waiting
from vectorops.kinds.cachewarmup.observation import Observation, Trouble
from vectorops.kinds.cachewarmup.observe import job_name, other_at_work, run_of
from vectorops.kinds.cachewarmup.plan import WAITING_LOOK, Adjust, Begin, Stop
from vectorops.kinds.cachewarmup.resource import Reason, Spec
from vectorops.kinds.cachewarmup.run import Limits, Run
from vectorops.kinds.cachewarmup.source import config_map_lines
from vectorops.kinds.cachewarmup.warming import work
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Expire, Outcome, Subject

GRACE = 12.0  # seconds for the requests in hand: one may take ten


async def act(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Action) -> Outcome:
    """Begin, adjust, stop or expire. Safe to repeat: there is at most one piece of work an object."""
    run = run_of(ctx, subject)
    if isinstance(action, Begin):
        former = observed.work.error if observed.work is not None else None
        await begin(ctx, subject, spec, action, former)
    elif isinstance(action, Adjust) and run is not None:
        run.adjust(action.pacing)
    elif isinstance(action, Stop) and run is not None:
        run.stopping = True
    elif isinstance(action, Expire):
        await ctx.kubernetes.delete("cachewarmups", subject.namespace, subject.name, subject.uid)
    return Outcome()


async def begin(ctx: Context, subject: Subject, spec: Spec, action: Begin, former: Trouble | None) -> None:
    """Start the supervised work. Raises what the store, its service's Secret and the ConfigMap raise."""
    store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    service = await ctx.stores.service(store)
    ref = spec.queries.config_map_ref if spec.queries is not None else None
    lines = await config_map_lines(ctx, subject.namespace, ref) if ref is not None else None
    limits = store.spec.thresholds
    ledger = replace(
        action.ledger,
        token=spec.run_token or "",
        attempts=max(1, action.ledger.attempts),
        started_at=action.ledger.started_at or ctx.clock(),
    )
    run = Run(
        uid=subject.uid,
        at=f"{subject.namespace}/{subject.name}",
        store=store,
        stores=ctx.stores,
        service=service,
        invalidate=spec.invalidate,
        wanted=spec.queries,
        lines=lines,
        request=spec.request,
        limits=Limits(
            limits.pool_utilization_percent.warning,
            limits.pool_utilization_percent.critical,
            limits.p95_latency_milliseconds.critical,
        ),
        ledger=ledger,
        withheld=ctx.withheld,
        pacing=action.pacing,
        former=former,
    )
    other = other_at_work(ctx, subject, store)  # asked last: nothing may begin between this and the next lines
    if other:
        text = f"CacheWarmup {other} works on this service. {Reason.WaitingForWarmup.next_step}"
        raise Waiting(Reason.WaitingForWarmup, text, after=WAITING_LOOK)
    ctx.work.forget(subject.uid)
    job = ctx.work.start(subject.uid, job_name(store), partial(work, run=run))
    job.notes.setdefault("run", run)  # seen by the next pass, which may come before the work's first step
    job.notes["at"] = run.at


async def stop(ctx: Context, subject: Subject) -> None:
    """The object is gone: what is in hand is answered, then nothing more is sent."""
    run, job = run_of(ctx, subject), ctx.work.find(subject.uid)
    if run is not None:
        run.stopping = True
    if job is not None and job.task is not None:
        await asyncio.wait([job.task], timeout=GRACE)
        await ctx.work.cancel(subject.uid)
