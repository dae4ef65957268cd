"""Exact neighbours and measured recall on a real database, beside what the server itself computes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
from pydantic import SecretStr

from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.postgres import Connection, Database, Databases, Target
from vectorops.errors import OperatorError, Stalled, Waiting
from vectorops.recall import exact
from vectorops.recall.searching import Measured, Queries, Searcher, draw_queries, snapshot, truth
from vectorops.recall.target import Target as Searched
from vectorops.recall.target import target_of

pytestmark = pytest.mark.real

ROWS, DIMENSIONS, K = 2000, 32, 10


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    database = databases.open(Target(SecretStr(database_url)))
    async with database.session("test") as connection:
        await connection.execute(
            f"""
            SELECT setseed(0.5);
            CREATE TABLE public.item (id int PRIMARY KEY, kind int, e public.vector({DIMENSIONS}),
                                      h public.halfvec({DIMENSIONS}));
            INSERT INTO public.item
            SELECT n, n % 4, v::public.vector, v::public.halfvec
            FROM (SELECT n, '[' || string_agg((random() - 0.5 + (n % 7) * 0.02)::text, ',') || ']' AS v
                  FROM generate_series(1, {ROWS}) n, generate_series(1, {DIMENSIONS}) d GROUP BY n) made;
            INSERT INTO public.item VALUES (0, 0, NULL, NULL);
            INSERT INTO public.item SELECT {ROWS} + n, 0, e, h FROM public.item, generate_series(1, 3) n WHERE id = 1;
            ANALYZE public.item
            """
        )
    yield database
    await databases.close()


async def searched(database: Database, index: str) -> Searched:
    await database.execute(f"CREATE INDEX probed ON public.item USING {index}", timeout=15)
    catalogue = await read_catalogue(database)
    found = catalogue.index("public", "probed")
    assert found is not None
    return target_of(catalogue, found)


async def by_the_server(connection: Connection, target: Searched, queries: Queries) -> list[list[float]]:
    """Distances of the nearest rows, computed without any index, the query's own row left out."""
    answers = []
    await connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
    for text, row in zip(queries.texts, queries.rows, strict=True):
        found = await connection.fetch(target.search_sql(K + 5), text)
        others = [float(r[1]) for r in found if tuple(r[0]) != row and r[1] is not None]
        answers.append(others[:K])
    await connection.execute("SET LOCAL enable_indexscan = on")
    return answers


@pytest.mark.parametrize(
    "index",
    [
        "hnsw (e public.vector_cosine_ops)",
        "hnsw (e public.vector_l2_ops)",
        "hnsw (e public.vector_ip_ops)",
        "hnsw (e public.vector_l1_ops)",
        "ivfflat (e public.vector_l2_ops) WITH (lists = 10)",
        "hnsw (h public.halfvec_cosine_ops)",
        f"hnsw ((e::public.halfvec({DIMENSIONS})) public.halfvec_l2_ops)",
        f"hnsw ((public.binary_quantize(e)::bit({DIMENSIONS})) public.bit_hamming_ops)",
        f"hnsw ((public.binary_quantize(h)::bit({DIMENSIONS})) public.bit_hamming_ops)",
        "hnsw (e public.vector_cosine_ops) WHERE kind = 1",
    ],
)
async def test_one_pass_finds_what_the_server_finds_query_by_query(database: Database, index: str) -> None:
    target = await searched(database, index)
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 20, ROWS)
        assert len(queries.texts) == 20
        found = await truth(connection, target, queries, K)
        expected = await by_the_server(connection, target, queries)
        assert np.allclose(found.distances, np.array(expected), atol=2e-4)
        assert found.rows == await connection.fetchval(f"SELECT count(*) FROM public.item WHERE {target.where()}")
        measured: dict[int, Measured] = {}
        searcher = Searcher(connection, target, queries, found, K)
        await searcher.open()
        setting = "hnsw.ef_search" if target.method == "hnsw" else "ivfflat.probes"
        await searcher.measure(setting, [400 if target.method == "hnsw" else 10], range(20), measured)
        (one,) = measured.values()
        assert one.recall >= 0.97  # as wide a search as that finds nearly all
        assert one.blocks_a_search > 0
        assert len(one.seconds) == 20


async def test_a_narrow_search_is_measured_to_find_less_and_to_read_less(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops) WITH (m = 4, ef_construction = 8)")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 64, ROWS)
        searcher = Searcher(connection, target, queries, await truth(connection, target, queries, K), K)
        await searcher.open()
        measured: dict[int, Measured] = {}
        await searcher.measure("hnsw.ef_search", [11, 400], range(64), measured)
    assert measured[11].recall < measured[400].recall
    assert measured[11].blocks_a_search < measured[400].blocks_a_search
    assert len(measured[11].recalls) == len(measured[400].recalls) == 64


async def test_the_table_is_read_in_blocks_that_do_not_grow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4096)  # some thirty rows
    fed: list[int] = []
    feed = exact.Search.feed
    monkeypatch.setattr(exact.Search, "feed", lambda self, block: (fed.append(len(block)), feed(self, block))[1])
    target = await searched(database, "hnsw (e public.vector_l2_ops)")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 5, ROWS)
        found = await truth(connection, target, queries, K)
        assert np.allclose(found.distances, np.array(await by_the_server(connection, target, queries)), atol=2e-4)
    assert len(fed) >= 3  # as many as the driver hands over at once, and the rest
    assert (
        sum(fed)
        == found.rows * exact.Search(target, np.zeros((1, DIMENSIONS), np.float32), np.zeros(1, np.uint64), 1).row_bytes
    )


async def test_rows_written_meanwhile_change_nothing(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops)")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 20, ROWS)
        await database.execute("UPDATE public.item SET kind = kind + 1; DELETE FROM public.item WHERE id % 2 = 0")
        searcher = Searcher(connection, target, queries, await truth(connection, target, queries, K), K)
        await searcher.open()
        measured: dict[int, Measured] = {}
        await searcher.measure("hnsw.ef_search", [1000], range(20), measured)
    assert measured[1000].recall >= 0.97


async def test_the_same_queries_are_drawn_again(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops)")
    async with database.session("test") as connection:
        async with snapshot(connection):
            first = await draw_queries(connection, target, 20, ROWS)
        async with snapshot(connection):
            assert await draw_queries(connection, target, 20, ROWS) == first


async def test_more_queries_than_rows_are_all_rows(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops) WHERE kind = 1")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 10_000, ROWS)
    assert len(queries.texts) == ROWS // 4


async def test_fewer_rows_than_k_are_all_to_be_found(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops) WHERE id < 5")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 4, ROWS)
        searcher = Searcher(connection, target, queries, await truth(connection, target, queries, K), K)
        await searcher.open()
        measured: dict[int, Measured] = {}
        await searcher.measure("hnsw.ef_search", [40], range(len(queries.texts)), measured)
    assert measured[40].recall == 1.0


async def test_a_search_that_would_use_another_index_is_not_measured(database: Database) -> None:
    target = await searched(database, "hnsw (e public.vector_l2_ops)")
    await database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.probed'::regclass")
    async with database.session("test") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, 4, ROWS)
        searcher = Searcher(connection, target, queries, await truth(connection, target, queries, K), K)
        with pytest.raises(Waiting, match="does not search by"):
            await searcher.open()


async def test_nothing_can_be_written_while_it_is_measured(database: Database) -> None:
    async with database.session("test") as connection:
        with pytest.raises(OperatorError):
            async with snapshot(connection):
                await connection.execute("DELETE FROM public.item")
    assert await database.fetchval("SELECT count(*) FROM public.item") == ROWS + 4


async def test_an_operator_class_without_an_exact_answer_is_refused(database: Database) -> None:
    with pytest.raises(Stalled, match="bit_jaccard_ops"):
        await searched(database, f"hnsw ((public.binary_quantize(e)::bit({DIMENSIONS})) public.bit_jaccard_ops)")
