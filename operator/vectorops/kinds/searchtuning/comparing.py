"""Comparing with other indexes: each built on a copy of the column, measured with the same settings, and dropped.

On a copy, because an index on the table itself would at once serve live searches, cost every write, and hide the one
that is there from the planner. The copy is an unlogged table in the schema vectorops with the vectors alone; it is
dropped at the end, and by the next run or the deletion where the operator was killed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.postgres import Connection
from vectorops.kinds.searchtuning.copying import build, copy_column, drop_copy, drop_index, title
from vectorops.kinds.searchtuning.observation import Findings
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Candidate, Compared
from vectorops.kinds.searchtuning.run import Run, copy_name
from vectorops.recall.searching import snapshot
from vectorops.recall.target import Target, target_of
from vectorops.runtime.rounding import size_text, two_digits

Choose = Callable[[Run, Connection, Target, int | None], Awaitable[None]]


async def compare(run: Run, choose: Choose) -> None:
    """Build and measure every candidate; writes `comparison` into the findings, the present index first."""
    if not run.spec.compare or run.found.queries == 0 or not run.found.curve:
        return
    assert run.catalogue is not None and run.index is not None, "of the operator's own runner"
    run.go_on()
    own, target, table = run.found, target_of(run.catalogue, run.index), copy_name(run.uid)
    rows = [_row("Current", own, run.index.size_bytes, None)]
    await ensure_bookkeeping(run.database)
    async with run.database.session(f"vectorops:vtune:{run.uid}") as connection:
        try:
            run.step = Reason.Comparing
            await copy_column(connection, target, table)
            for candidate in run.spec.compare:
                row = await _measured(run, connection, target, candidate, choose)
                same = sum(one.name.split(" #")[0] == row.name for one in rows)  # each name once: it is the list's key
                rows.append(row.model_copy(update={"name": f"{row.name} #{same + 1}"}) if same else row)
                run.found = replace(own, comparison=tuple(rows))
        finally:
            if not connection.is_closed():
                await drop_copy(connection, table)
    run.found = replace(own, comparison=tuple(rows))


async def _measured(run: Run, connection: Connection, target: Target, candidate: Candidate, choose: Choose) -> Compared:
    run.go_on()
    run.step = Reason.Comparing
    built = await build(connection, target, candidate, copy_name(run.uid), run.found.rows or 0)
    run.found = Findings(index_name=run.found.index_name, rows=run.found.rows)
    async with snapshot(connection):
        await choose(run, connection, built.target, None)
    await drop_index(connection, built.target)
    return _row(title(candidate), run.found, built.size_bytes, built.seconds)


def _row(name: str, found: Findings, size_bytes: int, seconds: float | None) -> Compared:
    point = found.chosen or max(found.curve, key=lambda one: one.ef_search)
    return Compared(
        name=name,
        size=size_text(size_bytes),
        size_bytes=two_digits(size_bytes),
        build_seconds=round(seconds) if seconds is not None else None,
        ef_search=point.ef_search if found.chosen is not None else None,
        recall_percent=point.recall_percent,
        lower_bound_percent=point.lower_bound_percent,
        p95_milliseconds=point.p95_milliseconds,
        buffers=point.buffers,
    )
