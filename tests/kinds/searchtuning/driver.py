"""A tuning driven as the runtime drives it, against a real Postgres, and an HTTP service that answers as told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import asyncpg
import numpy as np

from vectorops.clients.embeddings import Embedders
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.kinds.searchtuning import KIND
from vectorops.kinds.searchtuning.resource import Spec, Status
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject, Verdict, View
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work

from ..embeddingbackfill.driver import PlayedKubernetes

ROWS, DIMENSIONS = 4000, 48
BROAD = {"min": 11, "max": 400}
UID = "6f1d0c7e-0000-4000-8000-000000000003"


class TuningService:
    """A search service that answers the runbook's endpoint with what it is told to."""

    def __init__(self) -> None:
        self.status, self.answer = 200, {"results": []}
        self.asked: list[Any] = []
        service = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                service.asked.append((self.path, json.loads(body)))
                data = json.dumps(service.answer).encode()
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Kubernetes(PlayedKubernetes):
    """VectorIndex objects by name, too; and what was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.indexes: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        if plural == "vectorstores":
            return self.store_body()
        return self.indexes.get(name) if plural == "vectorindexes" else None

    async def delete(self, plural: str, namespace: str, name: str, uid: str) -> None:
        self.deleted.append(f"{plural}/{name} {uid}")


async def ask(world: World, sql: str, *args: Any) -> Any:
    """What the database answers first."""
    connection = await asyncpg.connect(world.url)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


async def fill(url: str, rows: int = ROWS) -> None:
    """A table of vectors with some structure, and an HNSW index so poor that ef_search matters."""
    random = np.random.default_rng(7)
    latent = random.normal(size=(rows, 20)) @ random.normal(size=(20, DIMENSIONS))
    vectors = latent + 0.3 * random.normal(size=(rows, DIMENSIONS))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE TABLE item (id int PRIMARY KEY, embedding vector({DIMENSIONS}))")
        await connection.executemany(
            "INSERT INTO item VALUES ($1, $2::text::vector)",
            [(n, "[" + ",".join(f"{x:.5f}" for x in vector) + "]") for n, vector in enumerate(vectors, 1)],
        )
        await connection.execute(
            "CREATE INDEX poor ON item USING hnsw (embedding vector_cosine_ops) WITH (m = 6, ef_construction = 16);"
            "ANALYZE item"
        )
    finally:
        await connection.close()


@dataclass
class World:
    """One operator process with one VectorStore named shop and a VectorIndex named items."""

    url: str
    address: str = "127.0.0.1:1"
    store: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kubernetes = Kubernetes()
        self.kubernetes.secrets = {"db": {"url": self.url}}
        kubernetes: Any = self.kubernetes
        secrets, self.databases = Secrets(kubernetes), Databases()
        self.services = SearchServices(Addresses(json.dumps({"shop/api:3000": [self.address]})))
        stores = Stores(kubernetes, secrets, self.databases, services=self.services)
        self.work, self.embedders = Work(lambda uid: None), Embedders()
        self.ctx = Context(kubernetes, secrets, self.databases, self.embedders, stores, self.work)
        self.declare(**self.store)

    def declare(self, **changes: Any) -> None:
        """Apply the VectorStore."""
        spec = {
            "database": {"connectionSecretRef": {"name": "db", "key": "url"}},
            "service": {"serviceRef": {"name": "api", "port": 3000}},
            "watchedTables": [{"table": name} for name in ("log", "nowhere", "item")],
            **changes,
        }
        body = {"metadata": {"namespace": "shop", "name": "shop", "uid": "store-uid", "generation": 1}, "spec": spec}
        self.ctx.stores.seen("shop", "shop", body)

    async def index(self, name: str = "poor", **changes: Any) -> None:
        """The VectorIndex items has that index."""
        connection = await asyncpg.connect(self.url)
        try:
            oid = await connection.fetchval("SELECT to_regclass($1)::oid", name)
        finally:
            await connection.close()
        spec = {"storeRef": {"name": "shop"}, "method": "HNSW", **changes}
        self.kubernetes.indexes["items"] = {"spec": spec, "status": {"index": {"oid": oid}}}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.work.stop(grace=5)
        await self.services.close()
        await self.embedders.close()
        await self.databases.close()

    def tuning(self, uid: str = UID, **spec: Any) -> Tuning:
        """A request."""
        return Tuning(self, {"storeRef": {"name": "shop"}, "indexRef": {"name": "items"}, **spec}, uid)


@dataclass
class Tuning:
    """One SearchTuning, with the status that was last written."""

    world: World
    spec: dict[str, Any]
    uid: str = UID
    status: Status = field(default_factory=Status)
    reasons: list[str] = field(default_factory=list)
    deleting: bool = False
    held: bool = False

    @property
    def subject(self) -> Subject:
        now = datetime.now(UTC)
        return Subject("SearchTuning", "shop", "tune", self.uid, 1, now, now if self.deleting else None)

    async def one_pass(self) -> Verdict:
        """Observe, decide, act once, and write the status."""
        spec, now = Spec.model_validate(self.spec), datetime.now(UTC)
        observed = await KIND.observe(self.world.ctx, self.subject, spec, self.status)
        view = View(self.subject, spec, observed, self.status, now)
        verdict, figures, self.held = KIND.decide(view), KIND.figures(view), KIND.holds(view)
        merged = conditions.merge([], conditions.from_verdict(verdict, KIND.family), 1, now)
        written = {**figures.model_dump(by_alias=True, mode="json"), "conditions": merged}
        self.status = Status.model_validate_json(json.dumps(written, default=str))  # as the API server keeps it
        if str(verdict.reason) not in self.reasons[-1:]:
            self.reasons.append(str(verdict.reason))
        if verdict.action is not None:
            await KIND.act(self.world.ctx, self.subject, spec, observed, verdict.action)
        return verdict

    async def until(self, reached: Callable[[Verdict], bool], timeout: float = 60.0) -> Verdict:
        """Pass after pass until the verdict is as wanted."""
        deadline = time.monotonic() + timeout
        while True:
            verdict = await self.one_pass()
            if reached(verdict):
                return verdict
            assert time.monotonic() < deadline, f"still {verdict.reason}: {verdict.message} after {self.reasons}"
            await asyncio.sleep(0.02)

    async def to_end(self, timeout: float = 60.0) -> Verdict:
        """Until Complete or Failed."""
        return await self.until(lambda verdict: verdict.complete or verdict.failed, timeout)
