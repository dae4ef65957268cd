"""One pass over one object: observe, plan, act, summarise. Written once, knows no kind.

A pass never dies of an exception: what goes wrong becomes a condition and a metric. It returns how long to sleep, by
the one rule in `passes/pace.py`, and ends in time: what a neighbour does not answer by then is an error like others.
The finalizer is written before the first act that leaves something outside, and taken away when nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from vectorops import metrics
from vectorops.errors import Means, OperatorError, Reason, Stalled, Transient, Waiting, frames
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.deletion import UNDO_LOOK, Undoing, may_let_go, seconds_left
from vectorops.runtime.kind import Condition, Tristate, Verdict, View
from vectorops.runtime.passes.farewell import tell_what_is_left
from vectorops.runtime.passes.pace import BACKOFF_CAP
from vectorops.runtime.passes.readable import readable
from vectorops.runtime.status.outward import Waited, advanced_at, outward
from vectorops.runtime.tracked import Tracked

logger = logging.getLogger(__name__)

STALLED_LOOK = 60.0  # seconds: a person is at work, looked at once a minute
PASS_SECONDS = 60.0  # a pass waits for short statements and requests of at most 30 s; the long work is supervised
SILENT_ACTS = 3  # the pass after an act follows at once and tells what came of it: no write for what lasts an instant


@dataclass(frozen=True)
class Seen:
    """The result of looking and deciding. `own` is None when the world could not be seen."""

    verdict: Verdict
    own: tuple[Condition, ...] | None = None
    figures: BaseModel | None = None
    spec: BaseModel | None = None
    observed: Any = None
    holds: bool = True
    asked: float = 0.0  # seconds that the API server asked us to wait before it is written to again


async def one_pass(ctx: Context, tracked: Tracked) -> float:
    """One level-triggered pass. Returns seconds until the next, unless a wake comes first."""
    started = time.perf_counter()
    tracked.take()
    seen = await look(ctx, tracked)
    seen, acted = await touch(ctx, tracked, seen)
    seen = told(ctx, tracked, seen)
    pace = tracked.pace
    pace.acted(seen.verdict.action if acted else None)
    asked = seen.asked
    if not 0 < pace.acts <= SILENT_ACTS:
        asked = max(asked, await summarise(ctx, tracked, seen))
    result = "error" if seen.own is None else "stalled" if seen.verdict.stalled else "ok"
    metrics.reconciled(tracked.kind.names.kind, result, time.perf_counter() - started)
    pace.saw(seen.verdict)
    due = min(due_in(tracked, seen.verdict), tracked.waited.left(ctx.clock(), ctx.progress_deadline))
    return pace.next_pass(seen.verdict, deadline=due, asked=asked)


async def look(ctx: Context, tracked: Tracked) -> Seen:
    """Observe and plan; an error of either is a verdict too."""
    kind, subject = tracked.kind, tracked.subject
    tracked.written = readable(kind.status, tracked.written, kind.family, tracked.raw_spec.get("runToken"))
    try:
        spec = kind.spec.model_validate(tracked.raw_spec)
        status = kind.status.model_validate(tracked.written)
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors()[:5])
        return _unseen(tracked, Stalled(Reason.InvalidSpec, f"these fields cannot be read: {where}"))
    try:
        async with in_time():
            observed = await kind.observe(ctx, subject, spec, status)
        view = View(subject, spec, observed, status, ctx.clock())
        verdict = _unless_released(tracked, kind.decide(view))
        holds = kind.holds(view) or (verdict.action is not None and verdict.action.leaves)
        return Seen(verdict, kind.conditions(view), kind.figures(view), spec, observed, holds)
    except OperatorError as error:
        return _unseen(tracked, error)
    except Exception as error:
        return _unseen(tracked, _bug(tracked, error))


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """End what takes longer than a pass may. Raises Transient(PassTimedOut)."""
    try:
        async with asyncio.timeout(PASS_SECONDS) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        text = f"What this object looks at did not answer within {PASS_SECONDS:.0f} s. {Reason.PassTimedOut.next_step}"
        raise Transient(Reason.PassTimedOut, text) from None


async def touch(ctx: Context, tracked: Tracked, seen: Seen) -> tuple[Seen, bool]:
    """The finalizer first, then the one action. The flag says that something was done."""
    seen, acted = await _touch(ctx, tracked, seen)
    if tracked.subject.deleting_since is not None:
        begun = tracked.undoing.begun if tracked.undoing is not None else tracked.now()
        tracked.undoing = Undoing(begun, failed=isinstance(seen.verdict, Failing))
    return seen, acted


async def _touch(ctx: Context, tracked: Tracked, seen: Seen) -> tuple[Seen, bool]:
    try:
        released = await settle_finalizer(ctx, tracked, seen)
    except OperatorError as error:
        return replace(_failed(tracked, seen, error), asked=pause_asked(error)), False
    if released:  # nothing is left to be done; whatever else holds the object, its turns wake us
        return replace(seen, verdict=replace(seen.verdict, look_again=STALLED_LOOK)), False
    try:
        if tracked.gone or seen.verdict.action is None or seen.spec is None:
            return seen, False
        action = seen.verdict.action
        logger.info("%s: %s", tracked.ref, type(action).__name__)
        async with in_time():
            outcome = await tracked.kind.act(ctx, tracked.subject, seen.spec, seen.observed, action)
        tracked.pending_events += outcome.events
        await end_if_gone(ctx, tracked)
        return seen, True
    except OperatorError as error:
        asked = error.after if isinstance(error, Waiting | Transient) else 0.0
        return replace(_failed(tracked, seen, error), asked=asked), False
    except Exception as error:
        return _failed(tracked, seen, _bug(tracked, error)), False


async def end_if_gone(ctx: Context, tracked: Tracked) -> None:
    """The object may have gone while we acted: what was begun for it is nobody's, and is ended."""
    if tracked.gone and tracked.kind.stop is not None:
        await tracked.kind.stop(ctx, tracked.subject)


async def settle_finalizer(ctx: Context, tracked: Tracked, seen: Seen) -> bool:
    """Bring the finalizer to what is held. True when a deleted object was released: nothing more is to be done."""
    subject = tracked.subject
    if subject.deleting_since is None:
        wanted = seen.holds and not subject.released
        if seen.own is not None and wanted != subject.has_finalizer:
            await tracked.set_finalizer(ctx, present=wanted)
        return False
    if not subject.has_finalizer:
        return not seen.holds
    let_go = may_let_go(subject, tracked.raw_spec, tracked.undoing, seen.verdict, tracked.now())
    if seen.holds and not let_go:
        return False
    if seen.holds:
        await tell_what_is_left(ctx, tracked, seen.verdict.message)
    await tracked.set_finalizer(ctx, present=False)
    return True


def told(ctx: Context, tracked: Tracked, seen: Seen) -> Seen:
    """What was seen, in the words of the outside: the reason decides, and how long it has been waited."""
    now, generation = ctx.clock(), tracked.subject.generation
    status = tracked.written if seen.figures is None else seen.figures.model_dump(mode="json", by_alias=True)
    means = tracked.kind.means(seen.verdict.reason)
    if means is Means.AWAITED and tracked.raw_spec.get("suspend") is True:
        means = Means.PAUSED  # nobody waits for what is missing while nothing is to be done
    before = tracked.waited if tracked.waited.generation == generation else Waited(generation)
    tracked.waited = before.after(seen.verdict, means, advanced_at(status), now)
    late = tracked.waited.late(now, ctx.progress_deadline)
    return replace(seen, verdict=outward(seen.verdict, means, tracked.kind.family, late=late))


def due_in(tracked: Tracked, verdict: Verdict) -> float:
    """Seconds until a deletion must be looked at again, whatever the plan asked for: while time is left, often."""
    if tracked.subject.deleting_since is None or not tracked.subject.has_finalizer:
        return float("inf")
    return min(UNDO_LOOK, seconds_left(tracked.subject, tracked.raw_spec, tracked.undoing, verdict, tracked.now()))


async def summarise(ctx: Context, tracked: Tracked, seen: Seen) -> float:
    """Write status if it is worth it, then events. A failure to write is a metric.

    Returns the seconds that the API server asked us to wait before it is written to again.
    """
    stated = conditions.from_verdict(seen.verdict, tracked.kind.family)
    if seen.own is None:
        former = tracked.written.get("conditions", [])
        same_run = tracked.written.get("runToken") == tracked.raw_spec.get("runToken")
        kept = conditions.carried(former, tracked.kind.family) if same_run else []
        stated = [c for c in stated if c.type not in {k.type for k in kept}] + kept
        stated += conditions.unknown(former, str(seen.verdict.reason), seen.verdict.message)
    else:
        stated += list(seen.own)
    try:
        await tracked.write_status(ctx, stated, seen.figures)
    except OperatorError as error:
        metrics.failed(tracked.kind.names.kind, error.reason)
        logger.warning("%s: status was not written: %s", tracked.ref, error)
        tracked.pace.wrote(failed=True)
        return pause_asked(error)
    tracked.pace.wrote(failed=False)
    return 0.0


def pause_asked(error: OperatorError) -> float:
    """Seconds before what failed is tried again: Retry-After, or what a person needs to grant a right."""
    return error.after if isinstance(error, Waiting | Transient) else STALLED_LOOK


@dataclass(frozen=True)
class Failing(Verdict):
    """A verdict that stands for an error."""


def _unless_released(tracked: Tracked, verdict: Verdict) -> Verdict:
    """A released object has no finalizer and gets none, so no step is begun that a deletion would have to undo."""
    subject = tracked.subject
    withheld = verdict.action is not None and verdict.action.leaves
    if not (subject.released and withheld and subject.deleting_since is None):
        return verdict
    resume = (
        f"kubectl annotate -n {subject.namespace} {tracked.kind.names.plural} {subject.name} vectorops.dev/release-"
    )
    message = f"released by `vectorops release`: nothing new is begun; to go on: {resume}"
    return Verdict(Reason.Released, message, verdict.ready, suspended=True, look_again=STALLED_LOOK)


def _failing(error: OperatorError) -> Failing:
    told = conditions.from_error(error)
    return Failing(
        told.reason, told.message, told.ready, told.reconciling, told.stalled, look_again=pause_asked(error),
        backs_off=BACKOFF_CAP if isinstance(error, Transient) else 0.0,
    )  # fmt: skip


def _unseen(tracked: Tracked, error: OperatorError) -> Seen:
    metrics.failed(tracked.kind.names.kind, error.reason)
    return Seen(_failing(error), holds=tracked.subject.has_finalizer)


def _failed(tracked: Tracked, seen: Seen, error: OperatorError) -> Seen:
    """An act failed: what was seen stands; Ready names the error, and stays True where it was seen to be so.

    A run that has ended stays ended whatever fails afterwards, or it would begin anew: there only Blocked tells.
    """
    metrics.failed(tracked.kind.names.kind, error.reason)
    if seen.verdict.complete or seen.verdict.failed:
        logger.warning("%s: %s", tracked.ref, error)
        needed = not isinstance(error, Transient)
        stays = (Condition("Blocked", "True", error.reason, error.message),) if needed else ()
        ended = replace(seen.verdict, action=None, look_again=STALLED_LOOK)
        return replace(seen, verdict=ended, own=(*(seen.own or ()), *stays))
    ready: Tristate = "True" if seen.verdict.ready == "True" else "False"
    return replace(seen, verdict=replace(_failing(error), ready=ready))


def _bug(tracked: Tracked, error: Exception) -> OperatorError:
    logger.error("%s: unforeseen %s", tracked.ref, frames(error))
    return Transient(
        Reason.InternalError, f"unforeseen {type(error).__name__}; please report it with the operator's log"
    )
