"""Runner Service: the runbook's endpoint tunes, and its answer is read with the same eyes.

The service's figures carry no bound, so none is shown; the choice is the cheapest value whose recall is at least the
target, whatever the service itself recommends.
"""

from __future__ import annotations

import math
from typing import Any

from vectorops.errors import Reason as Shared
from vectorops.errors import Stalled, Transient
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Point
from vectorops.kinds.searchtuning.run import Run

PATH = "/api/performance/tune-ef-search"
ANSWER_SECONDS = 900.0  # the service searches exactly, query by query, before it answers
UNSUPPORTED = (404, 405, 501)


async def ask_service(run: Run) -> None:
    """Ask once. Raises Stalled (EndpointUnsupported, ServiceAnswerUnusable), Transient, and Waiting while cut off."""
    assert run.service is not None, "act saw to it"
    run.step = Reason.AskingService
    run.may_spend()
    wanted = run.spec.range
    body = {"minEfSearch": wanted.min, "maxEfSearch": wanted.max, "step": wanted.step}
    answer = await run.service.call("POST", PATH, json=body, timeout=ANSWER_SECONDS)
    if answer.status in UNSUPPORTED:
        raise Stalled(Shared.EndpointUnsupported, f"The service has no {PATH}. {Shared.EndpointUnsupported.next_step}")
    if answer.status != 200:
        text = f"The service answered {PATH} with {answer.status}. {Shared.ServiceUnavailable.next_step}"
        raise Transient(Shared.ServiceUnavailable, text)
    points = points_of(answer.body)
    if not points:
        raise Stalled(Reason.ServiceAnswerUnusable, Reason.ServiceAnswerUnusable.next_step)
    target = run.spec.recall_target_percent
    chosen = next((point for point in points if point.recall_percent >= target), None)
    run.note(curve=points, chosen=chosen, declared=run.declared, queries=0)


def points_of(body: Any) -> tuple[Point, ...]:
    """`results` of the answer, smallest value first; what is no result is left. recall: a fraction, 0..1."""
    listed = body.get("results") if isinstance(body, dict) else None
    points = {}
    for one in listed if isinstance(listed, list) else ():
        point = _point(one)
        if point is not None:
            points[point.ef_search] = point
    return tuple(points[value] for value in sorted(points))[:64]


def _point(one: Any) -> Point | None:
    if not isinstance(one, dict):
        return None
    value, recall, p95 = one.get("efSearch"), one.get("recall"), one.get("p95Milliseconds")
    numbers = [n for n in (value, recall, p95) if isinstance(n, int | float) and not isinstance(n, bool)]
    if len(numbers) != 3 or not all(math.isfinite(n) for n in numbers):
        return None
    if not (1 <= numbers[0] <= 1000 and 0 <= numbers[1] <= 1 and 0 <= numbers[2] <= 1e9):
        return None
    return Point(
        ef_search=int(numbers[0]),
        recall_percent=int(100 * numbers[1] + 1e-9),
        p95_milliseconds=math.ceil(numbers[2]),
    )
