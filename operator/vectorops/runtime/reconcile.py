"""One pass over one object: observe, plan, act, summarise. Written once, knows no kind.

A pass never dies of an exception: what goes wrong becomes a condition and a metric. It returns how long to sleep.
The finalizer is written before the first act that leaves something outside, and taken away when nothing is left.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from vectorops import metrics
from vectorops.errors import Means, OperatorError, Reason, Stalled, Transient, Waiting, frames
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.deletion import may_let_go, seconds_left
from vectorops.runtime.kind import Condition, Event, Tristate, Verdict, View
from vectorops.runtime.status.outward import Waited, advanced_at, outward
from vectorops.runtime.tracked import Tracked

logger = logging.getLogger(__name__)

STALLED_LOOK = 60.0  # seconds: a person is at work, looked at once a minute
UNWRITTEN_LOOK = 10.0  # seconds after which a status that could not be written is tried again
BACKOFF_FIRST, BACKOFF_CAP = 1.0, 60.0  # seconds; full jitter between. What others mend is seen within a minute
SILENT_ACTS = 3  # the pass after an act follows at once and tells what came of it: no write for what lasts an instant
LEAST_SLEEP = 0.05  # seconds: no verdict can make the loop spin


@dataclass(frozen=True)
class Seen:
    """The result of looking and deciding. `own` is None when the world could not be seen."""

    verdict: Verdict
    own: tuple[Condition, ...] | None = None
    figures: BaseModel | None = None
    spec: BaseModel | None = None
    observed: Any = None
    holds: bool = True


async def one_pass(ctx: Context, tracked: Tracked) -> float:
    """One level-triggered pass. Returns seconds until the next, unless a wake comes first."""
    started = time.perf_counter()
    tracked.take()
    seen = await look(ctx, tracked)
    seen, acted = await touch(ctx, tracked, seen)
    seen = told(ctx, tracked, seen)
    tracked.acts_in_a_row = tracked.acts_in_a_row + 1 if acted else 0
    unwritten = math.inf
    if not 0 < tracked.acts_in_a_row <= SILENT_ACTS:
        unwritten = await summarise(ctx, tracked, seen)
    result = "error" if seen.own is None else "stalled" if seen.verdict.stalled else "ok"
    metrics.reconciled(tracked.kind.names.kind, result, time.perf_counter() - started)
    wanted = sleep_for(tracked, seen, acted, seconds_left(tracked.subject, tracked.raw_spec, ctx.clock()))
    return min(wanted, unwritten)


async def look(ctx: Context, tracked: Tracked) -> Seen:
    """Observe and plan; an error of either is a verdict too."""
    kind, subject = tracked.kind, tracked.subject
    try:
        spec = kind.spec.model_validate(tracked.raw_spec)
        status = kind.status.model_validate(tracked.written)
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors()[:5])
        return _unseen(tracked, Stalled(Reason.InvalidSpec, f"these fields cannot be read: {where}"))
    try:
        observed = await kind.observe(ctx, subject, spec, status)
        view = View(subject, spec, observed, status, ctx.clock())
        verdict = _unless_released(tracked, kind.decide(view))
        holds = kind.holds(view) or (verdict.action is not None and verdict.action.leaves)
        return Seen(verdict, kind.conditions(view), kind.figures(view), spec, observed, holds)
    except OperatorError as error:
        return _unseen(tracked, error)
    except Exception as error:
        return _unseen(tracked, _bug(tracked, error))


async def touch(ctx: Context, tracked: Tracked, seen: Seen) -> tuple[Seen, bool]:
    """The finalizer first, then the one action. The flag says that the next pass follows at once."""
    try:
        released = await settle_finalizer(ctx, tracked, seen)
        if released or tracked.gone or seen.verdict.action is None or seen.spec is None:
            return seen, False
        action = seen.verdict.action
        logger.info("%s: %s", tracked.ref, type(action).__name__)
        outcome = await tracked.kind.act(ctx, tracked.subject, seen.spec, seen.observed, action)
        tracked.pending_events += outcome.events
        await end_if_gone(ctx, tracked)
        return seen, True
    except OperatorError as error:
        return _failed(tracked, seen, error), False
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
    let_go = may_let_go(subject, str(seen.verdict.reason), tracked.raw_spec, ctx.clock())
    if seen.holds and not let_go:
        return False
    if seen.holds:
        left = Event("Abandoned", f"let go, with something possibly left outside: {seen.verdict.message}", warning=True)
        await tracked.recorder.record(ctx, subject, left)
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


async def summarise(ctx: Context, tracked: Tracked, seen: Seen) -> float:
    """Write status if it is worth it, then events. A failure to write is a metric.

    Returns seconds after which it must be tried again: an object that has ended would else not be looked at for long.
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
        return STALLED_LOOK if isinstance(error, Stalled) else UNWRITTEN_LOOK
    return math.inf


def sleep_for(tracked: Tracked, seen: Seen, acted: bool, deletion_seconds: float) -> float:
    """How long until the next pass: at once after an act, what the plan asked, or back-off after an error."""
    if acted:
        tracked.failures = 0
        return 0.0
    tracked.failures = tracked.failures + 1 if isinstance(seen.verdict, Failing) and seen.verdict.backs_off else 0
    wanted = max(seen.verdict.look_again, backoff(tracked.failures) if tracked.failures else LEAST_SLEEP)
    return min(wanted, max(deletion_seconds, LEAST_SLEEP)) if tracked.subject.has_finalizer else wanted


def backoff(failures: int) -> float:
    """Full jitter: anywhere up to first * 2^failures, at most the cap; never less than a tenth of that."""
    ceiling = min(BACKOFF_CAP, BACKOFF_FIRST * 2.0 ** min(failures, 16))
    return random.uniform(ceiling / 10, ceiling)  # noqa: S311 - jitter, no secret


@dataclass(frozen=True)
class Failing(Verdict):
    """A verdict that stands for an error."""

    backs_off: bool = False  # trying again is the remedy, so ever more slowly


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
    after = error.after if isinstance(error, Waiting | Transient) else STALLED_LOOK
    return Failing(
        told.reason, told.message, told.ready, told.reconciling, told.stalled, look_again=after,
        backs_off=isinstance(error, Transient),
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
