"""Carry out one action on a backfill. No policy: what is to be done was decided in `plan.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from vectorops.clients import approvals, ledger
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.embeddings import Embedder
from vectorops.clients.ledger import Entry
from vectorops.kinds.embeddingbackfill.actions import Adjust, Begin, Finish, Stop
from vectorops.kinds.embeddingbackfill.batch import BatchSize
from vectorops.kinds.embeddingbackfill.batching import fill_in_batches, withdraw
from vectorops.kinds.embeddingbackfill.bound import least
from vectorops.kinds.embeddingbackfill.counting import work_key
from vectorops.kinds.embeddingbackfill.filling import GRACE, fill_table, work
from vectorops.kinds.embeddingbackfill.observation import Observation, Terms
from vectorops.kinds.embeddingbackfill.parts import Throttle
from vectorops.kinds.embeddingbackfill.resource import Mode, Spec
from vectorops.kinds.embeddingbackfill.run import CONCURRENCY, Run
from vectorops.kinds.embeddingbackfill.selection import selection_of
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.kinds.embeddingbackfill.watching import look_at_neighbours
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Expire, Outcome, Subject
from vectorops.runtime.store import Store


async def act(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Action) -> Outcome:
    """Begin, adjust, stop, finish or expire. Safe to repeat: there is at most one piece of work an object."""
    if isinstance(action, Begin):
        await begin(ctx, subject, spec, observed, action)
    elif isinstance(action, Adjust):
        job = ctx.work.find(subject.uid)
        if job is not None and isinstance(job.notes.get("run"), Run):
            job.notes["run"].adjust(action.terms)
    elif isinstance(action, Stop):
        ask_to_stop(ctx, subject)
    elif isinstance(action, Finish):
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
        assert observed.request is not None and observed.entry is not None, "only what is guarded is finished"
        await ensure_bookkeeping(store.database)
        await ledger.finish(store.database, observed.request, action.state, action.reason, observed.entry.term)
    elif isinstance(action, Expire):
        await ctx.kubernetes.delete("embeddingbackfills", subject.namespace, subject.name, subject.uid)
    return Outcome()


async def begin(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Begin) -> None:
    """Start the supervised work. Raises what resolving the store and making our schema raise."""
    store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    await ensure_bookkeeping(store.database)
    embedder, entry = await ctx.embedder(store), None
    if (embedder.fingerprint, store.database.key) != (observed.fingerprint, observed.database):
        return  # a Secret was changed since it was looked at: what was approved, and counted, is of another place
    if observed.request is not None:
        entry = await ledger.begin(store.database, observed.request, subject.uid)
        if entry.state is ledger.State.COMPLETE:
            return  # it has ended since it was looked at; the next look tells
    run = _run(ctx, store, subject, spec, observed, entry, embedder)
    run.adjust(await _terms(store, run, subject.kind, action))
    ctx.work.forget(subject.uid)
    fill = fill_in_batches if spec.mode is Mode.BATCH else fill_table
    job = ctx.work.start(subject.uid, "backfill", partial(work, run=run, fill=fill))
    job.notes["plan"] = action.plan or (observed.work.plan if observed.work is not None else None)
    job.notes.setdefault("run", run)  # seen by the next pass, which may come before the work's first step


async def _terms(store: Store, run: Run, kind: str, action: Begin) -> Terms:
    """Keep what was approved, before anything is sent; its bound holds together with the budget."""
    if action.consent is None:
        return action.terms
    kept = await approvals.record(store.database, kind, *run.account, action.consent)
    return replace(action.terms, budget=least(action.terms.budget, kept.ceiling_tokens))


def _run(
    ctx: Context, store: Store, subject: Subject, spec: Spec, observed: Observation, entry: Entry | None,
    embedder: Embedder,
) -> Run:  # fmt: skip
    throttle = spec.throttle or Throttle()
    assert isinstance(observed.target, Target), "the plan begins nothing on a flawed target"
    assert observed.counts is not None, "and nothing uncounted"
    return Run(
        uid=subject.uid,
        token=spec.run_token or "",
        database=store.database,
        embedder=embedder,
        target=observed.target,
        terms=Terms(budget=0),  # until they are said
        counts=observed.counts,
        selection=selection_of(spec),
        limit=spec.limit,
        max_failed=spec.max_failed_rows,
        concurrency=spec.concurrency or CONCURRENCY,
        size=BatchSize(spec.batch_size),
        on_account=entry.request_uid if entry is not None else "",
        begun=entry.begun_at if entry is not None else None,
        backoff_limit=spec.backoff_limit,
        withheld=ctx.withheld,
        neighbours=partial(look_at_neighbours, ctx, store, throttle) if spec.throttle or store.spec.service else None,
    )


def ask_to_stop(ctx: Context, subject: Subject) -> None:
    """End after the write in hand."""
    job = ctx.work.find(subject.uid)
    if job is not None and isinstance(job.notes.get("run"), Run):
        job.notes["run"].stop()


async def stop(ctx: Context, subject: Subject) -> None:
    """The object is gone: what is in flight is written, then nothing more is sent."""
    await ctx.work.cancel(work_key(subject.uid))
    ask_to_stop(ctx, subject)
    job = ctx.work.find(subject.uid)
    if job is not None and job.task is not None:
        await asyncio.wait([job.task], timeout=GRACE)
        run = job.notes.get("run")
        await ctx.work.cancel(subject.uid)
        if isinstance(run, Run):
            await withdraw(run)
