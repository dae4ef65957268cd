"""Look at the world for one tuning: the store, the index, its work, what a killed try left. No decisions, no writes.

A run that has ended is not looked at again, but for the copy of the column that a comparison may have left.
"""

from __future__ import annotations

from vectorops.clients.catalogue import Catalogue, Index
from vectorops.clients.postgres import statements
from vectorops.errors import OperatorError, Stalled, Waiting
from vectorops.errors import Reason as Shared
from vectorops.kinds.searchtuning.observation import Observation, Trouble, WorkSeen
from vectorops.kinds.searchtuning.reasons import Reason as Why
from vectorops.kinds.searchtuning.resource import Runner, Spec, Status
from vectorops.kinds.searchtuning.run import Run, copy_name
from vectorops.runtime.completion import ended
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store

QUERIES = statements("vectorops.kinds.searchtuning")
FRESH = 5.0  # seconds: how old the catalogue may be that a run begins on
INDEXES = "vectorindexes"


async def observe(ctx: Context, subject: Subject, spec: Spec, status: Status) -> Observation:
    """The picture a decision needs. Raises what the store and its database raise."""
    over, seen = ended(spec.run_token, status) is not None, _work(ctx, subject)
    leftover = await _leftover(ctx, subject, spec) if spec.compare else False
    if over or subject.deleting_since is not None or spec.suspend or (seen is not None and seen.running):
        return Observation(over=over, leftover=leftover, work=seen)
    try:
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
        if spec.runner is Runner.SERVICE:
            await ctx.stores.service(store)
        else:
            await index_of(ctx, store, spec)
    except OperatorError as error:
        if isinstance(error, Stalled) or error.reason in (Shared.StoreSuspended, *Why):
            return Observation(store=Trouble(error.reason, error.message, isinstance(error, Stalled)), work=seen)
        raise
    return Observation(leftover=leftover, work=seen)


async def index_of(ctx: Context, store: Store, spec: Spec) -> tuple[Catalogue, Index]:
    """The index that is searched, valid and not beside a build. Raises Stalled or Waiting with what is missing."""
    name = spec.index_ref.name
    body = await ctx.kubernetes.get(INDEXES, store.namespace, name)
    if body is None:
        raise Stalled(Why.IndexNotFound, f"There is no VectorIndex {name}. {Why.IndexNotFound.next_step}")
    if body["spec"]["storeRef"]["name"] != store.name:
        text = f"VectorIndex {name} belongs to another VectorStore. {Why.IndexNotFound.next_step}"
        raise Stalled(Why.IndexNotFound, text)
    if body["spec"].get("method", "HNSW") != "HNSW":
        text = f"VectorIndex {name} is of method {body['spec']['method']}. {Why.MethodUnsupported.next_step}"
        raise Stalled(Why.MethodUnsupported, text)
    stated = (body.get("status") or {}).get("index") or {}
    catalogue = await ctx.stores.ready(store, FRESH)
    found = next((i for i in catalogue.indexes if i.oid == stated.get("oid")), None)
    if found is None or not (found.valid and found.ready and found.live):
        text = f"VectorIndex {name} has no valid index yet. {Why.WaitingForIndex.next_step}"
        raise Waiting(Why.WaitingForIndex, text, after=10.0)
    if any(build.table_oid == found.table_oid for build in catalogue.builds):
        text = f"An index of the table is being built. {Why.WaitingForIndexBuild.next_step}"
        raise Waiting(Why.WaitingForIndexBuild, text, after=10.0)
    return catalogue, found


def run_of(ctx: Context, subject: Subject) -> Run | None:
    """The object's run in this process, at work or ended."""
    job = ctx.work.find(subject.uid)
    run = job.notes.get("run") if job is not None else None
    return run if isinstance(run, Run) else None


async def _leftover(ctx: Context, subject: Subject, spec: Spec) -> bool:
    try:
        undoing = subject.deleting_since is not None
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name, undoing=undoing)
    except OperatorError:
        if subject.deleting_since is not None and subject.has_finalizer:
            raise
        return False
    return bool(await store.database.fetchval(QUERIES["copy_is_there"], copy_name(subject.uid)))


def _work(ctx: Context, subject: Subject) -> WorkSeen | None:
    job, run = ctx.work.find(subject.uid), run_of(ctx, subject)
    if job is None or run is None:
        return None
    return WorkSeen(
        token=run.token,
        running=job.running,
        step=run.step,
        found=run.found,
        started_at=run.started_at,
        done=run.done,
        total=run.total,
        stopping=run.stopping,
        finished=run.finished,
        former=run.former,
        error=run.error,
        ended_at=run.ended_at,
    )
