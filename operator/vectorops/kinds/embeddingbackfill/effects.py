"""Everything this room does to the world, one function an effect. No policy.

The process may die right after any of them; what that costs is said at each. Statements go over the run's session one
at a time, each in a transaction of its own: none is open while the provider thinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vectorops.clients.embedding_tokens import Load
from vectorops.clients.embeddings import Embedded
from vectorops.clients.locks import try_table_lock, unlock
from vectorops.clients.postgres import speaking, statements
from vectorops.clients.sql import qualified
from vectorops.errors import Reason, Stalled
from vectorops.kinds.embeddingbackfill.batch import Batch, Row
from vectorops.kinds.embeddingbackfill.observation import Spend
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.sql import page_sql, proof_sql
from vectorops.kinds.embeddingbackfill.statement import Statement
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.kinds.embeddingbackfill.writing_sql import adopt_sql, copy_sql, unchanged_sql, write_sql

PACKAGE = "vectorops.kinds.embeddingbackfill"
WRITE_ROWS = 512  # in one statement: 3 MB of 1,536 dimensions fit into the default work_mem; more would be spilled
ADOPT_ROWS = 5_000  # in one statement: hashes only, within a second


class Found(NamedTuple):
    """A row as read."""

    key: tuple[str, ...]
    row_key: str
    text: str  # cut to what a model may read at best
    text_hash: bytes  # of the whole text


def scope(target: Target) -> tuple[str, str, bytes, str]:
    """table_name, column_name, template_hash, model: what bookkeeping rows speak of."""
    declared = target.declared
    return qualified(declared.schema, declared.table), declared.column, target.template.fingerprint, declared.model


def spend_of(row: Any) -> Spend:
    """A row of vectorops.spend; an empty account where there is none."""
    if row is None:
        return Spend()
    return Spend(**row)


async def begin_run(run: Run) -> Spend:
    """Open the account of this run, or find it, and take its next term. Dying after it costs nothing.

    Raises Stalled(Deposed) where another process has taken it since.
    """
    row = await _row(run, "begin_run", *run.account, run.term)
    if row is None:
        raise deposed()
    kept = dict(row)
    run.term = kept.pop("term")
    return Spend(**kept)


def deposed() -> Stalled:
    """Another process works on this request by now: this one sends and writes nothing more."""
    return Stalled(Reason.Deposed, f"Another process has taken this request over. {Reason.Deposed.next_step}")


async def refuse_deposed(run: Run) -> None:
    """A statement changed nothing: perhaps because the account is another's. Raises Stalled(Deposed)."""
    if await _row(run, "hold_term", *run.account, run.term) is None:
        raise deposed()


async def read_account(run: Run) -> Spend:
    """What is reserved and billed by now."""
    return spend_of(await _row(run, "spend", *run.account))


async def take_table_lock(run: Run) -> bool:
    """Try to be the only heavy operation on the table. The lock goes with the session."""
    async with run.using:
        return await try_table_lock(run.session, run.target.oid)


async def release_table_lock(run: Run) -> None:
    """Let another heavy operation have the table."""
    async with run.using:
        await unlock(run.session, run.target.oid)


async def reserve_spend(run: Run, expected: int, most: int) -> bool:
    """Reserve before a call. False: it may not fit into the budget. Dying after it leaves the reservation at risk."""
    row = await _row(run, "reserve_spend", *run.account, expected, most, run.terms.budget, run.term)
    if row is None:
        await refuse_deposed(run)
    return row is not None


async def release_spend(run: Run, reserved: int, billed: int = 0) -> None:
    """Give a reservation back. Dying before it leaves the reservation at risk, and nothing is paid twice."""
    await _row(run, "release_spend", *run.account, reserved, billed, run.term)


async def send_request(run: Run, texts: Sequence[str], load: Load) -> Embedded:
    """One paid request. Dying between its answer and `write_batch` is what is paid for again: this one request."""
    return await run.embedder.request(texts, load)


async def write_batch(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], reserved: int, billed: int
) -> set[str]:
    """Vectors, what they were made from, and the bill, in one statement; the row_keys that took theirs.

    At most WRITE_ROWS rows; `reserved` and `billed` 0: another part of the answer settles the bill. A row that was
    edited or filled meanwhile takes nothing. Dying after it costs nothing.
    """
    packed = [vectors[row.text_hash] for row in rows]
    statement = write_sql(run.scope, run.account, rows, packed, reserved, billed, run.term)
    taken = {record["row_key"] for record in await _fetch(run, statement, "writing embeddings")}
    if not taken:
        await refuse_deposed(run)
    return taken


async def copy_equal(run: Run, rows: Sequence[Found]) -> set[str]:
    """Give rows what was made from the same text for another row. Their row_keys. Dying after it costs nothing."""
    copied = await _fetch(run, copy_sql(run.scope, run.account, rows, run.term), "copying embeddings of equal texts")
    return {record["row_key"] for record in copied}


async def adopt_page(run: Run, after: Sequence[str] | None) -> list[list[str]]:
    """Record today's texts for the next embeddings of others; their keys. Dying after it costs nothing."""
    records = await _fetch(run, adopt_sql(run.scope, ADOPT_ROWS, after), "adopting embeddings")
    return [list(record["key"]) for record in records]


async def read_page(run: Run, rows: int, after: Sequence[str] | None) -> list[Found]:
    """The next rows to embed behind the key `after`. A look, not an effect."""
    records = await _fetch(run, page_sql(run.scope, rows, after), "reading rows to embed")
    return [Found(tuple(r["key"]), r["row_key"], r["text"], r["text_hash"]) for r in records]


async def find_left(run: Run) -> bool:
    """Whether any row is left that is neither embedded, blank nor recorded. A look, not an effect."""
    return bool((await _fetch(run, proof_sql(run.scope), "looking for rows that are left"))[0][0])


async def count_unchanged(run: Run, rows: Sequence[Row]) -> int:
    """How many of these rows could still take the vector that was made for them. A look, not an effect."""
    counted = await _fetch(run, unchanged_sql(run.scope, rows), "looking at rows that took no embedding")
    return int(counted[0][0])


async def record_failure(run: Run, batch: Batch, reason: str) -> None:
    """The rows of one text that cannot be embedded. Dying before it means asking the provider once more, unpaid."""
    table, column, template, model = scope(run.target)
    for row in batch.rows:
        await _row(run, "record_failure", table, column, row.row_key, row.text_hash, template, model, reason)


async def _row(run: Run, name: str, *args: Any) -> Any:
    async with run.using:
        with speaking("keeping the records of the backfill"):
            return await run.session.fetchrow(statements(PACKAGE)[name], *args)


async def _fetch(run: Run, statement: Statement, what: str) -> Any:
    async with run.using:
        with speaking(what):
            return await run.session.fetch(statement.sql, *statement.args)
