"""Carry out one action on a tuning. No policy: what is to be done was decided in `plan.py`."""

from __future__ import annotations

import asyncio
from functools import partial

from vectorops.clients.catalogue import Index
from vectorops.clients.embeddings import Embedder
from vectorops.clients.postgres import speaking
from vectorops.clients.searchservice import SearchService
from vectorops.errors import Stalled
from vectorops.kinds.searchtuning.copying import drop_copy
from vectorops.kinds.searchtuning.observation import Observation
from vectorops.kinds.searchtuning.observe import FRESH, index_of, run_of
from vectorops.kinds.searchtuning.plan import Begin, CleanUp, Stop
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Apply, Runner, Spec
from vectorops.kinds.searchtuning.run import Run, copy_name
from vectorops.kinds.searchtuning.tuning import work
from vectorops.runtime.backfills import unfilled
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Expire, Outcome, Subject
from vectorops.runtime.store import Store
from vectorops.runtime.tenancy import not_declared

DROP_SECONDS = 15  # the pass waits for it; a session that reads the copy, a backup say, holds it up
GRACE = 12.0  # seconds for the statement in hand


async def act(ctx: Context, subject: Subject, spec: Spec, observed: Observation, action: Action) -> Outcome:
    """Begin, stop, clean up or expire. Safe to repeat: there is at most one piece of work an object."""
    run = run_of(ctx, subject)
    if isinstance(action, Begin):
        await begin(ctx, subject, spec, observed)
    elif isinstance(action, Stop) and run is not None:
        run.stopping = True
    elif isinstance(action, CleanUp):
        undoing = subject.deleting_since is not None
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name, undoing=undoing)
        async with store.database.session(f"vectorops:vtune:{subject.uid}") as connection:
            with speaking("dropping the copy of the column"):
                await connection.execute(f"SET statement_timeout = '{DROP_SECONDS}s'")
            await drop_copy(connection, copy_name(subject.uid))
    elif isinstance(action, Expire):
        await ctx.kubernetes.delete("searchtunings", subject.namespace, subject.name, subject.uid)
    return Outcome()


async def begin(ctx: Context, subject: Subject, spec: Spec, observed: Observation) -> None:
    """Start the supervised work. Raises what the store, the index and the Secrets raise."""
    store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    service: SearchService | None = None
    index: Index | None = None
    if spec.runner is Runner.SERVICE:
        service, catalogue = await ctx.stores.service(store), await ctx.stores.ready(store, FRESH)
    else:
        catalogue, index = await index_of(ctx, store, spec)
    _check_log(store, spec)
    search = store.spec.search
    role = spec.role or (search.role if search is not None else None)
    if spec.apply is Apply.ROLE and role is None:
        raise Stalled(Reason.RoleNotNamed, Reason.RoleNotNamed.next_step)
    embeddings = store.spec.embeddings
    run = Run(
        uid=subject.uid,
        spec=spec,
        database=store.database,
        reader=await ctx.stores.reader(store),
        catalogue=catalogue,
        index=index,
        embedder=await _embedder(ctx, store, spec),
        query_prefix=(embeddings.query_prefix or "") if embeddings is not None else "",
        service=service,
        role=role,
        declared=search.ef_search if search is not None else None,
        started_at=ctx.clock(),
        unfilled=partial(unfilled, ctx, store),
        withheld=ctx.withheld,
        former=observed.work.error if observed.work is not None else None,
    )
    ctx.work.forget(subject.uid)
    job = ctx.work.start(subject.uid, "tuning", partial(work, run=run))
    job.notes.setdefault("run", run)  # seen by the next pass, which may come before the work's first step


def _check_log(store: Store, spec: Spec) -> None:
    """Only what the store declares is read. Raises Stalled(QueriesInvalid)."""
    asked = spec.queries.from_table if spec.queries is not None else None
    if asked is not None and (refusal := not_declared(store.spec, store.name, asked.schema_name, asked.table)):
        raise Stalled(Reason.QueriesInvalid, refusal)


async def _embedder(ctx: Context, store: Store, spec: Spec) -> Embedder | None:
    """For texts of searches: the store's account, with the model for queries. Sends nothing."""
    asked = spec.queries.from_table if spec.queries is not None else None
    if asked is None or asked.query_column is None:
        return None
    embeddings = store.spec.embeddings
    if embeddings is None:
        raise Stalled(Reason.EmbeddingsNotDeclared, Reason.EmbeddingsNotDeclared.next_step)
    return await ctx.embedder(store, embeddings.query_model or embeddings.model)


async def stop(ctx: Context, subject: Subject) -> None:
    """The object is gone: what is in hand comes to its end, then nothing more is asked."""
    run, job = run_of(ctx, subject), ctx.work.find(subject.uid)
    if run is not None:
        run.stopping = True
    if job is not None and job.task is not None:
        await asyncio.wait([job.task], timeout=GRACE)
        await ctx.work.cancel(subject.uid)
