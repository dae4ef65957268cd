"""Indexes of other forms on a real PostgreSQL: bits, casts, partial ones; built, proved, recognised, told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kinds.vectorindex.test_build import Db
from tests.kinds.vectorindex.world import Driven, Process

pytestmark = pytest.mark.real

COLUMNS = (
    "id int PRIMARY KEY, kind int, lang text, at timestamptz, embedding vector(40), small halfvec(40), signs bit(40)"
)
IN_1 = [{"column": "kind", "operator": "In", "values": ["1", "2"]}, {"column": "lang", "operator": "IsNotNull"}]


@pytest.fixture
async def db(database_url: str) -> Db:
    made = Db(database_url)
    await made.run(
        f"CREATE TABLE products ({COLUMNS})",
        "INSERT INTO products SELECT n, n % 5, CASE WHEN n % 2 = 0 THEN 'en' END, now(), v, v::halfvec, "
        "binary_quantize(v)::bit(40) FROM (SELECT n, (SELECT array_agg(random() - 0.5 + n * 0 * d)::vector "
        "FROM generate_series(1, 40) d) AS v FROM generate_series(1, 2000) n) made",
        "ANALYZE products",
    )
    return made


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


async def definition(db: Db, name: str) -> str:
    return await db.value("SELECT pg_get_indexdef(oid) FROM pg_class WHERE relname = $1", name)


BITS = "(((binary_quantize({}))::bit(40)) bit_hamming_ops)"
IVF: dict[str, Any] = {"method": "IVFFlat", "hnsw": None}
FORMS: list[tuple[dict[str, Any], str, str]] = [
    ({"storage": "Bit"}, "embedding_bit_hnsw", BITS.format("embedding")),
    ({"storage": "Bit", "column": "small", "metric": "L1"}, "small_bit_hnsw", BITS.format("small")),
    ({"storage": "Bit", "column": "signs"}, "signs_bit_hnsw", "(signs bit_hamming_ops)"),
    ({"storage": "Bit", **IVF, "metric": "L1"}, "embedding_bit_ivfflat", BITS.format("embedding")),
    ({"storage": "HalfVec"}, "embedding_hnsw", "(((embedding)::halfvec(40)) halfvec_cosine_ops)"),
    ({"storage": "HalfVec", "column": "small"}, "small_hnsw", "(small halfvec_cosine_ops)"),
    ({"metric": "L1"}, "embedding_hnsw", "(embedding vector_l1_ops)"),
    ({"metric": "InnerProduct"}, "embedding_hnsw", "(embedding vector_ip_ops)"),
    ({**IVF, "metric": "L2"}, "embedding_ivfflat", "USING ivfflat (embedding)"),
]


@pytest.mark.parametrize(("fields", "name", "key"), FORMS)
async def test_an_index_of_this_form_is_built_proved_adopted_and_rebuilt(
    db: Db, process: Process, fields: dict[str, Any], name: str, key: str
) -> None:
    name = f"idx_products_{name}"
    index = Driven.create(process, **fields)
    await index.ready()
    assert await db.indexes() == {name: True}
    assert key in await definition(db, name)
    assert index.status.index is not None and index.status.index.managed
    again = Driven.create(process, "again", managementPolicy="Observe", **fields)
    await again.ready()  # a stranger sees that it is what is wanted
    before = await db.oid(name)
    index.edit(runToken="again")
    await index.when(lambda: index.status.run_token == "again", "rebuilt")
    await index.ready()
    assert await db.oid(name) != before
    assert await db.indexes() == {name: True}


async def test_a_partial_index_holds_its_rows_only_and_serves_its_queries(db: Db, process: Process) -> None:
    index = Driven.create(process, where=IN_1, indexName="some")
    await index.ready()
    assert "WHERE ((kind = ANY (ARRAY[1, 2])) AND (lang IS NOT NULL))" in await definition(db, "some")
    assert await db.value("SELECT reltuples::int FROM pg_class WHERE relname = 'some'") == 400
    assert "found what is there" in (index.condition("Valid") or pytest.fail("no Valid")).message


async def test_a_partial_index_with_few_rows_is_proved_by_those_that_are_there(db: Db, process: Process) -> None:
    index = Driven.create(process, where=[{"column": "id", "operator": "LessOrEqual", "value": "3"}])
    await index.ready()
    none = Driven.create(process, "none", where=[{"column": "id", "operator": "Less", "value": "0"}])
    await none.ready()
    assert len(await db.indexes()) == 2  # their names differ by a hash


async def test_a_partial_index_of_a_person_is_adopted_and_one_of_other_rows_is_not(db: Db, process: Process) -> None:
    await db.run(
        "CREATE INDEX mine ON products USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32) "
        "WHERE lang IS NOT NULL AND kind IN (1, 2)"
    )
    other = Driven.create(process, where=IN_1[:1], indexName="mine")
    verdict = await other.until("NameTaken")
    assert "lang IS NOT NULL" in verdict.message
    whole = Driven.create(process, "whole", indexName="mine")
    assert "a partial index of rows WHERE" in (await whole.until("NameTaken")).message
    same = Driven.create(process, "same", where=IN_1[::-1], indexName="mine")
    before = await db.oid("mine")
    await same.ready()
    assert (await db.oid("mine"), same.actions) == (before, ["Claim"])


async def test_our_own_partial_index_is_known_whatever_the_server_makes_of_its_words(db: Db, process: Process) -> None:
    index = Driven.create(process, indexName="old", where=[{"column": "at", "operator": "Less", "value": "2020-01-01"}])
    await index.ready()
    await index.look()
    assert (index.verdict and index.verdict.action, index.verdict and index.verdict.ready) == (None, "True")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"column": "kind", "operator": "Equal", "value": "many"}, "none of its column's type"),
        ({"column": "embedding", "operator": "Less", "value": "red"}, "none of its column's type"),
        ({"column": "nowhere", "operator": "IsNull"}, 'has no column "nowhere"'),
    ],
)
async def test_a_condition_that_the_server_refuses_is_told_and_leaves_nothing(
    db: Db, process: Process, condition: dict[str, str], said: str
) -> None:
    index = Driven.create(process, where=[condition])
    verdict = await index.until("WhereInvalid")
    await index.when(lambda: bool(index.verdict and index.verdict.stalled), "stalled")
    assert said in (index.verdict or verdict).message
    assert await db.indexes() == {}
    index.delete()
    await index.gone()


async def test_dimensions_and_types_that_a_storage_cannot_hold_are_told(db: Db, process: Process) -> None:
    await db.run("ALTER TABLE products ADD wide vector(2001), ADD far halfvec(4001)")
    for fields, reason in (
        ({"column": "wide"}, "DimensionsTooLarge"),
        ({"column": "far", "storage": "HalfVec"}, "DimensionsTooLarge"),
        ({"column": "small", "storage": "Vector"}, "StorageUnsupported"),
        ({"column": "signs", "storage": "HalfVec"}, "StorageUnsupported"),
        ({"column": "lang", "storage": "Bit"}, "NotAVectorColumn"),
    ):
        await Driven.create(process, reason.lower(), **fields).until(reason)
    await Driven.create(process, "wide-bits", column="wide", storage="Bit").ready()
    await Driven.create(process, "wide-half", column="wide", storage="HalfVec").ready()
