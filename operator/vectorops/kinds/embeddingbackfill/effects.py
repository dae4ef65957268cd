"""Everything this room does to the world, one function an effect. No policy.

The process may die right after any of them; what that costs is said at each. Statements go over the run's session one
at a time, each in a transaction of its own: none is open while the provider thinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vectorops.clients.embedding_tokens import Load
from vectorops.clients.embeddings import Embedded
from vectorops.clients.locks import try_table_lock, unlock
from vectorops.clients.postgres import speaking, statements
from vectorops.clients.sql import qualified
from vectorops.kinds.embeddingbackfill.batch import Batch, Row
from vectorops.kinds.embeddingbackfill.observation import Spend
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.sql import unchanged_sql, write_sql
from vectorops.kinds.embeddingbackfill.target import Target

PACKAGE = "vectorops.kinds.embeddingbackfill"


def scope(target: Target) -> tuple[str, str, bytes, str]:
    """table_name, column_name, template_hash, model: what bookkeeping rows speak of."""
    declared = target.declared
    return qualified(declared.schema, declared.table), declared.column, target.template.fingerprint, declared.model


def spend_of(row: Any) -> Spend:
    """A row of vectorops.spend; an empty account where there is none."""
    if row is None:
        return Spend()
    return Spend(row["tokens_reserved"], row["tokens_billed"], row["rows_done"], row["started_at"])


async def begin_run(run: Run) -> Spend:
    """Open the account of this run, or find it. Dying after it costs nothing."""
    return spend_of(await _row(run, "begin_run", run.uid, run.token))


async def read_account(run: Run) -> Spend:
    """What is reserved and billed by now."""
    return spend_of(await _row(run, "spend", run.uid, run.token))


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
    row = await _row(run, "reserve_spend", run.uid, run.token, expected, most, run.terms.budget)
    return row is not None


async def release_spend(run: Run, reserved: int, billed: int = 0) -> None:
    """Give a reservation back. Dying before it leaves the reservation at risk, and nothing is paid twice."""
    await _row(run, "release_spend", run.uid, run.token, reserved, billed)


async def send_request(run: Run, texts: Sequence[str], load: Load) -> Embedded:
    """One paid request. Dying between its answer and `write_batch` is what is paid for again: this one request."""
    return await run.embedder.request(texts, load)


async def write_batch(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], reserved: int, billed: int
) -> set[str]:
    """Vectors, what they were made from, and the bill, in one statement; the row_keys that took theirs.

    A row that was edited or filled meanwhile takes nothing. Dying after it costs nothing.
    """
    keys = [[row.key[number] for row in rows] for number in range(len(run.target.keys))]
    dimensions = run.target.declared.dimensions
    fixed = (*scope(run.target), dimensions, run.uid, run.token, reserved, billed)
    hashes, values = [row.text_hash for row in rows], [vectors[row.text_hash] for row in rows]
    async with run.using:
        with speaking("writing embeddings"):
            written = await run.session.fetch(write_sql(run.target), *fixed, hashes, values, *keys)
    return {record["row_key"] for record in written}


async def count_unchanged(run: Run, rows: Sequence[Row]) -> int:
    """How many of these rows could still take the vector that was made for them. A look, not an effect."""
    keys = [[row.key[number] for row in rows] for number in range(len(run.target.keys))]
    async with run.using:
        with speaking("looking at rows that took no embedding"):
            count: int = await run.session.fetchval(unchanged_sql(run.target), [row.text_hash for row in rows], *keys)
    return count


async def record_failure(run: Run, batch: Batch, reason: str) -> None:
    """The rows of one text that cannot be embedded. Dying before it means asking the provider once more, unpaid."""
    table, column, template, model = scope(run.target)
    for row in batch.rows:
        await _row(run, "record_failure", table, column, row.row_key, row.text_hash, template, model, reason)


async def _row(run: Run, name: str, *args: Any) -> Any:
    async with run.using:
        with speaking("keeping the records of the backfill"):
            return await run.session.fetchrow(statements(PACKAGE)[name], *args)
