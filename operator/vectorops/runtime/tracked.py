"""One object as the runtime follows it, and the only writer of its status and finalizer.

What is remembered between passes (the status last written, the failures in a row) only saves writes: losing it costs
a look at the world, nothing else. Status is compared with what was last written, never with an event's body, which
may lag behind our own write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from vectorops import metrics
from vectorops.runtime import conditions
from vectorops.runtime.api import GROUP
from vectorops.runtime.context import Context
from vectorops.runtime.deletion import Undoing
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Condition, Event, Kind, Subject
from vectorops.runtime.passes.pace import Pace
from vectorops.runtime.status.outward import Waited
from vectorops.runtime.summary import write_due

FINALIZER = f"{GROUP}/cleanup"
ANNOTATIONS = f"{GROUP}/"
RUNTIME_FIELDS = {"conditions", "observed_generation", "waiting_since"}  # of a status; the others are the room's


@dataclass
class Tracked:
    """The object's identity, its latest spec, and what was last written of it."""

    kind: Kind[Any, Any, Any]
    subject: Subject
    raw_spec: dict[str, Any]
    recorder: Recorder
    progress_period: timedelta
    written: dict[str, Any] = field(default_factory=dict)
    written_at: datetime | None = None
    finalizers: list[str] = field(default_factory=list)
    resource_version: str = ""
    pace: Pace = field(default_factory=Pace)
    undoing: Undoing | None = None
    now: Callable[[], float] = time.monotonic
    pending_events: tuple[Event, ...] = ()
    gone: bool = False
    waited: Waited = field(default_factory=Waited)
    offered: dict[str, Any] | None = None

    @classmethod
    def begin(cls, kind: Kind[Any, Any, Any], body: dict[str, Any], recorder: Recorder, period: timedelta) -> Tracked:
        """Follow an object from the first sight of its body."""
        tracked = cls(kind, subject_of(kind, body), {}, recorder, period, written=dict(body.get("status") or {}))
        tracked.waited = Waited.of(tracked.written)
        tracked.offer(body)
        tracked.take()
        return tracked

    @property
    def ref(self) -> str:
        """`VectorIndex shop/products` for logs."""
        return f"{self.kind.names.kind} {self.subject.namespace}/{self.subject.name}"

    @property
    def neighbour(self) -> tuple[str, str]:
        """Whose database and services its passes talk to: a VectorStore by namespace and name, itself if it is one."""
        ref = self.raw_spec.get("storeRef")
        name = ref.get("name", "") if isinstance(ref, dict) else self.subject.name
        return self.subject.namespace, str(name)

    def offer(self, body: dict[str, Any]) -> bool:
        """Put a body ready for the next pass. True when something turned that it must see; our own writes do not."""
        if older(_version(body), self.resource_version):
            return False
        self.offered = body
        return (subject_of(self.kind, body), body.get("spec") or {}) != (self.subject, self.raw_spec)

    def take(self) -> None:
        """Take over what was offered, at the beginning of a pass: its status speaks of what it began with."""
        body, self.offered = self.offered, None
        if body is None or older(_version(body), self.resource_version):
            return
        self.resource_version = _version(body)
        self.finalizers = list(body["metadata"].get("finalizers") or [])
        self.subject = subject_of(self.kind, body)
        self.raw_spec = body.get("spec") or {}

    async def set_finalizer(self, ctx: Context, *, present: bool) -> None:
        """Add or take away our finalizer, leaving those of others; a conflict is a fresh look at the object."""
        wanted = [f for f in self.finalizers if f != FINALIZER] + ([FINALIZER] if present else [])
        s = self.subject
        body = await ctx.kubernetes.patch_metadata(
            self.kind.names.plural,
            s.namespace,
            s.name,
            s.uid,
            finalizers=wanted,
            resource_version=self.resource_version,
        )
        if body is None:
            self.gone = True
            return
        self.finalizers = wanted
        self.subject = replace(s, has_finalizer=present)
        self.resource_version = _version(body)

    async def write_status(self, ctx: Context, stated: Iterable[Condition], figures: BaseModel | None) -> None:
        """Write the status if it is worth it, and tell what turned by an event."""
        now, s = ctx.clock(), self.subject
        status = self._status(list(stated), figures, now)
        since = now - self.written_at if self.written_at else timedelta.max
        events = self.pending_events
        if not self.gone and write_due(self.written, status, since, self.progress_period):
            events += turn(self.written, status)
            body = await ctx.kubernetes.replace_status(self.kind.names.plural, s.namespace, s.name, s.uid, status)
            metrics.status_written(self.kind.names.kind)
            if body is not None:
                self.resource_version = _version(body)
            else:  # and never back: the watch may have told of the end before this was answered
                self.gone = True
            self.written, self.written_at = status, now
        if not self.gone:
            metrics.conditions(self.kind.names.kind, s.namespace, s.name, status["conditions"])
        self.pending_events = ()
        for event in events:
            await self.recorder.record(ctx, s, event)

    def _status(self, stated: list[Condition], figures: BaseModel | None, now: datetime) -> dict[str, Any]:
        former = self.written.get("conditions", [])
        if figures is None:  # the world could not be seen: the figures of the last sight stay
            own = ("conditions", "observedGeneration", "waitingSince")
            status = {k: v for k, v in self.written.items() if k not in own}
        else:
            status = figures.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=RUNTIME_FIELDS)
        if self.waited.since is not None:
            status["waitingSince"] = conditions.stamp(self.waited.since)
        status["observedGeneration"] = self.subject.generation
        status["conditions"] = conditions.merge(former, stated, self.subject.generation, now)
        return status


def subject_of(kind: Kind[Any, Any, Any], body: dict[str, Any]) -> Subject:
    """The metadata that decisions may use."""
    meta = body["metadata"]
    deleting = meta.get("deletionTimestamp")
    return Subject(
        kind=kind.names.kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        deleting_since=datetime.fromisoformat(deleting) if deleting else None,
        has_finalizer=FINALIZER in (meta.get("finalizers") or []),
        annotations={k: v for k, v in (meta.get("annotations") or {}).items() if k.startswith(ANNOTATIONS)},
    )


def _version(body: dict[str, Any]) -> str:
    return str(body["metadata"].get("resourceVersion", ""))


def older(version: str, known: str) -> bool:
    """Whether a body is older than what is known. Resource versions of one kind are ordered integers (KEP-5504)."""
    return version.isdigit() and known.isdigit() and int(version) < int(known)


def turn(former: dict[str, Any], status: dict[str, Any]) -> tuple[Event, ...]:
    """The event for a turn of Ready's reason: conditions, events and metrics use one word."""
    before = conditions.find(former.get("conditions", []), "Ready")
    ready = conditions.find(status["conditions"], "Ready")
    if ready is None or (before is not None and before["reason"] == ready["reason"]):
        return ()
    bad = any(conditions.find(status["conditions"], type_) for type_ in ("Stalled", "Blocked"))
    return (Event(ready["reason"], ready["message"], warning=bad or ready["status"] == "Unknown"),)
