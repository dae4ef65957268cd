"""The shop's database and the real embedding model: what the demo stands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector

from stand.catalogue import products
from stand.embed import embed, embed_query, vector_literal
from stand.embedding_server import DIMENSIONS, PASSAGE_MODEL, EmbeddingServer
from stand.postgres import Postgres
from stand.shop import Shop, clone_shop, create_shop, fill_noisy_copy
from stand.shop_traffic import DAYS, GARBAGE, POPULAR, searches

pytestmark = pytest.mark.real

TITLES = ("thermos", "vacuum flask", "coffee mug")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def postgres(directory: Path) -> Iterator[Postgres]:
    with Postgres(directory / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def embeddings(directory: Path) -> Iterator[EmbeddingServer]:
    with EmbeddingServer(directory) as server:
        yield server


@pytest.fixture(scope="module")
def clones() -> Iterator[list[Shop]]:
    """The one original, made by the first test that asks."""
    yield []


@pytest.fixture
async def shop(postgres: Postgres, clones: list[Shop], request: pytest.FixtureRequest) -> Shop:
    """A copy of one small shop, for this test alone."""
    if not clones:
        clones.append(await create_shop(postgres.create_database("original"), products=200, searches=2000))
    return await clone_shop(postgres, clones[0], request.node.name[:60])


@pytest.fixture
async def operator(shop: Shop) -> AsyncIterator[asyncpg.Connection]:
    """A session of the role the operator logs in as."""
    connection = await asyncpg.connect(shop.operator_dsn)
    await register_vector(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def api(shop: Shop) -> AsyncIterator[asyncpg.Connection]:
    """A session of the search service's role."""
    connection = await asyncpg.connect(shop.api_dsn)
    yield connection
    await connection.close()


async def embed_some(operator: asyncpg.Connection, server: EmbeddingServer) -> None:
    """Give a few products their embeddings, as a backfill would."""
    rows = await operator.fetch(
        "SELECT id, title || E'\\n\\n' || description AS text FROM products WHERE title = ANY($1) OR id <= 12", TITLES
    )
    vectors = await embed(server.base_url, [row["text"] for row in rows], model=PASSAGE_MODEL)
    given = [(row["id"], np.array(vector, dtype=np.float32)) for row, vector in zip(rows, vectors, strict=True)]
    await operator.executemany("UPDATE products SET embedding = $2 WHERE id = $1", given)


async def test_rows_start_without_embeddings(operator: asyncpg.Connection) -> None:
    counts = await operator.fetchrow(
        "SELECT count(*) AS all, count(embedding) AS embedded, count(DISTINCT category) AS categories FROM products"
    )
    assert counts is not None and (counts["all"], counts["embedded"]) == (200, 0) and counts["categories"] > 10
    assert await operator.fetchval("SELECT count(*) FROM searches") == 2000
    assert await operator.fetchval("SELECT count(*) FROM user_profiles") == 500


async def test_the_operator_may_do_its_work_and_is_no_superuser(operator: asyncpg.Connection, shop: Shop) -> None:
    """Schema of its own, concurrent indexes, statistics, settings of the role api, other sessions."""
    assert await operator.fetchval("SELECT NOT rolsuper FROM pg_roles WHERE rolname = current_user")
    await operator.execute("CREATE SCHEMA vectorops")
    await operator.execute("CREATE INDEX CONCURRENTLY ON products USING hnsw (embedding vector_cosine_ops)")
    await operator.execute(f'ALTER ROLE api IN DATABASE "{shop.database}" SET hnsw.ef_search = 80')
    assert await operator.fetchval("SELECT bool_and(query IS NOT NULL) FROM pg_stat_statements")
    victim = await asyncpg.connect(shop.api_dsn)
    assert await victim.fetchval("SELECT current_setting('hnsw.ef_search')") == "80"
    assert await operator.fetchval("SELECT pg_terminate_backend($1)", victim.get_server_pid())
    assert not [row for row in await operator.fetch("SELECT query FROM pg_stat_activity") if "insufficient" in row[0]]


@pytest.mark.parametrize(
    "statement", ["DELETE FROM products", "UPDATE products SET price = 1", "CREATE TABLE t ()", "DROP TABLE searches"]
)
async def test_the_api_only_reads(api: asyncpg.Connection, statement: str) -> None:
    assert await api.fetchval("SELECT count(*) FROM products") == 200
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await api.execute(statement)


async def test_a_search_finds_the_vacuum_flasks(
    operator: asyncpg.Connection, api: asyncpg.Connection, embeddings: EmbeddingServer
) -> None:
    """The runbook's query, with a real model on both sides."""
    await embed_some(operator, embeddings)
    query = vector_literal(await embed_query(embeddings.base_url, "something that keeps my drink hot"))
    found = await api.fetch(
        f"SELECT id, title, similarity FROM find_similar_products('{query}', 0.7, 10, NULL, NULL, NULL)"
    )
    assert found[0]["title"] == "thermos" and "vacuum flask" in [row["title"] for row in found[:3]]
    assert [row["similarity"] for row in found] == sorted((row["similarity"] for row in found), reverse=True)
    narrowed = await api.fetch(f"SELECT title FROM find_similar_products('{query}', 0.7, 10, 'container', 30, 35)")
    assert [row["title"] for row in narrowed] == ["thermos"]


async def test_passages_and_queries_are_embedded_differently(embeddings: EmbeddingServer) -> None:
    """The name of the model chooses the prefix: the wrong name gives another vector, not an error."""
    passage = (await embed(embeddings.base_url, ["thermos"], model=PASSAGE_MODEL))[0]
    query = await embed_query(embeddings.base_url, "thermos")
    assert len(passage) == len(query) == DIMENSIONS
    assert np.linalg.norm(passage) == pytest.approx(1, abs=1e-3)
    assert not np.allclose(passage, query, atol=1e-3)


async def test_the_noisy_copy_has_as_many_vectors_as_asked_near_to_real_ones(
    operator: asyncpg.Connection, shop: Shop, embeddings: EmbeddingServer
) -> None:
    with pytest.raises(ValueError, match="run a backfill"):
        await fill_noisy_copy(shop.operator_dsn, rows=10)
    await embed_some(operator, embeddings)
    assert await fill_noisy_copy(shop.operator_dsn, rows=7000) == 7000
    facts = await operator.fetchrow(
        "SELECT count(*) AS rows, count(DISTINCT v.embedding::text) AS vectors,"
        " max(v.embedding <=> p.embedding) AS far, max(abs(vector_norm(v.embedding) - 1)) AS off"
        " FROM product_vectors v JOIN products p ON p.id = v.product_id"
    )
    assert facts is not None
    assert facts["rows"] == facts["vectors"] == 7000
    assert facts["far"] < 0.05 and facts["off"] < 1e-5


def test_searches_have_a_head_a_long_tail_and_garbage() -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    rows = searches(products(500), 10_000, now=now)
    assert rows == searches(products(500), 10_000, now=now)
    times = Counter(row[0].strip().lower() for row in rows)
    ranked = [count for _, count in times.most_common()]
    assert times.most_common(1)[0][0] == POPULAR[0]
    assert sum(ranked[:20]) > 0.3 * len(rows)
    assert sum(1 for count in ranked if count == 1) > 0.3 * len(ranked)
    garbage = [row for row in rows if row[0] in GARBAGE]
    assert 0.02 * len(rows) < len(garbage) < 0.04 * len(rows) and not any(row[2] for row in garbage)
    assert now - timedelta(days=DAYS + 1) < rows[0][3] <= rows[-1][3] <= now
