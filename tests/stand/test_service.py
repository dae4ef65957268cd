"""The stand's search service answers as a reader of the runbook expects, on a real Postgres, also in trouble."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stand.service import SearchServiceProcess
from stand.service.cache import WINDOW_SECONDS, Cache

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = pytest.mark.real

Start = Callable[..., "Api"]


class Api:
    """One replica, asked over HTTP."""

    def __init__(self, process: SearchServiceProcess) -> None:
        self.process = process
        self.http = httpx2.Client(base_url=f"http://{process.address}", timeout=60, trust_env=False)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, body: Any = None) -> httpx2.Response:
        return self.http.post(path, content=json.dumps(body))  # httpx2 itself takes no half of a surrogate pair

    def search(self, query: str) -> dict[str, Any]:
        answer = self.post("/api/vectors/search", {"query": query, "limit": 5})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(self.get("/api/vector-monitoring/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0


@pytest.fixture
def start(shop: Shop, provider: Provider, tmp_path: Path) -> Iterator[Start]:
    provider.reset()
    running: list[SearchServiceProcess] = []

    def begin(**env: str) -> Api:
        one = SearchServiceProcess(
            tmp_path / f"api-{len(running)}",
            database_url=shop.api_dsn,
            embeddings_base_url=provider.base_url,
            embeddings_api_key=provider.api_key,
            env={"SIMILARITY": "-1", **env},
        )
        running.append(one)
        one.start()
        return Api(one)

    yield begin
    for one in running:
        one.stop()


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    wait, turns = threading.Event(), int(seconds / 0.05)
    assert any(seen() or wait.wait(0.05) for _ in range(turns)), "not seen in time"


def test_every_endpoint_of_the_runbook_answers_as_named(start: Start) -> None:
    api = start()
    assert api.get("/api/health").json()["status"] == "healthy"
    assert set(api.get("/api/vector-monitoring/health").json()) == {
        "status",
        "indexHealth",
        "cacheHealth",
        "poolHealth",
    }
    missing = api.get("/api/vectors/products/missing?limit=1").json()
    assert len(missing["products"]) == 1
    status = api.get("/api/vectors/status").json()
    assert (status["coverage"], status["missing"]) == (0.0, missing["count"])
    assert len(api.post("/api/vectors/embed", {"text": "a thermos"}).json()["embedding"]) == 384
    assert api.get("/api/performance/pool/health").json() == {"status": "healthy"}
    assert api.get("/api/performance/pool/stats").json()["max"] == 10
    assert "hitRate" not in api.get("/api/performance/cache/stats").json(), "nothing was looked up yet"
    assert api.get("/api/embeddings/jobs/status").json() == {"waiting": 0, "active": 0, "completed": 0, "failed": 0}


def test_its_own_backfill_embeds_what_is_missing_and_the_curve_is_told(start: Start) -> None:
    api = start()
    assert api.post("/api/vectors/backfill", {"limit": 150, "batchSize": 50}).status_code == 202
    until(lambda: api.get("/api/embeddings/jobs/status").json()["completed"] == 1)
    assert api.get("/api/vectors/status").json()["embedded"] == 150
    told = api.post("/api/performance/tune-ef-search", {"minEfSearch": 40, "maxEfSearch": 80, "step": 20}).json()
    assert [one["efSearch"] for one in told["results"]] == [40, 60, 80]
    assert told["recommended"] == 40, "without an index every search is exact"
    assert api.post("/api/performance/tune-ef-search", {"minEfSearch": 0}).status_code == 400
    assert api.search("thermos")["results"]


def test_a_job_that_the_database_refuses_is_counted_and_the_next_one_is_done(start: Start, shop: Shop) -> None:
    async def admin(statement: str) -> None:
        connection = await asyncpg.connect(shop.admin_dsn)
        await connection.execute(statement)
        await connection.close()

    api = start()
    asyncio.run(admin("REVOKE UPDATE (embedding) ON products FROM api"))
    api.post("/api/vectors/backfill", {"limit": 10})
    until(lambda: api.get("/api/embeddings/jobs/status").json()["failed"] == 1)
    asyncio.run(admin("GRANT UPDATE (embedding) ON products TO api"))
    api.post("/api/vectors/backfill", {"limit": 10})
    until(lambda: api.get("/api/embeddings/jobs/status").json()["completed"] == 1)


def test_the_cache_has_two_levels_which_expire_and_are_cleared(start: Start) -> None:
    one = start(CACHE_TTL_SECONDS="600")
    assert one.search("Rain  Jacket")["cached"] is None
    assert one.search("rain jacket")["cached"] == "l1"
    other = start(CACHE_TTL_SECONDS="0.2")
    assert other.search("rain jacket")["cached"] == "l2"
    stats = one.get("/api/performance/cache/stats").json()
    assert (stats["hits"], stats["misses"], stats["hitRate"]) == (1, 1, 0.5)
    assert other.search("sleeping bag")["cached"] is None
    until(lambda: other.post("/api/performance/cache/cleanup").json()["removed"] == 1)
    assert one.post("/api/performance/cache/invalidate").json() == {"removed": 1}
    assert one.search("rain jacket")["cached"] is None


def test_what_was_looked_up_long_ago_is_forgotten_though_nobody_asks_for_figures() -> None:
    cache = Cache(None, 600, 10)  # type: ignore[arg-type]  # the first level answers, no connection is used

    async def look() -> int:
        cache._remember("key", [], 600)
        for _ in range(5):
            await cache.get("key")
        cache._lookups[0] = (cache._lookups[0][0] - 2 * WINDOW_SECONDS, "l1")
        await cache.get("key")
        return len(cache._lookups)

    assert asyncio.run(look()) == 5


def test_a_full_pool_is_told_truthfully_and_never_exceeded(start: Start, provider: Provider, shop: Shop) -> None:
    api = start(VECTOR_POOL_MAX="2")
    watcher = start(VECTOR_POOL_MAX="2")
    assert watcher.get("/api/health").status_code == 200

    async def crowd() -> dict[str, Any]:
        holder = await asyncpg.connect(shop.admin_dsn)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE search_cache.query IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(10) as threads:
            asked = [threads.submit(api.post, "/api/vectors/search", {"query": f"query {n}"}) for n in range(10)]
            seen: dict[str, Any] = {}
            while (seen.get("active"), seen.get("waiting")) != (2, 8):
                seen = await asyncio.to_thread(lambda: api.get("/api/performance/pool/stats").json())
                assert seen["active"] <= 2
            await transaction.rollback()
            await holder.close()
            assert {one.result().status_code for one in asked} == {200}
        return seen

    seen = asyncio.run(asyncio.wait_for(crowd(), 60))
    assert (seen["max"], seen["active"], seen["utilization"]) == (2, 2, 1.0)
    assert api.get("/api/performance/pool/stats").json()["active"] == 0


@pytest.mark.parametrize(
    "body", [{}, {"query": ""}, {"query": "  "}, {"query": "x" * 8193}, {"query": 1}, [], "x", {"query": "\ud800"}]
)
def test_what_is_no_query_is_refused_and_counted(start: Start, body: Any) -> None:
    api = start()
    assert api.post("/api/vectors/search", body).status_code == 400
    assert api.metric("vector_errors_total", type="validation") == 1
    assert api.metric("vector_searches_total", status="error") == 1


def test_a_wrong_token_opens_nothing_but_the_probe(start: Start) -> None:
    api = start(API_TOKEN="right")
    assert api.get("/api/health").status_code == 200
    assert api.get("/api/performance/pool/stats").status_code == 401
    assert api.get("/api/performance/pool/stats", Authorization="Bearer wrong").status_code == 401
    assert api.get("/api/performance/pool/stats", Authorization="Bearer right").status_code == 200


def test_an_embedding_server_that_fails_is_an_error_of_its_type(start: Start, provider: Provider) -> None:
    api = start()
    provider.fail_next("Status", times=100, status=503)
    assert api.post("/api/vectors/search", {"query": "thermos"}).status_code == 502
    assert api.metric("vector_errors_total", type="embedding") == 1
    provider.reset()
    api.search("thermos")
    assert api.metric("vector_searches_total", status="ok") == 1
    assert api.metric("vector_search_duration_seconds_count") == 2
    assert api.metric("embedding_tokens_total") > 0
    assert api.metric("process_start_time_seconds") > 0


def test_sigterm_ends_it_with_exit_code_zero(start: Start) -> None:
    api = start()
    api.process.stop()
    assert api.process.exit_code == 0


async def test_a_connection_that_the_provider_closed_while_idle_costs_no_search() -> None:
    from pydantic import SecretStr

    from stand.service.embedding import Embeddings
    from stand.service.metrics import Metrics
    from stand.service.settings import Settings

    answer = b'{"data": [{"index": 0, "embedding": [1.0]}]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"}")  # the first request; the second one of this connection is not answered
        writer.write(head + answer)
        await writer.drain()
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    settings = Settings.model_construct(
        embeddings_base_url=base, embeddings_api_key=SecretStr("k"), embeddings_query_model="m", embeddings_model="m"
    )
    embeddings = Embeddings(settings, Metrics())
    try:
        assert await embeddings.query("a") == [1.0]
        assert await embeddings.query("b") == [1.0]
        assert connections == 2
    finally:
        await embeddings.close()
        server.close()
