"""Send queries to the service, never more at a time than the share of its pool allows, never faster than it bears.

Every request is one search as people make it. What the service answers decides the pace; whether its pool is crowded
is asked once a second. A query costs three tries at the most; a service that is down costs no query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode

from vectorops.clients.searchservice import UNSUPPORTED
from vectorops.clients.service_wire import Answer
from vectorops.errors import OperatorError, Stalled, Transient
from vectorops.errors import Reason as Shared
from vectorops.kinds.cachewarmup.observation import Trouble
from vectorops.kinds.cachewarmup.pace import Room, crowded, room
from vectorops.kinds.cachewarmup.resource import Method, Reason
from vectorops.kinds.cachewarmup.run import Run

T = TypeVar("T")

TRIES = 3
POOL_SECONDS = 1.0  # how old the pools' figures may be
NAP = 0.2  # seconds: how soon a stop or new figures are noticed
UNANSWERED_SECONDS = (
    60.0  # so long the service may still be busy with a search that we have given up, as proxies assume
)


@dataclass(frozen=True)
class Asked:
    """What came of one query. Neither an answer nor a failure: it was not settled and is to be asked again."""

    answer: Answer | None = None
    failure: str | None = None


async def dispatch(run: Run, items: Iterable[T], handle: Callable[[T], Awaitable[None]]) -> None:
    """`handle` each item when its turn comes; ends early when the run is stopped. Raises what ends the whole run."""
    pending: set[asyncio.Task[None]] = set()

    def done(task: asyncio.Task[None]) -> None:
        pending.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # a surprise ends the run; unseen it would leave a query behind
            run.fatal = run.fatal or error

    try:
        for item in items:
            if not await _turn(run, pending):
                break
            task = asyncio.ensure_future(handle(item))
            pending.add(task)
            task.add_done_callback(done)
        if pending:
            await asyncio.wait(pending)
    finally:
        for task in pending:
            task.cancel()
    if run.fatal is not None:
        raise run.fatal


async def ask(run: Run, query: str) -> Asked:
    """One query, in at most three tries. Raises nothing: what ends the run stands in `run.fatal`."""
    failure = ""
    for number in range(TRIES):
        if number and not await _turn(run):
            return Asked()
        settled, failure = await _once(run, query)
        if settled is not None:
            return settled
        run.trouble = failure
        if run.pace.hopeless(reached=failure != Shared.ServiceUnavailable):
            text = f"The search service does not answer searches ({failure}). {Shared.ServiceUnavailable.next_step}"
            run.fatal = run.fatal or Transient(Shared.ServiceUnavailable, text)
    return Asked(failure=failure) if run.goes_on() else Asked()


async def nap(run: Run, seconds: float) -> bool:
    """Wait, but not longer than the run goes on; False: it does not."""
    until = run.clock() + seconds
    while run.goes_on():
        left = until - run.clock()
        if left <= 0:
            return True
        await asyncio.sleep(min(NAP, left))
    return False


async def permitted(run: Run) -> bool:
    """Wait while nothing that costs something may be asked for; False: the run has ended."""
    while run.goes_on():
        why = run.withheld()
        if why is None:
            return True
        run.waiting = Trouble(why.reason, why.message)
        await asyncio.sleep(NAP)
    return False


async def _once(run: Run, query: str) -> tuple[Asked | None, str]:
    """(what came of it, or None for another try, and why)."""
    run.in_flight += 1
    try:
        answer = await _send(run, query)
    except Stalled as error:
        run.fatal = run.fatal or error
        return Asked(), error.reason
    except OperatorError as error:
        if error.reason == Shared.ServiceAnswerInvalid:  # too large, or no HTTP: another try would bring the same
            run.pace.good()
            return Asked(failure=error.reason), error.reason
        run.pace.bad(run.clock(), error.after if isinstance(error, Transient) else 0.0)
        if error.reason == Shared.ServiceTimeout:
            run.unanswered.append(run.clock())
        return None, error.reason
    finally:
        run.in_flight -= 1
    return _judge(run, answer), f"HTTP {answer.status}"


def _judge(run: Run, answer: Answer) -> Asked | None:
    if answer.ok:
        run.answered, run.former = run.answered + 1, None
        slow = answer.seconds * 1000 > run.limits.p95_critical_milliseconds
        run.pace.slow() if slow else run.pace.good()
        run.pace.rest(run.clock(), answer.seconds * _room(run).rest)
        return Asked(answer)
    if answer.status in UNSUPPORTED and not run.answered:
        text = f"The search service does not offer {run.request.method} {run.request.path}; correct spec.request. "
        run.fatal = run.fatal or Stalled(Shared.EndpointUnsupported, text + Shared.EndpointUnsupported.next_step)
        return Asked()
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        run.pace.bad(run.clock(), answer.retry_after)
        return None
    run.pace.good()
    return Asked(failure=f"HTTP {answer.status}")


async def _send(run: Run, query: str) -> Answer:
    request = run.request
    fields: dict[str, str | int] = {request.query_field: query, "limit": request.limit}
    if request.method is Method.GET:
        return await run.service.call("GET", f"{request.path}?{urlencode(fields)}")
    return await run.service.call("POST", request.path, json=fields)


async def _turn(run: Run, pending: set[asyncio.Task[None]] | None = None) -> bool:
    """Wait until a request may be sent, which is then to be sent; False: the run has ended.

    `pending` are the queries at work, and a new one waits for their end; None: one of them is to be tried again.
    """
    while await permitted(run):
        await _look_at_pools(run)
        held = run.waiting is not None and run.waiting.reason == Reason.WaitingForPool
        if crowded(run.pools, run.limits.pool_warning if held else run.limits.pool_critical):
            run.waiting = Trouble(Reason.WaitingForPool, f"The pool is crowded. {Reason.WaitingForPool.next_step}")
            await nap(run, POOL_SECONDS)
            continue
        left = _room(run).slots - _still_there(run)
        wait = run.pace.wait(run.clock())
        run.waiting = _suffering(run, wait if left > 0 else UNANSWERED_SECONDS)
        busy = run.in_flight if pending is None else len(pending)
        if busy >= left and pending:
            await asyncio.wait(pending, timeout=NAP, return_when=asyncio.FIRST_COMPLETED)
        elif busy >= left or wait > 0:
            await asyncio.sleep(min(NAP, wait or NAP))
        else:
            run.pace.sent(run.clock())
            return True
    return False


def _still_there(run: Run) -> int:
    """How many searches that were not answered in time the service may still be busy with."""
    while run.unanswered and run.clock() - run.unanswered[0] > UNANSWERED_SECONDS:
        run.unanswered.popleft()
    return len(run.unanswered)


def _suffering(run: Run, wait: float) -> Trouble | None:
    """From the first long pause to the next good answer: the reason must not turn with every try."""
    paused = wait > POOL_SECONDS or (run.waiting is not None and run.waiting.reason == Reason.WaitingForService)
    if not (run.pace.troubles and paused):
        return None
    text = f"Searches go wrong ({run.trouble}). {Reason.WaitingForService.next_step}"
    return Trouble(Reason.WaitingForService, text)


def _room(run: Run) -> Room:
    return room(run.pacing.concurrency, run.pacing.share_percent, (pool.max or 0 for pool in run.pools))


async def _look_at_pools(run: Run) -> None:
    if run.clock() - run.pools_read_at < POOL_SECONDS:
        return
    run.pools_read_at = run.clock()
    try:
        run.pools = await run.service.pools()
    except Stalled as error:
        run.fatal = run.fatal or error
    except OperatorError:
        run.pools = ()  # not known: one request at a time, which will tell what is wrong
