"""The work of a warm-up: select, measure, clear, read into memory, send, verify. No decisions about conditions.

Killed anywhere, it goes on from the ledger that the status keeps: what is lost is at most what was done since the last
write of the status, and doing it again costs repeated searches only.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial

from vectorops.clients.claims import alone
from vectorops.errors import OperatorError, Stalled, frames
from vectorops.errors import Reason as Shared
from vectorops.kinds.cachewarmup.measuring import measure
from vectorops.kinds.cachewarmup.observation import Trouble
from vectorops.kinds.cachewarmup.prewarm import prewarm
from vectorops.kinds.cachewarmup.resource import Invalidate, Measured, Reason
from vectorops.kinds.cachewarmup.run import Run
from vectorops.kinds.cachewarmup.sending import ask, dispatch, nap, permitted
from vectorops.kinds.cachewarmup.source import choose
from vectorops.runtime.work import Job

logger = logging.getLogger(__name__)

VERIFY_AGAIN_SECONDS = 10.0


async def work(job: Job, run: Run) -> None:
    """All of it. What ended it stands in the run, whose owner is then woken."""
    job.notes["run"] = run
    try:
        async with alone(run.store.database, f"CacheWarmup of {job.name}", partial(_deposed, run)):
            await _steps(run)
        if run.fatal is not None:
            raise run.fatal
        run.finished = not run.stopping
    except OperatorError as error:
        run.error = Trouble(error.reason, error.message, isinstance(error, Stalled))
    except Exception as error:  # told and rested from like any other, or the next pass would begin at once, for ever
        logger.error("warm-up %s: unforeseen %s", run.at, frames(error))
        text = f"unforeseen {type(error).__name__}. {Shared.InternalError.next_step}"
        run.error = Trouble(Shared.InternalError, text)
    finally:
        run.waiting, run.ended_at = None, datetime.now(UTC)


def _deposed(run: Run) -> None:
    run.fatal = Stalled(Shared.Deposed, f"Another process warms this service. {Shared.Deposed.next_step}")


async def _steps(run: Run) -> None:
    await _select(run)
    if run.queries and run.ledger.before is None:
        run.step = Reason.Measuring
        before = await measure(run)
        if not run.goes_on():
            return
        run.note(before=before)
    await _clear(run)
    if not run.goes_on() or not run.queries:
        return
    if run.ledger.prewarmed is None:
        run.step = Reason.Prewarming
        run.note(prewarmed=await prewarm(run))
    run.step = Reason.Warming
    await dispatch(run, range(run.ledger.position, len(run.queries)), lambda number: _warm(run, number))
    await _verify(run)


async def _select(run: Run) -> None:
    run.step = Reason.Selecting
    chosen = await choose(run)
    run.queries = chosen.queries
    if run.ledger.list_hash != chosen.list_hash or run.ledger.position > len(chosen.queries):
        run.note(list_hash=chosen.list_hash, position=0, warmed=0, failed=0, failures={})
    else:
        # what was settled beyond the bookmark is asked again, and must not be counted twice
        failed = min(run.ledger.failed, run.ledger.position)
        run.note(warmed=run.ledger.position - failed, failed=failed)
    run.note(selected=len(chosen.queries), ignored=chosen.ignored, covered_percent=chosen.covered_percent)


async def _clear(run: Run) -> None:
    """Once a run: what was warmed must not be cleared again. Raises Stalled(EndpointUnsupported)."""
    if run.invalidate is Invalidate.NONE or run.ledger.invalidated or not await permitted(run):
        return
    run.step = Reason.Clearing
    clear = run.service.invalidate_cache if run.invalidate is Invalidate.ALL else run.service.clean_up_cache
    run.note(removed=await clear(), invalidated=True)
    run.former = None


async def _warm(run: Run, number: int) -> None:
    asked = await ask(run, run.queries[number])
    if asked.answer is not None or asked.failure is not None:
        run.settle(number, asked.failure)


async def _verify(run: Run) -> None:
    """Measure, and again until the target is reached or its time is over."""
    until = run.clock() + run.pacing.timeout_seconds
    while run.goes_on():
        run.step = Reason.Verifying
        after = await measure(run)
        if not run.goes_on():
            return
        run.note(after=after)
        if _enough(after, run.pacing.target_percent) or run.clock() + VERIFY_AGAIN_SECONDS > until:
            return
        await nap(run, VERIFY_AGAIN_SECONDS)


def _enough(after: Measured, wanted: int) -> bool:
    """Whether looking again would change nothing."""
    percent = after.cache_hit_rate_percent
    return percent is None or percent >= wanted
