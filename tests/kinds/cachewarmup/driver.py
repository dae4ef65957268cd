"""A warm-up driven as the runtime drives it, against a real Postgres and an HTTP service that can misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from vectorops.clients.embeddings import Embedders
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.kinds.cachewarmup import KIND
from vectorops.kinds.cachewarmup.resource import Spec, Status
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject, Verdict, View
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work

from ..embeddingbackfill.driver import PlayedKubernetes


class CachedSearch:
    """A search service in threads, with a cache, a pool of which it tells, and moods."""

    def __init__(self, *, pool: int = 5, tells: bool = True) -> None:
        """`tells`: whether answers say `cached`."""
        self.pool, self.tells = pool, tells
        self.cache: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.at: list[float] = []
        self.others = 0  # connections in use by people
        self.active = self.most_active = self.hits = self.misses = 0
        self.seconds = 0.0  # for an answer
        self.statuses: dict[str, int] = {}  # query -> status; "*": all
        self.busy_seconds = 0.0
        self.agents: set[str] = set()
        self._lock = threading.Lock()
        service = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.get(self)

            def do_POST(self) -> None:
                service.post(self)

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

    def get(self, asked: BaseHTTPRequestHandler) -> None:
        if asked.path == "/api/performance/pool/stats":
            active = self.active + self.others
            self._send(asked, 200, {"max": self.pool, "active": active, "utilization": min(1.0, active / self.pool)})
        elif asked.path == "/api/performance/cache/stats":
            looked = self.hits + self.misses
            self._send(asked, 200, {"hitRate": self.hits / looked} if looked else {})
        else:
            self._send(asked, 404, {})

    def post(self, asked: BaseHTTPRequestHandler) -> None:
        body = json.loads(asked.rfile.read(int(asked.headers.get("content-length") or 0)) or b"{}")
        if asked.path.startswith("/api/performance/cache/"):
            removed = len(self.cache)
            self.cache.clear()
            self._send(asked, 200, {"removed": removed})
            return
        self._send(asked, *self._search(str(body.get("query")), str(asked.headers.get("user-agent"))))

    def _search(self, query: str, agent: str) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.agents.add(agent)
            self.asked[query] += 1
            self.order.append(query)
            self.at.append(time.monotonic())
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        began = time.monotonic()
        time.sleep(self.seconds)
        with self._lock:
            self.active -= 1
            self.busy_seconds += time.monotonic() - began
            status = self.statuses.get(query, self.statuses.get("*", 200))
            if status != 200:
                return status, {}
            hit = query.lower() in self.cache
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
            self.cache.add(query.lower())
        return 200, {"results": [], **({"cached": hit} if self.tells else {})}

    def _send(self, asked: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        try:
            asked.send_response(status)
            asked.send_header("Content-Length", str(len(data)))
            asked.end_headers()
            asked.wfile.write(data)
        except OSError:
            pass  # whoever asked is gone


class Kubernetes(PlayedKubernetes):
    """ConfigMaps by name, too; and what was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.config_maps: dict[str, dict[str, str]] = {}
        self.deleted: list[str] = []

    async def read(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        assert resource.plural == "configmaps"
        found = self.config_maps.get(name)
        return None if found is None else {"data": found}

    async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.store_body() if plural == "vectorstores" else None

    async def delete(self, plural: str, namespace: str, name: str, uid: str) -> None:
        self.deleted.append(f"{plural}/{name} {uid}")


@dataclass
class World:
    """One operator process with one VectorStore named shop."""

    url: str
    address: str | tuple[str, ...]
    thresholds: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kubernetes = Kubernetes()
        self.kubernetes.secrets = {"db": {"url": self.url}}
        kubernetes: Any = self.kubernetes
        secrets, self.databases = Secrets(kubernetes), Databases()
        addresses = [self.address] if isinstance(self.address, str) else list(self.address)
        self.services = SearchServices(Addresses(json.dumps({"shop/api:3000": addresses})))
        stores = Stores(kubernetes, secrets, self.databases, services=self.services)
        self.work, self.embedders = Work(lambda uid: None), Embedders()
        self.ctx = Context(kubernetes, secrets, self.databases, self.embedders, stores, self.work)
        self.declare()

    def declare(self, **changes: Any) -> None:
        """Apply the VectorStore."""
        spec = {
            "database": {"connectionSecretRef": {"name": "db", "key": "url"}},
            "service": {"serviceRef": {"name": "api", "port": 3000}},
            "tables": [{"name": "products", "table": "products"}],
            "watchedTables": [{"table": name} for name in ("searches", "later", "nowhere", "endless")],
            "thresholds": self.thresholds,
            **changes,
        }
        body = {"metadata": {"namespace": "shop", "name": "shop", "uid": "store-uid", "generation": 1}, "spec": spec}
        self.ctx.stores.seen("shop", "shop", body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.work.stop(grace=5)
        await self.services.close()
        await self.embedders.close()
        await self.databases.close()

    def warmup(self, uid: str = "6f1d0c7e-0000-4000-8000-000000000002", **spec: Any) -> Warmup:
        """A request, quick unless told otherwise."""
        quick = {"requestsPerSecond": 1000, "target": {"cacheHitRatePercent": 50, "timeoutSeconds": 0}}
        return Warmup(self, {"storeRef": {"name": "shop"}, **quick, **spec}, uid)


@dataclass
class Warmup:
    """One CacheWarmup, with the status that was last written."""

    world: World
    spec: dict[str, Any]
    uid: str
    status: Status = field(default_factory=Status)
    reasons: list[str] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        return Subject("CacheWarmup", "shop", f"popular-{self.uid[-1]}", self.uid, 1, datetime.now(UTC))

    async def one_pass(self) -> Verdict:
        """Observe, decide, act once, and write the status."""
        spec, now = Spec.model_validate(self.spec), datetime.now(UTC)
        observed = await KIND.observe(self.world.ctx, self.subject, spec, self.status)
        view = View(self.subject, spec, observed, self.status, now)
        verdict, figures = KIND.decide(view), KIND.figures(view)
        if verdict.action is not None:
            await KIND.act(self.world.ctx, self.subject, spec, observed, verdict.action)
        merged = conditions.merge([], conditions.from_verdict(verdict, KIND.family), 1, now)
        written = {**figures.model_dump(by_alias=True, mode="json"), "conditions": merged}
        self.status = Status.model_validate_json(json.dumps(written, default=str))  # as the API server keeps it
        if str(verdict.reason) not in self.reasons[-1:]:
            self.reasons.append(str(verdict.reason))
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
