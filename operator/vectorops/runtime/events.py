"""Events of events.k8s.io/v1, so that `kubectl describe` tells the story.

The same word about the same object within ten minutes is counted, not repeated: one event whose series grows, written
at most once a minute. A failure to record is a metric, never an error: events are for people, not for correctness.
"""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from vectorops import metrics
from vectorops.errors import OperatorError
from vectorops.runtime.api import API_VERSION, GROUP
from vectorops.runtime.kind import Event, Subject

if TYPE_CHECKING:
    from vectorops.runtime.context import Context

logger = logging.getLogger(__name__)

SERIES_WINDOW = timedelta(minutes=10)
SERIES_PERIOD = timedelta(minutes=1)
REMEMBERED = 4096  # (object, reason, note) of the recent past; older ones start a new event
NOTE_LIMIT = 1024  # bytes, the API's bound


Write = Callable[["Context", Subject, Event], Awaitable[bool]]


@dataclass
class _Series:
    name: str
    count: int
    first: datetime
    told: datetime


class Recorder:
    """Writes events, deduplicated over this process's life."""

    def __init__(self) -> None:
        self._recent: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._instance = socket.gethostname()[:128]

    async def record(self, ctx: Context, subject: Subject, event: Event) -> bool:
        """Write the event, or count it where the same was said just now. False: it could not be told there."""
        return await self._try(ctx, subject, event, self._record)

    async def record_apart(self, ctx: Context, subject: Subject, event: Event) -> bool:
        """Write the event where it outlives the object's namespace: in the operator's own, about the operator."""
        return await self._try(ctx, subject, event, self._record_apart)

    async def _try(self, ctx: Context, subject: Subject, event: Event, write: Write) -> bool:
        try:
            told = await write(ctx, subject, event)
            metrics.event_recorded(subject.kind, event.reason)
        except OperatorError as error:
            metrics.failed(subject.kind, error.reason)
            logger.warning(
                "event %s of %s/%s was not recorded: %s", event.reason, subject.namespace, subject.name, error
            )
            return False
        return told

    async def _record_apart(self, ctx: Context, subject: Subject, event: Event) -> bool:
        body = self._body(subject, event, ctx.clock())
        about = {"apiVersion": "v1", "kind": "Pod", "namespace": ctx.own_namespace, "name": self._instance}
        name = {"generateName": f"{self._instance[:200]}-", "namespace": ctx.own_namespace}
        body |= {"metadata": name, "regarding": about, "related": body["regarding"]}
        return bool(await ctx.kubernetes.create_event(ctx.own_namespace, body))

    async def _record(self, ctx: Context, subject: Subject, event: Event) -> bool:
        now = ctx.clock()
        key = (subject.uid, event.reason, event.message)
        series = self._recent.get(key)
        if series is None or now - series.first > SERIES_WINDOW:
            name = await ctx.kubernetes.create_event(subject.namespace, self._body(subject, event, now))
            if not name:  # the namespace ends: nothing can be told there
                return False
            self._recent[key] = _Series(name, 1, now, now)
            self._recent.move_to_end(key)
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
            return True
        series.count += 1
        if now - series.told >= SERIES_PERIOD:
            series.told = now
            grown = {"series": {"count": series.count, "lastObservedTime": micro(now)}}
            return await ctx.kubernetes.patch_event(subject.namespace, series.name, grown)
        return True

    def _body(self, subject: Subject, event: Event, now: datetime) -> dict[str, object]:
        note = event.message.encode()[:NOTE_LIMIT].decode(errors="ignore")
        regarding = {
            "apiVersion": API_VERSION,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        }
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{subject.name[:200]}-", "namespace": subject.namespace},
            "eventTime": micro(now),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._instance,
            "action": event.reason,
            "reason": event.reason,
            "type": "Warning" if event.warning else "Normal",
            "note": note,
            "regarding": regarding,
        }


def micro(moment: datetime) -> str:
    """metav1.MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
