"""Carries out one action of the plan. No policy: what is to be done was decided; it is looked at again, then done."""

from __future__ import annotations

from collections.abc import Mapping

from vectorops.clients import approvals
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.kinds.vectorindex import actions, build, steps
from vectorops.kinds.vectorindex.canary import extension_version
from vectorops.kinds.vectorindex.naming import definition
from vectorops.kinds.vectorindex.observation import Observation, Step
from vectorops.kinds.vectorindex.probe import Place, start_probe
from vectorops.kinds.vectorindex.probe import notes_of as probe_notes
from vectorops.kinds.vectorindex.resource import VectorIndexSpec
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Outcome, Subject
from vectorops.runtime.store import Store

DEFAULT_EF_SEARCH = 40  # of a session where nothing is set, as pgvector has it
FRESH_ENOUGH = 60.0  # seconds: the extension's schema and version do not change under an act


async def act(ctx: Context, subject: Subject, spec: VectorIndexSpec, observed: Observation, action: Action) -> Outcome:
    """Carry out `action`. Raises what the database raises, translated."""
    if isinstance(action, actions.StopProbe):
        return await _stop_probe(ctx, subject.uid)
    undoing = subject.deleting_since is not None
    store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name, undoing=undoing)
    if store.database.place != observed.place:
        return Outcome()  # the Secret was changed since it was looked at: what was planned is of another database
    if isinstance(action, actions.StartProbe):
        return await _probe(ctx, store, subject.uid, spec, action)
    owner = steps.Owner(subject.uid, f"{subject.namespace}/{subject.name}")
    try:
        if "intent" in store.database.usable:
            await ensure_bookkeeping(
                store.database
            )  # tables of an older release: what follows speaks of columns of ours
        if isinstance(action, actions.StartBuild | actions.Discard | actions.Retire | actions.DropIndex):
            await _start(await _site(ctx, store, owner, spec), action)
        else:
            await _write(
                ctx, store, owner, spec, action, {intent.build_name: intent.term for intent in observed.intents}
            )
    finally:
        ctx.stores.forget(store)
    return Outcome()


async def _probe(ctx: Context, store: Store, uid: str, spec: VectorIndexSpec, action: actions.StartProbe) -> Outcome:
    """Measure with the ef_search that the store declares for the service's sessions, else pgvector's default."""
    catalogue = await ctx.stores.catalogue(store, FRESH_ENOUGH)
    index = next((i for i in catalogue.indexes if i.oid == action.index_oid), None)
    if index is not None:
        declared = store.spec.search.ef_search if store.spec.search is not None else None
        reader = await ctx.stores.reader(store)
        place = Place(reader, reader is not store.database, declared or DEFAULT_EF_SEARCH)
        start_probe(ctx, uid, place, catalogue, index, spec.probe)
    return Outcome()


async def _stop_probe(ctx: Context, uid: str) -> Outcome:
    notes = probe_notes(ctx, uid)
    if notes is not None:
        notes.ending = True
    return Outcome()


async def _site(ctx: Context, store: Store, owner: steps.Owner, spec: VectorIndexSpec) -> build.Site:
    catalogue = await ctx.stores.catalogue(store, FRESH_ENOUGH)
    return build.Site(ctx, store, owner, spec, extension=extension_version(catalogue))


async def _start(site: build.Site, action: Action) -> None:
    match action:
        case actions.StartBuild():
            await ensure_bookkeeping(site.store.database)
            if action.consent is not None:
                await approvals.record(site.store.database, "VectorIndex", site.owner.uid, "", action.consent)
            build.start_build(site, action)
        case actions.Discard():
            build.start_discard(site, action)
        case actions.Retire():
            build.start_retire(site, action)
        case actions.DropIndex():
            build.start_drop(site, action)


async def _write(
    ctx: Context, store: Store, owner: steps.Owner, spec: VectorIndexSpec, action: Action, seen: Mapping[str, int]
) -> None:
    """`seen`: the terms of our intents as observed; what another process has done something about since stays."""
    database, schema = store.database, spec.schema_name
    match action:
        case actions.Claim(index_name=name, table_oid=table_oid, index_oid=index_oid, run_token=token):
            await ensure_bookkeeping(database)
            await steps.write_intent(
                database, owner, schema=schema, index_name=name, build_name=name, table_oid=table_oid,
                build_oid=index_oid, definition=definition(spec), attempt="", step=Step.ADOPTED, run_token=token,
            )  # fmt: skip
        case actions.TakeOver(uid=gone, index_name=name, run_token=token):
            await steps.take_over(database, gone, owner, schema, name, token)
        case actions.WriteComment(index_name=name, comment=comment):
            await steps.write_comment(database, schema, name, comment)
        case actions.CancelBuild():
            await _cancel(ctx, store, owner, action, seen)
        case actions.MarkFailed(build_name=name, failure=failure):
            await steps.mark_failed(database, owner.uid, name, failure, seen.get(name, 0))
        case actions.Forget(build_name=name):
            await steps.forget_intent(database, owner.uid, name, seen.get(name, 0))
        case actions.Swap():
            comment = f"vectorops:{owner.uid}" + (f" runToken={action.run_token}" if action.run_token else "")
            comment += f" {action.birth}"
            async with database.session(f"vectorops:swap:{owner.uid}") as connection:
                await steps.rename(connection, owner, schema, action, definition(spec), comment)
        case actions.ReleaseClaim():
            await steps.release_claim(database, owner.uid)
        case _:
            raise AssertionError(f"no such action: {type(action).__name__}")


async def _cancel(
    ctx: Context, store: Store, owner: steps.Owner, action: actions.CancelBuild, seen: Mapping[str, int]
) -> None:
    if "intent" in store.database.usable:
        term = seen.get(action.build_name, 0)
        await steps.mark_failed(store.database, owner.uid, action.build_name, action.failure, term)
    job = ctx.work.find(owner.uid)
    notes = job.notes.get(build.NOTES) if job is not None else None
    if isinstance(notes, build.Notes):
        notes.ending = True
    if action.pid is not None and action.backend_start is not None:
        await steps.cancel(store.database, action.pid, action.backend_start)


async def stop(ctx: Context, subject: Subject) -> None:
    """The object is gone without a farewell: end its work. Whoever claims the index next cleans up after it."""
    await _stop_probe(ctx, subject.uid)
    job = ctx.work.find(subject.uid)
    notes = job.notes.get(build.NOTES) if job is not None and job.running else None
    if isinstance(notes, build.Notes):
        notes.ending = True
        if notes.pid is not None and notes.backend_start is not None:
            await steps.cancel(notes.database, notes.pid, notes.backend_start)
