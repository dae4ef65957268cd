"""A backfill driven as the runtime drives it: observe, decide, act, write the status; real database, real provider.

Only Kubernetes is played: a Secret and a VectorStore are handed out from memory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg
import numpy as np

from stand.provider import vector_for
from stand.world import purpose_of
from vectorops.clients.embeddings import Embedders
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.kinds.embeddingbackfill import KIND
from vectorops.kinds.embeddingbackfill.observation import Observation
from vectorops.kinds.embeddingbackfill.resource import Spec, Status
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject, Verdict, View
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work

DIMENSIONS = 384
ROWS = 200  # of products


async def wrong_rows(
    db: asyncpg.Connection[Any], text: str = "title || E'\\n\\n' || description", table: str = "products"
) -> list[str]:
    """Texts whose vector is not the one the provider has for them."""
    rows = await db.fetch(f"SELECT {text} AS text, embedding FROM {table} WHERE embedding IS NOT NULL")
    return [
        r["text"]
        for r in rows
        if not np.array_equal(np.asarray(r["embedding"].to_numpy()), vector_for(r["text"], DIMENSIONS))
    ]


async def missing(db: asyncpg.Connection[Any], table: str = "products") -> int:
    """Rows without an embedding."""
    count: int = await db.fetchval(f"SELECT count(*) FROM {table} WHERE embedding IS NULL")
    return count


class PlayedKubernetes:
    """Secrets by name, from memory; no store is asked for, the watch has delivered it."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, str]] = {}
        self.backfills: list[dict[str, Any]] = []  # EmbeddingBackfill objects, for those who ask for all
        self.coverage: dict[str, int] = {}  # percent by table, as the VectorStore's status says
        self.deleted: list[str] = []

    def store_body(self) -> dict[str, Any]:
        """The VectorStore, for those who read its status."""
        tables = [{"name": name, "embeddableCoveragePercent": percent} for name, percent in self.coverage.items()]
        return {"status": {"observed": {"tables": tables}}}

    async def list(self, plural: str, namespace: str, metadata_only: bool = True) -> dict[str, Any]:
        return {"items": self.backfills if plural == "embeddingbackfills" and not metadata_only else []}

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        values = self.secrets.get(name)
        if values is None:
            return None
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return {"metadata": {"labels": {"vectorops.dev/for": purpose_of(values)}}, "data": data}

    async def get(self, plural: str, namespace: str, name: str) -> None:
        return None

    async def delete(self, plural: str, namespace: str, name: str, uid: str) -> None:
        self.deleted.append(f"{plural}/{name} {uid}")


@dataclass
class World:
    """One operator process with one VectorStore named shop."""

    url: str
    base_url: str
    api_key: str
    table: dict[str, Any] = field(
        default_factory=lambda: {"table": "products", "textTemplate": "{title}\n\n{description}"}
    )
    embeddings: dict[str, Any] = field(default_factory=dict)
    suspended: bool = False
    timeout: float = 20.0
    service: str = ""  # address of the search service; '' names none
    ahead: timedelta = timedelta()  # of the wall clock: what plans take for now

    def __post_init__(self) -> None:
        self.kubernetes = PlayedKubernetes()
        self.kubernetes.secrets = {"db": {"url": self.url}, "ai": {"key": self.api_key, "url": self.base_url}}
        secrets = Secrets(self.kubernetes)
        self.databases = Databases()
        self.woken: dict[str, asyncio.Event] = {}
        kubernetes: Any = self.kubernetes
        self.services = SearchServices(Addresses(json.dumps({"shop/api:3000": [self.service]} if self.service else {})))
        stores = Stores(kubernetes, secrets, self.databases, services=self.services)
        self.embedders = Embedders(timeout=self.timeout)
        self.work = Work(lambda uid: self.woken.setdefault(uid, asyncio.Event()).set())
        self.ctx = Context(kubernetes, secrets, self.databases, self.embedders, stores, self.work)
        self.declare()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.work.stop(grace=20)
        await self.embedders.close()
        await self.services.close()
        await self.databases.close()

    def declare(self) -> None:
        """Apply the VectorStore as it stands in the fields."""
        ai = {"name": "ai"}
        embeddings = {
            "model": "text-embedding-3-small", "dimensions": DIMENSIONS, "priceUSDPerMillionTokens": "0.02",
            "apiKeySecretRef": {**ai, "key": "key"}, "baseURLSecretRef": {**ai, "key": "url"}, **self.embeddings,
        }  # fmt: skip
        spec = {
            "database": {"connectionSecretRef": {"name": "db", "key": "url"}},
            "embeddings": embeddings,
            "tables": [{"name": "products", **self.table}],
            "suspend": self.suspended,
            "healthCheckPeriodSeconds": 5,
        }
        if self.service:
            spec["service"] = {"serviceRef": {"name": "api", "port": 3000}}
        body = {"metadata": {"namespace": "shop", "name": "shop", "uid": "store-uid", "generation": 1}, "spec": spec}
        self.ctx.stores.seen("shop", "shop", body)

    def state_limits(self) -> None:
        """Limits that nobody meets: with them the first request need not be alone."""
        self.embeddings["rateLimits"] = {"requestsPerMinute": 1_000_000, "tokensPerMinute": 1_000_000_000}
        self.declare()

    def rotate_key(self, key: str) -> None:
        """Another key in the Secret, as seen at the next read."""
        self.kubernetes.secrets["ai"]["key"] = key
        self.ctx.secrets.forget("shop", "ai")

    def backfill(self, **spec: Any) -> Backfill:
        """A request named products."""
        return Backfill(self, {"storeRef": {"name": "shop"}, "tableName": "products", **spec})


@dataclass
class Backfill:
    """One EmbeddingBackfill, with the status that was last written."""

    world: World
    spec: dict[str, Any]
    uid: str = "6f1d0c7e-0000-4000-8000-000000000001"
    status: Status = field(default_factory=Status)
    verdict: Verdict | None = None
    reasons: list[str] = field(default_factory=list)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    annotations: dict[str, str] = field(default_factory=dict)

    async def one_pass(self) -> Verdict:
        """Observe, decide, act once, and write the status."""
        ctx, now = self.world.ctx, datetime.now(UTC) + self.world.ahead
        subject = Subject(
            "EmbeddingBackfill", "shop", "products", self.uid, 1, self.created, annotations=self.annotations
        )
        spec = Spec.model_validate(self.spec)
        observed = await KIND.observe(ctx, subject, spec, self.status)
        view = View(subject, spec, observed, self.status, now)
        self.verdict = KIND.decide(view)
        figures = KIND.figures(view)
        if self.verdict.action is not None:
            await KIND.act(ctx, subject, spec, observed, self.verdict.action)
        stated = conditions.from_verdict(self.verdict, KIND.family)
        merged = conditions.merge([], stated, 1, now)
        self.status = Status.model_validate({**figures.model_dump(by_alias=True), "conditions": merged})
        if str(self.verdict.reason) not in self.reasons[-1:]:
            self.reasons.append(str(self.verdict.reason))
        return self.verdict

    async def look(self) -> Observation:
        """What it sees now."""
        subject = Subject("EmbeddingBackfill", "shop", "products", self.uid, 1, datetime.now(UTC))
        observed = await KIND.observe(self.world.ctx, subject, Spec.model_validate(self.spec), self.status)
        assert isinstance(observed, Observation)
        return observed

    async def until(self, reached: Callable[[Verdict], bool], timeout: float = 60.0) -> Verdict:
        """Pass after pass until the verdict is as wanted."""
        deadline = time.monotonic() + timeout
        while True:
            verdict = await self.one_pass()
            if reached(verdict) and not (verdict.action is not None and verdict.complete):
                return verdict
            assert time.monotonic() < deadline, f"still {verdict.reason}: {verdict.message} after {self.reasons}"
            woken = self.world.woken.setdefault(self.uid, asyncio.Event())
            try:
                await asyncio.wait_for(woken.wait(), 0.1)
            except TimeoutError:
                continue
            woken.clear()

    async def until_reason(self, reason: str, timeout: float = 60.0) -> Verdict:
        """Pass after pass until Ready has that reason."""
        return await self.until(lambda verdict: str(verdict.reason) == reason, timeout)

    async def until_idle(self, timeout: float = 30.0) -> None:
        """Until the work of this process has ended."""
        job = self.world.work.find(self.uid)
        if job is not None and job.task is not None:
            await asyncio.wait({job.task}, timeout=timeout)

    def change(self, **spec: Any) -> None:
        """Edit the spec."""
        self.spec = {**self.spec, **spec}

    def created_again(self) -> Backfill:
        """The same spec as a new object, without memory."""
        uid = "6f1d0c7e-0000-4000-8000-000000000002"
        return replace(self, uid=uid, status=Status(), reasons=[], created=datetime.now(UTC))
