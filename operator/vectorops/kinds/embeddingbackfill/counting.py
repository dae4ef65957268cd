"""What the database says of one run: its account, the ledger, the counts, a sample of the texts. Reads only.

Counting is supervised work with a session of its own: a scan must hold up neither the watching connection nor a pass.
A pass waits a moment for it, which is enough for most tables, and else leaves it to a later one; a count is used once.
The sample is taken only before the work begins; afterwards the provider's bill says more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from vectorops.clients import approvals, ledger
from vectorops.clients.bookkeeping import look
from vectorops.clients.embedding_packing import OPTIMISTIC_BYTES
from vectorops.clients.embeddings import Embedder
from vectorops.clients.foreign import threads
from vectorops.clients.postgres import Connection, speaking, statements
from vectorops.kinds.embeddingbackfill.batching_effects import SQL
from vectorops.kinds.embeddingbackfill.effects import PACKAGE, scope, spend_of
from vectorops.kinds.embeddingbackfill.endings import is_of, ran_before
from vectorops.kinds.embeddingbackfill.estimating import Sampled, estimate, sample_sql, share_of
from vectorops.kinds.embeddingbackfill.filling import session_name
from vectorops.kinds.embeddingbackfill.observation import Counts, Estimate, FailedRow, OpenBatch, Spend
from vectorops.kinds.embeddingbackfill.parts import Select
from vectorops.kinds.embeddingbackfill.resource import Spec
from vectorops.kinds.embeddingbackfill.selection import Scope, selection_of
from vectorops.kinds.embeddingbackfill.sql import counts_sql
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.runtime.approval import Approval
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store
from vectorops.runtime.work import Job

PATIENCE_SECONDS = 3.0  # for which a pass waits: a million rows are counted in about one
COUNT_SECONDS = 300.0  # a scan of 100 million rows; beyond that the counts are not worth the wait


READ = frozenset({"spend", "failure", "embedding_state", "ledger", "batch"})  # of our tables, before a run


@dataclass(frozen=True)
class Account:
    """What is kept of this run."""

    spend: Spend = field(default_factory=Spend)
    request: ledger.Request | None = None
    entry: ledger.Entry | None = None
    failures: tuple[FailedRow, ...] = ()
    batches: tuple[OpenBatch, ...] = ()
    approved: approvals.Approved | None = None
    remembered: bool = False  # our tables are there

    @property
    def begun(self) -> datetime | None:
        """Since when, by the database's clock; with select All what was made before is to be made again."""
        return self.entry.begun_at if self.entry is not None else self.spend.started_at


async def read_account(ctx: Context, store: Store, subject: Subject, spec: Spec, target: Target) -> Account:
    """The account of this run, also if it was begun by an object of the same name before this one."""
    queries, token = statements(PACKAGE), spec.run_token or ""
    request = await guarded_request(ctx, subject, spec, target)
    if not (await look(store.database)).tables >= READ:  # before the first run nothing was spent or failed
        return Account(request=request)
    entry = await ledger.find(store.database, request) if request is not None else None
    uid = entry.request_uid if entry is not None and is_of(entry, subject) else subject.uid
    spend = spend_of(await store.database.fetchrow(queries["spend"], uid, token))
    rows = await store.database.fetch(queries["failures"], *scope(target), spend.failures_since(token))
    failures = tuple(FailedRow(row["key_hash"], row["reason"], row["attempts"]) for row in rows)
    shown = await store.database.fetch(statements(PACKAGE, SQL)["shown_batches"], uid, token)
    batches, approved = tuple(OpenBatch(*row) for row in shown), await approvals.latest(store.database, uid, token)
    return Account(spend, request, entry, failures, batches, approved, remembered=True)


async def guarded_request(ctx: Context, subject: Subject, spec: Spec, target: Target) -> ledger.Request | None:
    """What makes two requests the same that must not run twice; None for a request that looks before it acts.

    Raises Stalled(RBACMissing) where the cluster may not be asked which one it is.
    """
    if spec.select is not Select.ALL:
        return None
    asked = spec.model_dump(mode="json", by_alias=True, include={"table_name", "select", "ids", "where", "limit"})
    made = {
        "model": target.declared.model,
        "dimensions": target.declared.dimensions,
        "template": target.template.fingerprint.hex(),
    }
    cluster, token = await ctx.cluster_uid(), spec.run_token or ""
    return ledger.guarded(cluster, subject.kind, subject.namespace, subject.name, token, {**asked, **made})


Counted = tuple[Counts, Estimate | None]


def work_key(uid: str) -> str:
    """Of the counting among the work of the object, beside the filling."""
    return f"{uid}:count"


async def counted_rows(
    ctx: Context, store: Store, subject: Subject, spec: Spec, target: Target, account: Account, embedder: Embedder
) -> Counted | None:
    """The counts, or None while they are being taken: the object is woken when they are there."""
    key, begun = work_key(subject.uid), (account.begun, account.spend.started_at, account.entry, account.remembered)
    what = (spec, target, begun, embedder.account.fingerprint, store.database.key)
    job = ctx.work.find(key)
    if job is not None and job.notes.get("what") != what:  # it counts what nobody asks for any more
        await ctx.work.cancel(key)
        job = None
    if job is None:

        async def count(_: Job) -> Counted:
            return await count_rows(store, subject, spec, target, account, embedder)

        job = ctx.work.start(key, "count", count)
        job.notes["what"] = what
    if not await ctx.work.ended_within(key, PATIENCE_SECONDS):
        return None
    ctx.work.forget(key)
    if isinstance(job.error, Exception):
        raise job.error
    counted: Counted | None = job.result
    return counted


async def count_rows(
    store: Store, subject: Subject, spec: Spec, target: Target, account: Account, embedder: Embedder
) -> Counted:
    """The counts, and an estimate of what it will cost, where that is planned and not begun, or may be asked again."""
    asked = selection_of(spec)
    begun = account.begun if asked.select is Select.ALL else None
    within = Scope(target, asked, account.spend.failures_since(spec.run_token or ""), begun)
    statement = counts_sql(within, bookkeeping=account.remembered)
    async with store.database.session(session_name(subject.uid)) as connection:
        with speaking("counting the rows to embed"):
            await connection.fetchrow(statements(PACKAGE)["pin_formats"])
            row = await connection.fetchrow(statement.sql, *statement.args, timeout=COUNT_SECONDS)
            assert row is not None, "an aggregate returns a row"
            counts = Counts(**row, to_adopt=row["unknown"] if asked.adopts else 0)
            planned = account.spend.started_at is not None and spec.approval is Approval.AUTO
            begun_or_over = planned or ran_before(account.entry)
            if begun_or_over or not (counts.pending or counts.to_adopt):
                return counts, None
            share = share_of(counts)
            sample = await _sample(connection, within, share, embedder, account.remembered)
    return counts, await threads.parse(estimate, counts, sample, share, embedder.meter.rate.usual)


async def _sample(
    connection: Connection, within: Scope, share: int, embedder: Embedder, remembered: bool
) -> list[Sampled]:
    statement = sample_sql(within, share, bookkeeping=remembered)
    rows = await connection.fetch(statement.sql, *statement.args, timeout=COUNT_SECONDS)
    measured = await embedder.measure([row["text"] for row in rows])
    return [
        Sampled(min(OPTIMISTIC_BYTES, len(row["text"].encode())), row["rows"], one.load.tokens)
        for row, one in zip(rows, measured, strict=True)
    ]
