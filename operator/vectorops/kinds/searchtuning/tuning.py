"""The work of a tuning: draw searches, find the exact answer, search, choose, compare, apply.

Killed anywhere, it is begun again: nothing but the copy for a comparison is written before the choice is. Reading is
done in one transaction with one snapshot, on a replica where the store names one.
"""

from __future__ import annotations

import logging
import math
from functools import partial

from vectorops.clients.claims import alone
from vectorops.clients.postgres import Connection
from vectorops.errors import OperatorError, Stalled, Waiting, frames
from vectorops.errors import Reason as Shared
from vectorops.kinds.searchtuning.applying import apply, set_today
from vectorops.kinds.searchtuning.asking import ask_service
from vectorops.kinds.searchtuning.choosing import Bisection, grid, growing, sweep
from vectorops.kinds.searchtuning.comparing import compare
from vectorops.kinds.searchtuning.filling import wait_for_backfill, wait_for_first_rows
from vectorops.kinds.searchtuning.observation import Trouble
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Point, Runner, Strategy
from vectorops.kinds.searchtuning.run import Run
from vectorops.kinds.searchtuning.source import draw
from vectorops.recall.bound import lower_bound, surely_at_least, surely_below
from vectorops.recall.searching import Measured, Searcher, snapshot, truth
from vectorops.recall.target import Target, target_of
from vectorops.runtime.work import Job

logger = logging.getLogger(__name__)

SETTING = "hnsw.ef_search"
SETTLING = 256  # queries with which the choice and the value of today are timed in turn
FEWEST_QUERIES = 32  # below, no bound says anything
LEAST_REST = 15.0  # seconds: each try draws its searches anew


async def work(job: Job, run: Run) -> None:
    """All of it. What ended it stands in the run, whose owner is then woken."""
    job.notes["run"] = run
    try:
        async with alone(run.database, f"SearchTuning {run.uid}", partial(_deposed, run)):
            if run.spec.runner is Runner.SERVICE:
                await ask_service(run)
            else:
                await _measure(run)
                await compare(run, choose)
            await apply(run)
        run.finished = not run.stopping
    except OperatorError as error:
        if not run.stopping:  # what we ended ourselves is no trouble
            rest = Trouble.rest if not isinstance(error, Waiting) else max(LEAST_REST, error.after)
            run.error = Trouble(error.reason, error.message, isinstance(error, Stalled), rest)
    except Exception as error:  # told and rested from like any other, or the next pass would begin at once, for ever
        logger.error("tuning %s: unforeseen %s", run.uid, frames(error))
        text = f"unforeseen {type(error).__name__}. {Shared.InternalError.next_step}"
        run.error = Trouble(Shared.InternalError, text)
    finally:
        run.ended_at = run.clock()


def _deposed(run: Run) -> None:
    run.stopping = True  # whoever is at it writes what comes of it


async def _measure(run: Run) -> None:
    assert run.catalogue is not None and run.index is not None, "of the operator's own runner"
    target = target_of(run.catalogue, run.index)
    today = await set_today(run)
    await wait_for_backfill(run)
    async with run.reader.session(f"vectorops:vtune:{run.uid}") as connection, snapshot(connection):
        await choose(run, connection, target, today)
        if run.found.queries < FEWEST_QUERIES and (run.spec.queries is None or run.spec.queries.from_table is None):
            await wait_for_first_rows(connection, target, FEWEST_QUERIES)
    run.note(index_name=target.index_name, declared=run.declared)


async def choose(run: Run, connection: Connection, target: Target, today: int | None) -> None:
    """Find the cheapest value for one index, and write curve, choice and the value of today into the run's findings."""
    run.step = Reason.Sampling
    queries = await draw(run, connection, target)
    run.note(queries=len(queries.texts))
    if len(queries.texts) < FEWEST_QUERIES:
        return
    run.go_on()
    run.step = Reason.ReadingVectors
    exact = await truth(connection, target, queries, run.spec.k)
    run.note(rows=exact.rows)
    run.go_on()
    run.step = Reason.Searching
    searcher = Searcher(connection, target, queries, exact, run.spec.k)
    try:
        await searcher.open()
    except Waiting as error:
        raise Waiting(Reason.NotSearched, f"{error.message} {Reason.NotSearched.next_step}", after=60.0) from None
    tuner = Tuner(run, searcher, len(queries.texts))
    chosen = await (tuner.bisect() if run.spec.strategy is Strategy.BISECTION else tuner.sweep())
    await tuner.settle(chosen, today)


class Tuner:
    """One index, many values of ef_search, the same queries."""

    def __init__(self, run: Run, searcher: Searcher, queries: int) -> None:
        self._run, self._searcher, self._queries = run, searcher, queries
        self._target = run.spec.recall_target_percent / 100
        self._measured: dict[int, Measured] = {}

    async def bisect(self) -> int | None:
        """The first value of the grid that surely meets the target."""
        spec = self._run.spec
        values = grid(self._least(), spec.range.max)
        self._run.total = self._queries * (2 + max(1, math.ceil(math.log2(len(values) + 1))))
        search = Bisection(values)
        while (value := search.next) is not None:
            search.answer(await self._meets(value))
        return search.found

    async def sweep(self) -> int | None:
        """The runbook's way: every value with every query."""
        spec = self._run.spec
        values = sweep(self._least(), spec.range.max, spec.range.step)
        self._run.total = self._queries * (len(values) + 1)
        for part in growing(self._queries):
            await self._search(values, part)
        for value in values:
            if surely_at_least(self._measured[value].recalls, self._target, self._queries):
                return value
        return None

    async def settle(self, chosen: int | None, today: int | None) -> None:
        """Search with the choice and with the value of today once more, in turn: for the figures beside each other."""
        values = sorted({value for value in (chosen, today) if value is not None})
        former = {value: self._measured.pop(value) for value in values if value in self._measured}
        if values:
            for part in growing(min(self._queries, SETTLING)):
                await self._search(values, part)
        for value, before in former.items():  # of the recall all that is known, of the time what was measured in turn
            if len(before.recalls) > len(self._measured[value].recalls):
                self._measured[value].recalls = before.recalls
        run, points = self._run, {value: self.point(value) for value in sorted(self._measured)}
        run.note(
            curve=tuple(points.values()),
            chosen=points[chosen] if chosen is not None else None,
            current=points[today] if today is not None else None,
        )

    def point(self, value: int) -> Point:
        """What is known of a value."""
        one = self._measured[value]
        return Point(
            ef_search=value,
            recall_percent=int(100 * one.recall + 1e-9),
            lower_bound_percent=int(100 * lower_bound(one.recalls, self._queries) + 1e-9),
            p95_milliseconds=math.ceil(1000 * one.p95_seconds),
            buffers=one.blocks_a_search,
            sampled=len(one.recalls),
        )

    def _least(self) -> int:
        """A search returns at most ef_search rows, and here one more than k is asked for."""
        spec = self._run.spec
        return min(max(spec.range.min, spec.k + 1), spec.range.max)

    async def _meets(self, value: int) -> bool:
        """Whether the value surely meets the target: as many queries as it takes to tell."""
        for part in growing(self._queries):
            await self._search([value], part)
            recalls = self._measured[value].recalls
            if surely_at_least(recalls, self._target, self._queries):
                return True
            if surely_below(recalls, self._target, self._queries):
                return False
        return False

    async def _search(self, values: list[int] | tuple[int, ...], numbers: range) -> None:
        run = self._run
        run.go_on()
        await self._searcher.measure(SETTING, values, numbers, self._measured)
        run.done += len(values) * len(numbers)
        run.note(curve=tuple(self.point(value) for value in sorted(self._measured)))
