"""Carry out one action on a backfill. No policy: what is to be done was decided in `plan.py`."""

from __future__ import annotations

import asyncio
from functools import partial

from vectorops.clients.bookkeeping import ensure_bookkeeping, forget_bookkeeping
from vectorops.errors import Reason
from vectorops.kinds.embeddingbackfill.batch import BatchSize
from vectorops.kinds.embeddingbackfill.batching import fill_in_batches, withdraw
from vectorops.kinds.embeddingbackfill.filling import GRACE, fill_table, work
from vectorops.kinds.embeddingbackfill.observation import Observation
from vectorops.kinds.embeddingbackfill.observe import open_embedder
from vectorops.kinds.embeddingbackfill.plan import Adjust, Begin, Stop
from vectorops.kinds.embeddingbackfill.resource import Mode, Spec
from vectorops.kinds.embeddingbackfill.run import CONCURRENCY, Run
from vectorops.kinds.embeddingbackfill.selection import selection_of
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Outcome, Subject


async def act(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Action) -> Outcome:
    """Begin, adjust or stop. Safe to repeat: there is at most one piece of work an object."""
    if isinstance(action, Begin):
        await begin(ctx, subject, spec, observed, action)
    elif isinstance(action, Adjust):
        job = ctx.work.find(subject.uid)
        if job is not None and isinstance(job.notes.get("run"), Run):
            job.notes["run"].adjust(action.terms)
    elif isinstance(action, Stop):
        ask_to_stop(ctx, subject)
    return Outcome()


async def begin(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Begin) -> None:
    """Start the supervised work. Raises what resolving the store and making our schema raise."""
    store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    trouble = observed.work.error if observed.work is not None else None
    if trouble is not None and trouble.reason == Reason.TargetNotFound:
        forget_bookkeeping(store.database)  # perhaps it was our own table that somebody dropped
    await ensure_bookkeeping(store.database)
    assert isinstance(observed.target, Target), "the plan begins nothing on a flawed target"
    assert observed.counts is not None, "and nothing uncounted"
    run = Run(
        uid=subject.uid,
        token=spec.run_token or "",
        database=store.database,
        embedder=await open_embedder(ctx, store),
        target=observed.target,
        terms=action.terms,
        counts=observed.counts,
        selection=selection_of(spec),
        limit=spec.limit,
        max_failed=spec.max_failed_rows,
        concurrency=spec.concurrency or CONCURRENCY,
        size=BatchSize(spec.batch_size),
    )
    ctx.work.forget(subject.uid)
    fill = fill_in_batches if spec.mode is Mode.BATCH else fill_table
    job = ctx.work.start(subject.uid, "backfill", partial(work, run=run, fill=fill))
    job.notes.setdefault("run", run)  # seen by the next pass, which may come before the work's first step


def ask_to_stop(ctx: Context, subject: Subject) -> None:
    """End after the write in hand."""
    job = ctx.work.find(subject.uid)
    if job is not None and isinstance(job.notes.get("run"), Run):
        job.notes["run"].stop()


async def stop(ctx: Context, subject: Subject) -> None:
    """The object is gone: what is in flight is written, then nothing more is sent."""
    ask_to_stop(ctx, subject)
    job = ctx.work.find(subject.uid)
    if job is not None and job.task is not None:
        await asyncio.wait([job.task], timeout=GRACE)
        run = job.notes.get("run")
        await ctx.work.cancel(subject.uid)
        if isinstance(run, Run):
            await withdraw(run)
