"""What a run looks at beside its work: who wants the table, what must not suffer, how long it has worked.

Once a second, on the watching connection. Whatever asks for it pauses the run: nothing more is sent, the table's lock
and the session are let go of after the write in hand, and it goes on by itself. The run's clock and its attempts are
kept in the database: a process that is killed loses seconds of it, and never adds any.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from vectorops.clients.locks import LOCK_CLASS
from vectorops.clients.postgres import Database, statements
from vectorops.errors import OperatorError, Reason, Stalled, Waiting
from vectorops.kinds.embeddingbackfill.courtesy import Courtesy, Demand
from vectorops.kinds.embeddingbackfill.observation import Trouble
from vectorops.kinds.embeddingbackfill.parts import Throttle
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.throttle import Seen, held_up
from vectorops.runtime.context import Context
from vectorops.runtime.store import Store

PACKAGE = "vectorops.kinds.embeddingbackfill"
POLL = 1.0  # seconds between two looks at who wants the table
NEIGHBOURS_LOOK = 5.0  # seconds between two looks at standbys and the service: both take longer to recover
SAVE = 10.0  # seconds of work that a kill may lose of the deadline's clock
SHARED_PERIODS = 1.5  # of the store's health checks: its own sweep is young enough, and none is sent beside it
SHARED_MOST = 45.0  # seconds; a store that is looked at seldom would let the service suffer for minutes

WAITED_FOR = frozenset(
    {
        Reason.DatabaseUnavailable, Reason.NotPrimary, Reason.TooManyConnections, Reason.LockContended,
        Reason.RateLimited,
    }
)  # fmt: skip
"""An outage, a failover, another session's lock, a limit: trying again is no failed attempt of this request."""


class Watch:
    """The looks of one run."""

    def __init__(self, run: Run) -> None:
        self._run, self._courtesy = run, Courtesy()
        self._held: Trouble | None = None
        self._looked = -NEIGHBOURS_LOOK

    async def forever(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            await self.look()
            if self._run.unsaved_seconds >= SAVE:
                await save_clock(self._run)

    async def look(self) -> None:
        """Pause the run, or let it go on. What cannot be looked at changes nothing: the session meets it and tells."""
        run, now = self._run, time.monotonic()
        if run.held_back():
            return
        if run.neighbours is not None and now - self._looked >= NEIGHBOURS_LOOK:
            self._looked = now
            with suppress(OperatorError):
                self._held = await run.neighbours()
        with suppress(OperatorError):
            demand = await who_wants(run.database, run.target.oid)
            message = f"{run.target.declared.name}: {Why.WaitingForIndexBuild.next_step}"
            building = self._courtesy.lets_go(demand, time.monotonic())
            run.pause(Trouble(Why.WaitingForIndexBuild, message) if building else self._held)


async def who_wants(database: Database, table_oid: int) -> Demand:
    """Who builds an index of the table or may want to."""
    row = await database.fetchrow(statements(PACKAGE)["build_wanted"], table_oid, LOCK_CLASS)
    assert row is not None, "the statement returns one row"
    return Demand(row["building"], row["free"], frozenset(row["waiting"]))


async def look_at_neighbours(ctx: Context, store: Store, throttle: Throttle) -> Trouble | None:
    """Why nothing is to be sent now, by the standbys and by the search service."""
    seen = Seen()
    if throttle.max_replica_lag_seconds is not None:
        catalogue = await ctx.stores.catalogue(store, NEIGHBOURS_LOOK)
        seen = Seen(catalogue.replicas, catalogue.role.name)
    if store.spec.service is not None:
        age = min(SHARED_MOST, SHARED_PERIODS * store.spec.health_check_period_seconds)
        with suppress(OperatorError):  # what nobody knows of the service holds nothing up
            figures = await ctx.stores.service_figures(store, age)
            seen = Seen(seen.replicas, seen.role, figures.interval.p95_milliseconds, figures.jobs)
    return held_up(throttle, seen)


async def save_clock(run: Run) -> None:
    """Put what it has worked since on its account, and forget failed attempts that were got over. Never raises ours."""
    seconds, wrote = run.take_seconds(), run.written > run.written_at_attempt
    with suppress(OperatorError):
        await run.database.write_row(statements(PACKAGE)["add_active"], *run.account, seconds, wrote, run.term)


async def failed_attempt(run: Run, error: BaseException) -> bool:
    """Count an attempt that ended in this error, if it is one. Returns whether there are any left."""
    reason = error.reason if isinstance(error, OperatorError) else Reason.InternalError
    if isinstance(error, Stalled | Waiting) or reason in WAITED_FOR:
        return True
    message = error.message if isinstance(error, OperatorError) else f"unforeseen {type(error).__name__}."
    run.attempt_failed = Trouble(reason, message)
    wrote, run.written_at_attempt = run.written > run.written_at_attempt, run.written
    with suppress(OperatorError):
        row = await run.database.write_row(statements(PACKAGE)["count_attempt"], *run.account, wrote, run.term)
        return row is None or row["attempts"] <= run.backoff_limit
    return True
