"""Look at the world for one backfill: the store, the table, the counts, the account, the work. No decisions, no writes.

A run that has ended is not looked at again. While work runs the table is not scanned: the work knows what it has done
since the counts were taken. Counting uses a session of its own: a scan must not hold up the watching connection.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TypeAlias

from pydantic import SecretStr

from vectorops.clients.embeddings import Embedder
from vectorops.clients.postgres import speaking, statements
from vectorops.errors import OperatorError, Reason, Stalled
from vectorops.kinds.embeddingbackfill.asking import look_at_selection
from vectorops.kinds.embeddingbackfill.batching_effects import SQL
from vectorops.kinds.embeddingbackfill.effects import PACKAGE, scope, spend_of
from vectorops.kinds.embeddingbackfill.filling import session_name
from vectorops.kinds.embeddingbackfill.observation import (
    Counts,
    End,
    FailedRow,
    Observation,
    OpenBatch,
    Spend,
    Trouble,
    WorkSeen,
)
from vectorops.kinds.embeddingbackfill.parts import Select
from vectorops.kinds.embeddingbackfill.plan import over
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.resource import Spec, Status
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.selection import Scope, selection_of
from vectorops.kinds.embeddingbackfill.sql import counts_sql
from vectorops.kinds.embeddingbackfill.target import Declared, Facts, Flaw, KeyColumn, Target, target_of
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store

COUNT_SECONDS = 300.0  # a scan of 100 million rows; beyond that the counts are not worth the wait
BUILD_AGE = 1.0  # seconds: a build should be noticed before the first batch is written beside it
UNUSABLE = frozenset({Reason.StoreSuspended, Reason.StoreNotFound})  # told as a verdict, so that running work is ended

Account: TypeAlias = tuple[Spend, tuple[FailedRow, ...], tuple[OpenBatch, ...]]


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
    facts = await table_facts(store, declared)
    target, asked = target_of(declared, facts), selection_of(spec)
    if isinstance(target, Flaw):
        return Observation(declared=declared, target=target, work=_work(ctx, subject))
    absent = await look_at_selection(store.database, target, facts.columns, asked)
    if isinstance(absent, Flaw):
        return Observation(declared=declared, target=absent, work=_work(ctx, subject))
    embedder = await open_embedder(ctx, store)
    seen = await _account(store, subject, spec, target)
    build = next((build.phase for build in catalogue.builds if build.table_oid == target.oid), "")
    counts, work = None, _work(ctx, subject)
    if work is not None and work.running:
        counts = work.counts
    elif not build:  # a scan's snapshot is what CREATE INDEX CONCURRENTLY would have to wait for
        counts = replace(await _counts(store, subject, spec, target, seen[0]), absent_ids=absent)
    return Observation(
        declared=declared,
        target=target,
        fingerprint=embedder.account.fingerprint,
        build=build,
        counts=counts,
        spend=seen[0],
        failures=seen[1],
        work=work,
        batches=seen[2],
    )


def declared_in(store: Store, table_name: str) -> Declared | Flaw:
    """The store's entry and its embeddings, or what is missing of them."""
    embeddings = store.spec.embeddings
    if embeddings is None:
        return Flaw(Why.NoEmbeddings, f"VectorStore {store.name} declares no embeddings. {Why.NoEmbeddings.next_step}")
    entry = next((entry for entry in store.spec.tables if entry.name == table_name), None)
    if entry is None:
        known = ", ".join(entry.name for entry in store.spec.tables) or "none"
        return Flaw(Why.TableNotDeclared, f"VectorStore {store.name} declares no table {table_name}; it has: {known}.")
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


async def open_embedder(ctx: Context, store: Store) -> Embedder:
    """The store's embedder, with the key as the Secret has it now. Sends nothing."""
    embeddings = store.spec.embeddings
    assert embeddings is not None, "told as a flaw before"
    key: SecretStr | None = None
    url: SecretStr | None = None
    if (ref := embeddings.api_key_secret_ref) is not None:
        key = await ctx.secrets.value(store.namespace, ref.name, ref.key)
    if (ref := embeddings.base_url_secret_ref) is not None:
        url = await ctx.secrets.value(store.namespace, ref.name, ref.key)
    limits = embeddings.rate_limits
    return ctx.embedders.open(
        store.uid,
        api_key=key,
        model=embeddings.model,
        dimensions=embeddings.dimensions,
        base_url=url.get_secret_value() if url else None,
        requests_per_minute=limits.requests_per_minute if limits else None,
        tokens_per_minute=limits.tokens_per_minute if limits else None,
    )


async def _account(store: Store, subject: Subject, spec: Spec, target: Target) -> Account:
    queries, token = statements(PACKAGE), spec.run_token or ""
    if not await store.database.fetchval(queries["has_bookkeeping"]):
        return Spend(), (), ()
    spend = spend_of(await store.database.fetchrow(queries["spend"], subject.uid, token))
    rows = await store.database.fetch(queries["failures"], *scope(target), spend.failures_since(token))
    shown = await store.database.fetch(statements(PACKAGE, SQL)["shown_batches"], subject.uid, token)
    batches = tuple(OpenBatch(*row) for row in shown)
    return spend, tuple(FailedRow(row["key_hash"], row["reason"], row["attempts"]) for row in rows), batches


async def _counts(store: Store, subject: Subject, spec: Spec, target: Target, spend: Spend) -> Counts:
    asked = selection_of(spec)
    begun = spend.started_at if asked.select is Select.ALL else None
    scope = Scope(target, asked, spend.failures_since(spec.run_token or ""), begun)
    remembered = await store.database.fetchval(statements(PACKAGE)["has_bookkeeping"])
    statement = counts_sql(scope, bookkeeping=remembered)
    async with store.database.session(session_name(subject.uid)) as connection:
        with speaking("counting the rows to embed"):
            await connection.fetchrow(statements(PACKAGE)["pin_formats"])
            row = await connection.fetchrow(statement.sql, *statement.args, timeout=COUNT_SECONDS)
    assert row is not None, "an aggregate returns a row"
    return Counts(**row, to_adopt=row["unknown"] if asked.adopts else 0)


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
        fingerprint=run.embedder.account.fingerprint,
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
    )
