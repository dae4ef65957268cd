"""The endpoints, as a reader of the runbook expects them."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stand.embed import vector_literal
from stand.service.cache import Cache, key_of
from stand.service.embedding import EmbeddingFailed, Embeddings
from stand.service.jobs import Jobs
from stand.service.metrics import Metrics
from stand.service.pool import Pool
from stand.service.settings import Settings
from stand.service.tuning import tune

MOST_CHARACTERS = 8192
MOST_RESULTS = 100
NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what Postgres keeps in no text
OPEN_PATHS = frozenset({"/api/health"})  # a probe has no token

SEARCH = "SELECT id, title, similarity FROM find_similar_products($1::text::vector, $2, $3, NULL, NULL, NULL)"
LOG = "INSERT INTO searches (query, results_count) VALUES ($1, $2)"
COVERAGE = "SELECT count(*) AS total, count(embedding) AS embedded FROM products"
MISSING = "SELECT id, title FROM products WHERE embedding IS NULL ORDER BY id LIMIT $1"
INDEXED = "SELECT bool_and(i.indisvalid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = 'products'::regclass AND a.amname IN ('hnsw', 'ivfflat')"


class Refused(Exception):
    """What the caller must mend."""


class Service:
    """One replica."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before `started`."""
        self.settings, self.metrics = settings, Metrics()
        self.embeddings = Embeddings(settings, self.metrics)
        self.pool: Pool
        self.cache: Cache
        self.jobs: Jobs

    @contextlib.asynccontextmanager
    async def started(self, app: Starlette) -> AsyncIterator[None]:
        """Open the pool, make the cache's table, take jobs; all of it ends with the process."""
        settings = self.settings
        self.pool = await Pool.open(
            settings.database_url.get_secret_value(), settings.vector_pool_max, settings.patience_seconds
        )
        self.cache = Cache(self.pool, settings.cache_ttl_seconds, settings.cache_max_entries)
        await self.cache.prepare()
        self.jobs = Jobs(self.pool, self.embeddings)
        self.jobs.start()
        try:
            yield
        finally:
            await self.jobs.stop()
            await self.embeddings.close()
            await self.pool.close()

    # -- search -----------------------------------------------------------------------------------------------

    async def search(self, request: Request) -> Response:
        """POST /api/vectors/search."""
        began = time.perf_counter()
        with self.metrics.duration.time():
            try:
                body = await _body(request)
                found, level = await self._search(_text(body, "query"), _whole(body, "limit", 10, MOST_RESULTS))
                if not request.headers.get("user-agent", "").startswith("vectorops"):  # nobody searched for it
                    await self._log(_text(body, "query"), len(found))
            except Exception:
                self.metrics.searches.labels("error").inc()
                raise
        self.metrics.searches.labels("ok").inc()
        took = round((time.perf_counter() - began) * 1000, 2)
        return JSONResponse({"results": found, "cached": level, "tookMilliseconds": took})

    async def _search(self, query: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        key = key_of(query, limit)
        level, found = await self.cache.get(key)
        if level is None:
            vector = await self.embeddings.query(query)  # no connection is held while the provider thinks
            async with self.pool.connection() as held:
                rows = await held.fetch(SEARCH, vector_literal(vector), self.settings.similarity, limit)
            found = [{"id": r["id"], "title": r["title"], "similarity": round(r["similarity"], 4)} for r in rows]
            await self.cache.put(key, found)
        return found, level

    async def _log(self, query: str, results: int) -> None:
        async with self.pool.connection() as held:
            await held.execute(LOG, query, results)

    async def embed(self, request: Request) -> Response:
        """POST /api/vectors/embed."""
        vector = (await self.embeddings.passages([_text(await _body(request), "text")]))[0]
        return JSONResponse({"embedding": vector, "dimensions": len(vector)})

    # -- coverage and jobs ------------------------------------------------------------------------------------

    async def status(self, request: Request) -> Response:
        """GET /api/vectors/status."""
        async with self.pool.connection() as held:
            row = await held.fetchrow(COVERAGE)
        assert row is not None, "an aggregate always has a row"
        total, embedded = row["total"], row["embedded"]
        share = {"coverage": round(embedded / total, 4)} if total else {}
        return JSONResponse({**share, "total": total, "embedded": embedded, "missing": total - embedded})

    async def missing(self, request: Request) -> Response:
        """GET /api/vectors/products/missing."""
        limit = _whole(dict(request.query_params), "limit", 100, MOST_RESULTS)
        async with self.pool.connection() as held:
            row, rows = await held.fetchrow(COVERAGE), await held.fetch(MISSING, limit)
        assert row is not None, "an aggregate always has a row"
        return JSONResponse({"count": row["total"] - row["embedded"], "products": [dict(one) for one in rows]})

    async def backfill(self, request: Request) -> Response:
        """POST /api/vectors/backfill and /api/embeddings/jobs/backfill."""
        body = await _body(request)
        limit = _whole(body, "limit", 0, 10**9) or None
        job = self.jobs.ask(limit, _whole(body, "batchSize", 50, 10**6), force=body.get("force") is True)
        return JSONResponse({"jobId": job}, status_code=202)

    async def job_status(self, request: Request) -> Response:
        """GET /api/embeddings/jobs/status."""
        return JSONResponse(self.jobs.status())

    # -- health, cache, pool, metrics -------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """GET /api/health and /api/vector-monitoring/health; 503 while the pool does not work."""
        pool = self.pool.health()
        try:
            async with self.pool.connection() as held:
                valid = await held.fetchval(INDEXED)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return JSONResponse({"status": "unhealthy", "poolHealth": "critical"}, status_code=503)
        index = {True: "ok", False: "invalid", None: "missing"}[valid]
        word = "healthy" if pool == "healthy" else "degraded"
        pool_word = "ok" if pool == "healthy" else pool
        return JSONResponse({"status": word, "indexHealth": index, "cacheHealth": "ok", "poolHealth": pool_word})

    async def cache_stats(self, request: Request) -> Response:
        """GET /api/performance/cache/stats."""
        return JSONResponse(await self.cache.stats())

    async def invalidate(self, request: Request) -> Response:
        """POST /api/performance/cache/invalidate."""
        return JSONResponse({"removed": await self.cache.invalidate()})

    async def clean_up(self, request: Request) -> Response:
        """POST /api/performance/cache/cleanup."""
        return JSONResponse({"removed": await self.cache.clean_up()})

    async def pool_health(self, request: Request) -> Response:
        """GET /api/performance/pool/health."""
        return JSONResponse({"status": self.pool.health()})

    async def pool_stats(self, request: Request) -> Response:
        """GET /api/performance/pool/stats."""
        return JSONResponse(self.pool.stats())

    async def tune(self, request: Request) -> Response:
        """POST /api/performance/tune-ef-search."""
        body = await _body(request)
        low, high = _whole(body, "minEfSearch", 40, 1000), _whole(body, "maxEfSearch", 200, 1000)
        step = _whole(body, "step", 20, 1000)
        if not 1 <= low <= high or step < 1:
            raise Refused("minEfSearch must be at least 1 and at most maxEfSearch, step at least 1")
        async with self.pool.connection() as held:
            return JSONResponse(await tune(held, low, high, step))

    async def exposition(self, request: Request) -> Response:
        """GET /api/vector-monitoring/metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    # -- errors -----------------------------------------------------------------------------------------------

    def answering(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint behind the token, with its errors counted by type and told as JSON."""

        async def answer(request: Request) -> Response:
            if not self._may(request):
                return JSONResponse({"error": "a valid bearer token is needed"}, status_code=401)
            try:
                return await endpoint(request)
            except Refused as error:
                return self._failed("validation", str(error), 400)
            except EmbeddingFailed:
                return self._failed("embedding", "the embedding provider did not answer", 502)
            except TimeoutError:
                return self._failed("pool", "no connection was free in time", 503)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return self._failed("database", "the database did not answer", 503)

        return answer

    def _may(self, request: Request) -> bool:
        token = self.settings.api_token
        if token is None or request.url.path in OPEN_PATHS:
            return True
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {token.get_secret_value()}".encode())

    def _failed(self, kind: str, message: str, status: int) -> Response:
        self.metrics.errors.labels(kind).inc()
        return JSONResponse({"error": message}, status_code=status)


def make_app(settings: Settings) -> Starlette:
    """The application of one replica."""
    s = Service(settings)
    routes = [
        ("GET", "/api/health", s.health),
        ("GET", "/api/vector-monitoring/health", s.health),
        ("GET", "/api/vector-monitoring/metrics", s.exposition),
        ("GET", "/api/vectors/status", s.status),
        ("GET", "/api/vectors/products/missing", s.missing),
        ("POST", "/api/vectors/search", s.search),
        ("POST", "/api/vectors/embed", s.embed),
        ("POST", "/api/vectors/backfill", s.backfill),
        ("POST", "/api/embeddings/jobs/backfill", s.backfill),
        ("GET", "/api/embeddings/jobs/status", s.job_status),
        ("GET", "/api/performance/cache/stats", s.cache_stats),
        ("POST", "/api/performance/cache/invalidate", s.invalidate),
        ("POST", "/api/performance/cache/cleanup", s.clean_up),
        ("GET", "/api/performance/pool/health", s.pool_health),
        ("GET", "/api/performance/pool/stats", s.pool_stats),
        ("POST", "/api/performance/tune-ef-search", s.tune),
    ]
    made = [Route(path, s.answering(endpoint), methods=[method]) for method, path, endpoint in routes]
    return Starlette(routes=made, lifespan=s.started)


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        raise Refused("the body is no JSON") from None
    if not isinstance(body, dict):
        raise Refused("the body is no JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    text = body.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > MOST_CHARACTERS or NO_TEXT.search(text):
        raise Refused(f"{name} must be a text of 1 to {MOST_CHARACTERS} characters")
    return text


def _whole(body: dict[str, Any], name: str, default: int, most: int) -> int:
    try:
        value = int(body.get(name, default))
    except (TypeError, ValueError, OverflowError):
        raise Refused(f"{name} must be a whole number") from None
    if not 0 <= value <= most:
        raise Refused(f"{name} must be from 0 to {most}")
    return value
