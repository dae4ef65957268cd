"""One answer into the table: in parts, through other sessions' locks, around rows that the table refuses.

An answer is paid for, so it is not given up for a deadlock, nor for the rows in it that a constraint refuses: a refused
part is written by halves, the largest first, until those rows are left. Bad rows come in clusters (those of old, by
key), so while nothing was taken single rows are drawn from everywhere before the table itself is blamed. Refused:
blaming rows where the table takes none at all; the server's own error is raised then.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from vectorops import metrics
from vectorops.clients.postgres import sqlstate_of
from vectorops.clients.predicate import REFUSED as UNLIKE
from vectorops.errors import OperatorError, Reason, Transient
from vectorops.kinds.embeddingbackfill import effects
from vectorops.kinds.embeddingbackfill.batch import Row
from vectorops.kinds.embeddingbackfill.effects import Found
from vectorops.kinds.embeddingbackfill.run import Run

DEADLOCKS = 5  # writes of one part that met another session's locks
SUSPICIOUS = 8  # statements refused while none was taken: the table may be to blame, so rows are drawn at random
TABLE_ROWS = 32  # single rows refused in a row: it is the table, where no row of it is embedded yet
MOST_ROWS = 1000  # and where it did: a cluster of bad rows is rarely larger, and so many texts cost a cent or two
REFUSED = re.compile(r"22...|23...|44000|P000[1-4]")
"""SQLSTATEs by which a table refuses a row: it does not fit a type, a constraint, a view's check; a trigger raised."""


class Keyed(Protocol):
    """A row by its key."""

    @property
    def row_key(self) -> str:
        """As the bookkeeping has it."""


R = TypeVar("R", bound=Keyed)


@dataclass
class Parts(Generic[R]):
    """What is to be written, and what became of it."""

    waiting: deque[Sequence[R]]
    taken: set[str] = field(default_factory=set)  # row_keys
    refused: list[R] = field(default_factory=list)  # by itself
    statements: int = 0  # that were refused, in a row
    error: OperatorError | None = None  # of the last refusal

    def pop(self) -> Sequence[R]:
        """The largest part; single rows from anywhere while it looks as if the table took nothing."""
        if self.taken or self.statements < SUSPICIOUS:
            return self.waiting.popleft()
        part = self.waiting[at := random.randrange(len(self.waiting))]  # noqa: S311 - a sample, no secret
        one = random.randrange(len(part))  # noqa: S311 - the same
        del self.waiting[at]
        self.waiting += (rest for rest in (part[:one], part[one + 1 :]) if rest)
        return part[one : one + 1]

    def refuse(self, part: Sequence[R], error: OperatorError) -> None:
        """The table did not take it: its halves are next, or it is a row."""
        self.statements, self.error = self.statements + 1, error
        if len(part) == 1:
            self.refused += part
        else:
            self.waiting += (part[: len(part) // 2], part[len(part) // 2 :])


async def write_around(
    parts: Parts[R], write: Callable[[Sequence[R]], Awaitable[set[str]]], hopeless: Callable[[], bool]
) -> None:
    """Write part after part, around the rows that are refused. Raises what no other row of it can help."""
    while parts.waiting and (parts.taken or not hopeless()):
        part = parts.pop()
        try:
            parts.taken |= await write(part)
            parts.statements = 0  # it takes statements: halves find its rows faster than draws
        except OperatorError as error:
            if not is_refusal(error):
                raise
            parts.refuse(part, error)


def is_refusal(error: OperatorError) -> bool:
    """Whether the table refused a row, and another may be taken."""
    return REFUSED.fullmatch(sqlstate_of(error) or "") is not None


async def write_answer(
    run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], reserved: int, billed: int
) -> Parts[Row]:
    """Write all of it and settle its bill. Raises the refusal when the table is to blame and no row."""
    size, parts = effects.WRITE_ROWS, Parts[Row](deque())
    parts.waiting += (rows[start : start + size] for start in range(0, len(rows), size))
    settled = not (reserved or billed)

    async def write(part: Sequence[Row]) -> set[str]:
        nonlocal settled
        bill = (0, 0) if settled or parts.waiting else (reserved, billed)  # with the last: until then it is at risk
        try:
            taken = await _through_locks(run, part, vectors, bill)
        except OperatorError as error:
            run.refusals += len(part) == 1 and is_refusal(error)
            raise
        settled = settled or not parts.waiting
        run.refusals = 0 if taken else run.refusals
        return taken

    def hopeless() -> bool:
        return parts.error is not None and run.refusals >= (
            MOST_ROWS if run.rows_done or run.counts.embedded else TABLE_ROWS
        )

    await write_around(parts, write, hopeless)
    blamed = parts.error if not parts.taken and hopeless() else None
    if not settled:
        await effects.release_spend(run, reserved, billed)
    metrics.rows_embedded(len(parts.taken))
    if blamed is not None:
        run.refusals = 0  # the next attempt draws anew
        raise blamed
    return parts


async def copy_page(run: Run, rows: Sequence[Found]) -> set[str]:
    """Copy what equal texts have to these rows, around those that the table refuses; the row_keys.

    A row_key of a former key may not read as the present one: its row is refused too, or, where the types do not even
    compare, nothing is copied; such texts are bought.
    """
    parts = Parts[Found](deque([rows]))
    try:
        await write_around(parts, lambda part: effects.copy_equal(run, part), lambda: len(parts.refused) >= TABLE_ROWS)
    except OperatorError as error:
        if not UNLIKE.match(sqlstate_of(error) or ""):
            raise
    return parts.taken


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
