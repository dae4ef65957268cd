"""Look at the world for one backfill: the store, the table, the counts, the account, the work. No decisions, no writes.

A run that has ended is not looked at again. While work runs the table is not scanned: the work knows what it has done
since the counts were taken. Counting is supervised work that a pass waits for only a moment; see `counting.py`.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from vectorops.clients.catalogue import Catalogue
from vectorops.clients.postgres import statements
from vectorops.errors import OperatorError, Reason, Stalled
from vectorops.kinds.embeddingbackfill.asking import look_at_selection
from vectorops.kinds.embeddingbackfill.counting import counted_rows, read_account
from vectorops.kinds.embeddingbackfill.effects import PACKAGE
from vectorops.kinds.embeddingbackfill.endings import over
from vectorops.kinds.embeddingbackfill.estimating import lower
from vectorops.kinds.embeddingbackfill.observation import End, Graph, Observation, Rates, Trouble, WorkSeen
from vectorops.kinds.embeddingbackfill.parts import RateLimits
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.resource import Spec, Status
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.selection import selection_of
from vectorops.kinds.embeddingbackfill.target import Declared, Facts, Flaw, KeyColumn, Target, target_of
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store

BUILD_AGE = 1.0  # seconds: a build should be noticed before the first batch is written beside it
UNUSABLE = frozenset({Reason.StoreSuspended, Reason.StoreNotFound})  # told as a verdict, so that running work is ended


async def observe(ctx: Context, subject: Subject, spec: Spec, status: Status) -> Observation:
    """The picture a decision needs. Raises what the store, the Secrets or the database raise."""
    if over(spec, status) is not None or subject.deleting_since is not None:
        return Observation(over=over(spec, status) is not None, work=_work(ctx, subject))
    try:
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name)
    except OperatorError as error:
        if error.reason not in UNUSABLE:
            raise
        trouble = Trouble(error.reason, error.message, isinstance(error, Stalled))
        return Observation(store=trouble, work=_work(ctx, subject))
    declared = declared_in(store, spec.table_name)
    if isinstance(declared, Flaw):
        return Observation(declared=declared, work=_work(ctx, subject))
    catalogue = await ctx.stores.ready(store, BUILD_AGE)
    catalogue.refuse_strange_records()
    facts = await table_facts(store, declared)
    target, asked = target_of(declared, facts), selection_of(spec)
    if isinstance(target, Flaw):
        return Observation(declared=declared, target=target, work=_work(ctx, subject))
    absent = await look_at_selection(store.database, target, facts.columns, asked)
    if isinstance(absent, Flaw):
        return Observation(declared=declared, target=absent, work=_work(ctx, subject))
    return await _picture(ctx, store, subject, spec, target, catalogue, absent)


async def _picture(
    ctx: Context, store: Store, subject: Subject, spec: Spec, target: Target, catalogue: Catalogue, absent: int
) -> Observation:
    """Account, counts and work of what can be filled."""
    embedder = await ctx.embedder(store)
    # the account before the work: what the work saves on it meanwhile is counted late, and never twice
    account = await read_account(ctx, store, subject, spec, target)
    build = next((build.phase for build in catalogue.builds if build.table_oid == target.oid), "")
    counts, estimate, work = None, None, _work(ctx, subject)
    if work is not None and work.running:
        counts = work.counts
    elif not build:  # a scan's snapshot is what CREATE INDEX CONCURRENTLY would have to wait for
        counted = await counted_rows(ctx, store, subject, spec, target, account, embedder)
        if counted is not None:
            counts, estimate = replace(counted[0], absent_ids=absent), counted[1]
    return Observation(
        declared=target.declared,
        target=target,
        fingerprint=embedder.fingerprint,
        database=store.database.key,
        place=store.database.place,
        seal=await embedder.seal(),
        approved=account.approved,
        build=build,
        counts=counts,
        counting=counts is None and not build,
        spend=account.spend,
        failures=account.failures,
        work=work,
        batches=account.batches,
        request=account.request,
        entry=account.entry,
        estimate=estimate,
        rates=rates(spec, store),
        graph=graph_of(catalogue, target),
    )


def rates(spec: Spec, store: Store) -> Rates:
    """The lower of the request's limits and the store's."""
    own = spec.rate_limits or RateLimits()
    shared = store.spec.embeddings.rate_limits if store.spec.embeddings is not None else None
    return Rates(
        lower(own.requests_per_minute, shared.requests_per_minute if shared else None),
        lower(own.tokens_per_minute, shared.tokens_per_minute if shared else None),
        own.rows_per_second,
        spec.batch_size,
    )


def graph_of(catalogue: Catalogue, target: Target) -> Graph | None:
    """The HNSW index of the column, the largest where there are several."""
    found = [
        Graph(index.name, index.size_bytes, index.rows)
        for index in catalogue.indexes
        if index.table_oid == target.oid and index.method == "hnsw" and index.column == target.declared.column
    ]
    return max(found, key=lambda graph: graph.size_bytes, default=None)


def declared_in(store: Store, table_name: str) -> Declared | Flaw:
    """The store's entry and its embeddings, or what is missing of them."""
    embeddings = store.spec.embeddings
    if embeddings is None:
        return Flaw(Why.NoEmbeddings, f"VectorStore {store.name} declares no embeddings. {Why.NoEmbeddings.next_step}")
    entry = next((entry for entry in store.spec.tables if entry.name == table_name), None)
    if entry is None:
        known = ", ".join(entry.name for entry in store.spec.tables) or "none"
        message = f"VectorStore {store.name} declares no table {table_name}; it has: {known}. "
        return Flaw(Why.TableNotDeclared, message + Why.TableNotDeclared.next_step)
    price = embeddings.price_usd_per_million_tokens
    return Declared(
        store=store.name,
        model=embeddings.model,
        dimensions=embeddings.dimensions,
        price=Decimal(price) if price is not None else None,
        schema=entry.schema_name,
        table=entry.table,
        column=entry.embedding_column,
        template=entry.text_template or "",
        prefix=entry.document_prefix,
        entry=entry.name,
        key_columns=tuple(entry.key_columns or ()),
    )


async def table_facts(store: Store, declared: Declared) -> Facts:
    """What the catalogue says of the table."""
    wanted = list(declared.key_columns)
    sql = statements(PACKAGE)["table_facts"]
    row = await store.database.fetchrow(sql, declared.schema, declared.table, wanted, declared.column)
    if row is None:
        return Facts(kind=None)
    columns = tuple(row["columns"] or ())
    parts = [row[name] or () for name in ("key_names", "key_types", "key_builtin", "key_not_null")]
    return Facts(
        kind=row["kind"],
        oid=row["oid"],
        columns=columns,
        missing_keys=tuple(key for key in wanted if key not in columns),
        keys=tuple(KeyColumn(*key) for key in zip(*parts, strict=True)),
        unique=bool(row["is_unique"]),
        type=row["type"] or "",
        dimensions=row["dimensions"] if row["dimensions"] is not None else -1,
        type_schema=row["type_schema"] or "",
        may_read=row["may_read"],
        may_update=row["may_update"],
        role=row["role"],
    )


def _run(ctx: Context, subject: Subject) -> Run | None:
    job = ctx.work.find(subject.uid)
    run = job.notes.get("run") if job is not None else None
    return run if isinstance(run, Run) else None


def _work(ctx: Context, subject: Subject) -> WorkSeen | None:
    job, run = ctx.work.find(subject.uid), _run(ctx, subject)
    if job is None or run is None:
        return None
    return WorkSeen(
        running=job.running,
        target=run.target,
        terms=run.ended_terms or run.terms,
        fingerprint=run.ended_with or run.embedder.fingerprint,
        counts=run.counts_now,
        stopping=run.stopping,
        end=job.result if isinstance(job.result, End) else None,
        error=run.error,
        ended_at=run.ended_at,
        waiting=run.waiting,
        rate=run.rate,
        truncated=run.truncated,
        advanced_at=run.advanced_at,
        token=run.token,
        plan=job.notes.get("plan"),
        unsaved_seconds=run.unsaved_seconds if job.running else 0.0,
        failed=run.attempt_failed,
        database=run.database.key,
    )
