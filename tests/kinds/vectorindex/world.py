"""A small world for VectorIndex: the real database and real Context pieces, no Kubernetes, and a loop to drive.

`Driven` is one object: its passes look, decide and act as the runtime's do, without writing anything to an API.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from vectorops.clients.postgres import Databases
from vectorops.errors import OperatorError
from vectorops.kinds.vectorindex import KIND
from vectorops.kinds.vectorindex.observe import Observer
from vectorops.kinds.vectorindex.resource import VectorIndexSpec, VectorIndexStatus
from vectorops.runtime import conditions
from vectorops.runtime.context import Context, utc_now
from vectorops.runtime.kind import Condition, Subject, Verdict, View
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work


class Secrets:
    """One Secret: the connection URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def value(self, namespace: str, name: str, key: str, purpose: str) -> SecretStr:
        return SecretStr(self.url)

    def forget(self, namespace: str, name: str) -> None:
        """Nothing is kept."""


@dataclass
class Cluster:
    """The VectorIndex objects that exist, by namespace/name -> uid."""

    objects: dict[str, str] = field(default_factory=dict)

    async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        uid = self.objects.get(f"{namespace}/{name}")
        return {"metadata": {"uid": uid}} if uid is not None else None


class Process:
    """One operator process: its connections, its work, its memory of canaries."""

    def __init__(self, url: str, cluster: Cluster | None = None, period: int = 5) -> None:
        self.cluster = cluster or Cluster()
        self.databases = Databases()
        self.wakes = asyncio.Event()
        secrets: Any = Secrets(url)
        kubernetes: Any = self.cluster
        stores = Stores(kubernetes, secrets, self.databases)
        spec = {"database": {"connectionSecretRef": {"name": "db", "key": "url"}}, "healthCheckPeriodSeconds": period}
        for namespace in ("shop", "other"):
            stores.seen(namespace, "shop", {"metadata": {"uid": "store", "generation": 1}, "spec": spec})
        unused: Any = None
        work = Work(lambda uid: self.wakes.set())
        self.ctx = Context(kubernetes, secrets, self.databases, unused, stores, work)
        self.observe = Observer().observe

    async def stop(self) -> None:
        """A graceful stop."""
        await self.ctx.work.stop(grace=10.0)
        await self.databases.close()

    async def vanish(self) -> None:
        """What kill -9 does to the server's side: every connection is cut, no statement is cancelled."""
        for job in self.ctx.work.running():
            detach = job.detach
            if detach is not None:
                detach()
        await self.stop()


@dataclass
class Driven:
    """One VectorIndex, as the runtime would follow it."""

    process: Process
    spec: VectorIndexSpec
    subject: Subject
    status: VectorIndexStatus = field(default_factory=VectorIndexStatus)
    verdict: Verdict | None = None
    conditions: tuple[Condition, ...] = ()
    reasons: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    released: bool = False

    @classmethod
    def create(cls, process: Process, name: str = "products", namespace: str = "shop", **fields: Any) -> Driven:
        body = {
            "storeRef": {"name": "shop"}, "table": "products", "column": "embedding", "metric": "Cosine",
            "hnsw": {"m": 8, "efConstruction": 32},
        } | fields  # fmt: skip
        uid = str(uuid.uuid4())
        process.cluster.objects[f"{namespace}/{name}"] = uid
        spec = VectorIndexSpec.model_validate({k: v for k, v in body.items() if v is not None})
        return cls(process, spec, Subject("VectorIndex", namespace, name, uid, 1, utc_now()))

    def edit(self, **fields: Any) -> None:
        """A new generation of the spec."""
        body = self.spec.model_dump(by_alias=True, mode="json", exclude_none=True) | fields
        self.spec = VectorIndexSpec.model_validate(body)
        self.subject = replace(self.subject, generation=self.subject.generation + 1)

    def moved_to(self, process: Process) -> Driven:
        """The same object, followed by another process."""
        self.process = process
        return self

    def delete(self) -> None:
        """kubectl delete."""
        self.subject = replace(self.subject, deleting_since=utc_now())

    async def look(self) -> Verdict:
        """Observe and plan, and write the status down."""
        ctx = self.process.ctx
        try:
            self.observed = await self.process.observe(ctx, self.subject, self.spec, self.status)
        except OperatorError as error:
            self.verdict = conditions.from_error(error)
            self.note()
            return self.verdict
        view = View(self.subject, self.spec, self.observed, self.status, ctx.clock())
        self.verdict = KIND.decide(view)
        holds = KIND.holds(view) or (self.verdict.action is not None and self.verdict.action.leaves)
        if self.subject.deleting_since is None:
            self.subject = replace(self.subject, has_finalizer=holds)
        elif not holds:
            self.released = True
        self.conditions = KIND.conditions(view)
        stated = [*conditions.from_verdict(self.verdict, KIND.family), *self.conditions]
        merged = conditions.merge([], stated, self.subject.generation, view.now)
        figures = KIND.figures(view).model_dump(by_alias=True, mode="json")
        self.status = VectorIndexStatus.model_validate(figures | {"conditions": merged})
        self.note()
        return self.verdict

    def note(self) -> None:
        assert self.verdict is not None
        reason = str(self.verdict.reason)
        if not self.reasons or self.reasons[-1] != reason:
            self.reasons.append(reason)

    async def one_pass(self, but: str = "") -> None:
        """One pass; an error of the act is what Ready says. The action `but` is not taken."""
        verdict = await self.look()
        if but and type(verdict.action).__name__ == but:
            return
        if verdict.action is None or self.released:
            self.process.wakes.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wakes.wait(), min(verdict.look_again, 0.2))
            return
        self.actions.append(type(verdict.action).__name__)
        try:
            await KIND.act(self.process.ctx, self.subject, self.spec, self.observed, verdict.action)
        except OperatorError as error:
            self.verdict = conditions.from_error(error)
            self.note()
            await asyncio.sleep(0.2)

    async def until(self, *reasons: str, seconds: float = 60.0) -> Verdict:
        """Passes until Ready has one of these reasons."""
        return await self.when(lambda: str(self.verdict and self.verdict.reason) in reasons, str(reasons), seconds)

    async def when(
        self, condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, seconds: float = 60.0
    ) -> Verdict:
        """Passes until the condition holds."""
        async with asyncio.timeout(seconds):
            while True:
                await self.one_pass()
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    assert self.verdict is not None
                    return self.verdict

    async def ready(self, seconds: float = 60.0) -> Verdict:
        """Passes until it is settled and Ready."""
        return await self.until("IndexReady", seconds=seconds)

    async def gone(self, seconds: float = 60.0) -> None:
        """Passes until the deletion is through."""
        await self.when(lambda: self.released, "released", seconds)
        self.process.cluster.objects.pop(f"{self.subject.namespace}/{self.subject.name}", None)

    def condition(self, name: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == name), None)
