"""One answer into the table: in parts, through other sessions' locks, around rows that the table refuses.

An answer is paid for, so it is not given up for a deadlock, nor for the one row in it that a constraint refuses: the
part is written by halves until that row is left. Refused: blaming rows where the table takes none at all; the server's
own error is raised then.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vectorops import metrics
from vectorops.clients.postgres import sqlstate_of
from vectorops.errors import Reason, Transient
from vectorops.kinds.embeddingbackfill import effects
from vectorops.kinds.embeddingbackfill.batch import Row
from vectorops.kinds.embeddingbackfill.effects import Found
from vectorops.kinds.embeddingbackfill.run import Run

DEADLOCKS = 5  # writes of one part that met another session's locks
LONE = 8  # rows refused one by one while none is taken: it is the table, and each costs a statement
REFUSED = re.compile(r"22...|23...|44000|P0001")
"""SQLSTATEs by which a table refuses a row: it does not fit a type, a constraint, a view's check; a trigger raised."""


@dataclass
class Written:
    """What became of the rows of one answer."""

    taken: set[str] = field(default_factory=set)  # row_keys
    refused: list[Row] = field(default_factory=list)
    error: Transient | None = None  # of the last refusal


async def write_answer(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], reserved: int, billed: int
) -> Written:
    """Write all of it and settle its bill. Raises what no other row of it can help."""
    written, settled = Written(), not (reserved or billed)
    for start in range(0, len(rows), effects.WRITE_ROWS):
        part = rows[start : start + effects.WRITE_ROWS]
        last = start + effects.WRITE_ROWS >= len(rows)  # with it the bill: what is not written yet is at risk
        bill = (reserved, billed) if last else (0, 0)
        whole = await _write_part(run, part, vectors, written, bill)
        settled = settled or (last and whole)
    blame_the_table(run, written)
    if not settled:
        await effects.release_spend(run, reserved, billed)
    metrics.rows_embedded(len(written.taken))
    return written


def blame_the_table(run: Run, written: Written) -> None:
    """Raise the refusal when it is not the rows': none was taken, of this answer or of the last few, or ever."""
    if written.taken:
        run.refusals = 0
    elif written.error is not None:
        run.refusals += 1
        if len(written.refused) > LONE or run.refusals >= LONE or not run.rows_done:
            raise written.error


async def copy_page(run: Run, rows: Sequence[Found]) -> set[str]:
    """Copy what equal texts have to these rows, by halves around those that the table refuses; the row_keys."""
    taken, waiting, lone = set[str](), [rows], 0
    while waiting and (taken or lone <= LONE):
        part = waiting.pop()
        try:
            taken |= await effects.copy_equal(run, part)
        except Transient as error:
            if not REFUSED.fullmatch(sqlstate_of(error) or ""):
                raise
            if len(part) > 1:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
            lone += len(part) == 1
    return taken


async def _write_part(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], written: Written, bill: tuple[int, int]
) -> bool:
    """Write a part, in one statement if the table lets it. Returns whether it did: its bill is settled then."""
    waiting, whole = [rows], True
    while waiting and (whole or written.taken or len(written.refused) <= LONE):
        part = waiting.pop()
        try:
            written.taken |= await _through_locks(run, part, vectors, bill if whole else (0, 0))
        except Transient as error:
            if not REFUSED.fullmatch(sqlstate_of(error) or ""):
                raise
            written.error, whole = error, False
            if len(part) > 1:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                written.refused += part
    return whole


async def _through_locks(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], bill: tuple[int, int]
) -> set[str]:
    """One statement, tried again when it met another session's locks; the row_keys that took their vector."""
    for tries in range(DEADLOCKS):
        try:
            return await effects.write_batch(run, rows, vectors, *bill)
        except Transient as error:
            if error.reason != Reason.LockContended or tries + 1 == DEADLOCKS:
                raise
            await asyncio.sleep(random.uniform(0, 2.0**tries / 10))  # noqa: S311 - jitter, no secret
    raise AssertionError("the last try returns or raises")
