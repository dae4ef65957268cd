"""Partial indexes on a real PostgreSQL: built, recognised as the server writes them, and never mistaken for another."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.kinds.vectorindex.test_build import NAME, Db
from tests.kinds.vectorindex.world import Driven, Process

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

COLUMNS = (
    "category varchar(20)", "note text", "price numeric(10, 2)", "stock smallint", "big bigint",
    "ratio double precision", "live boolean", "made date", "seen timestamptz", "owner uuid", "code char(4)",
    "mood mood", '"we""ird; drop table x" text',
)  # fmt: skip
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.fixture
async def db(database_url: str) -> Db:
    """A table with a column of every type that people filter by; 200 rows of 2,000 are knives."""
    found = Db(database_url)
    await found.make_table()
    await found.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "ALTER TABLE products " + ", ".join(f"ADD {column}" for column in COLUMNS),
        "UPDATE products SET category = CASE WHEN id % 10 = 0 THEN 'knives' ELSE 'for''ks' END, note = 'a\\b', "
        "price = id, stock = id % 7, big = id, ratio = id / 10.0, live = id % 2 = 0, "
        "made = date '2026-01-01' + id % 9, "
        f"seen = timestamptz '2026-01-01 00:00+00', owner = '{UUID}', code = 'ab', mood = 'ok', "
        '"we""ird; drop table x" = NULL',
        "ANALYZE products",
    )
    return found


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


def where(column: str, operator: str, *values: str) -> dict[str, Any]:
    given: dict[str, Any] = {"column": column, "operator": operator}
    if operator == "In":
        return given | {"values": list(values)}
    return given | ({"value": values[0]} if values else {})


@pytest.mark.parametrize(
    "conditions",
    [
        [where("category", "Equal", "knives")],
        [where("category", "NotEqual", "for'ks"), where("stock", "Less", "5"), where("note", "IsNotNull")],
        [where("category", "In", "knives", "for'ks", "x\\'; DROP TABLE products; --")],
        [where("note", "Equal", "a\\b")],
        [
            where("price", "GreaterOrEqual", "12.5"),
            where("big", "Greater", "7"),
            where("ratio", "LessOrEqual", "150.5"),
        ],
        [where("live", "Equal", "true"), where("stock", "In", "1", "2"), where("code", "Equal", "ab")],
        [where("made", "LessOrEqual", "2026-01-05"), where("seen", "Less", "2027-01-01 00:00+00")],
        [where("owner", "Equal", UUID), where("mood", "In", "ok")],
        [where('we"ird; drop table x', "IsNull")],
        [where("category", "Equal", "no such rows")],
    ],
    ids=lambda conditions: "-".join(c["operator"] for c in conditions),
)
async def test_every_condition_is_built_proved_and_recognised(
    db: Db, process: Process, conditions: list[dict[str, Any]]
) -> None:
    index = Driven.create(process, indexName=NAME, where=conditions)
    verdict = await index.ready()
    assert verdict.ready == "True"
    assert " WHERE " in str(index.status.index and index.status.index.definition)
    first = await db.oid()
    again = Driven.create(Process(db.url, process.cluster), "again", indexName=NAME, where=conditions)
    process.cluster.objects.pop("shop/products")
    await again.ready()
    assert "StartBuild" not in again.actions and await db.oid() == first
    await again.process.stop()


async def test_a_partial_index_is_rebuilt_as_what_it_is(db: Db, process: Process) -> None:
    index = Driven.create(process, indexName=NAME, where=[where("category", "Equal", "knives")])
    await index.ready()
    index.edit(hnsw={"m": 6, "efConstruction": 24})
    await index.when(lambda: index.condition("Rebuilding") is not None, "rebuilding")
    await index.ready()
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=6", "ef_construction=24"]
    assert "knives" in str(index.status.index and index.status.index.definition)


async def test_one_written_by_hand_is_adopted_however_it_was_written(db: Db, process: Process) -> None:
    await db.run(
        f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32) "
        "WHERE ((category)::text = ANY (ARRAY['knives'::text, 'spoons']))"
    )
    before = await db.oid()
    index = Driven.create(process, indexName=NAME, where=[where("category", "In", "knives", "spoons")])
    await index.ready()
    assert (index.actions, await db.oid()) == (["Claim"], before)


@pytest.mark.parametrize(
    "there",
    ["", " WHERE category = 'forks'", " WHERE stock = 3", " WHERE category IS NOT NULL", " WHERE note = 'knives'"],
)
async def test_an_index_of_other_rows_keeps_the_name(db: Db, process: Process, there: str) -> None:
    await db.run(f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops){there}")
    before = await db.oid()
    verdict = await Driven.create(process, indexName=NAME, where=[where("category", "Equal", "knives")]).until(
        "NameTaken"
    )
    assert "rows" in verdict.message
    assert await db.oid() == before


async def test_a_comparison_as_another_type_is_another_predicate(db: Db, process: Process) -> None:
    await db.run(f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops) WHERE stock::text > '10'")
    await Driven.create(process, indexName=NAME, where=[where("stock", "Greater", "10")]).until("NameTaken")


async def test_an_index_over_fewer_bits_is_another_index(db: Db, process: Process) -> None:
    await db.run(f"CREATE INDEX {NAME} ON products USING hnsw ((binary_quantize(embedding)::bit(8)) bit_hamming_ops)")
    before = await db.oid()
    verdict = await Driven.create(process, indexName=NAME, storage="Bit").until("NameTaken")
    assert "8 of the column's 16 dimensions" in verdict.message
    assert await db.oid() == before


async def test_zero_vectors_have_bits_too(db: Db, process: Process) -> None:
    await db.run("UPDATE products SET embedding = array_fill(0, ARRAY[16])::vector")
    assert (await Driven.create(process, storage="Bit").ready()).ready == "True"


@pytest.mark.parametrize(
    ("condition", "reason", "told"),
    [
        (where("nope", "IsNull"), "WhereInvalid", '"nope"'),
        (where("stock", "Equal", "many"), "WhereInvalid", '"stock" Equal'),
        (where("mood", "In", "ok", "furious"), "WhereInvalid", '"mood" In'),
        (where("made", "Less", "today"), "WhereInvalid", '"made" Less'),
        (where("embedding", "Equal", "[1"), "WhereInvalid", '"embedding" Equal'),
    ],
)
async def test_a_condition_that_fits_no_row_says_which(
    db: Db, process: Process, condition: dict[str, Any], reason: str, told: str
) -> None:
    verdict = await Driven.create(
        process, indexName=NAME, where=[where("category", "Equal", "knives"), condition]
    ).until(reason)
    assert verdict.stalled and told in verdict.message
    assert await db.indexes() == {}


async def test_a_settled_partial_index_costs_no_statement(db: Db, process: Process, monkeypatch: Any) -> None:
    index = Driven.create(process, indexName=NAME, where=[where("category", "Equal", "knives")])
    await index.ready()
    await index.look()
    from vectorops.clients.postgres import Database

    async def connecting(self: Any, *args: Any) -> Any:
        raise AssertionError("a settled object opens no connection")

    monkeypatch.setattr(Database, "_connect", connecting)
    assert (await index.look()).ready == "True"


async def test_an_index_of_all_rows_is_no_duplicate_of_a_partial_one(db: Db, process: Process) -> None:
    await db.run("CREATE INDEX whole ON products USING hnsw (embedding vector_cosine_ops)")
    index = Driven.create(process, indexName=NAME, where=[where("category", "Equal", "knives")])
    await index.ready()
    await index.look()
    advisory = index.condition("Advisory")
    assert advisory is None or advisory.reason != "DuplicateIndex"
    await db.run("CREATE INDEX twin ON products USING hnsw (embedding vector_cosine_ops) WHERE category = 'knives'")

    def told() -> bool:
        found = index.condition("Advisory")
        return found is not None and found.reason == "DuplicateIndex" and '"twin"' in found.message

    await index.when(told, "the duplicate is told")
    message = (index.condition("Advisory") or pytest.fail("gone")).message
    assert '"whole"' not in message.split("very same searches: ")[1].split(").")[0]


async def test_a_role_that_may_not_even_read_is_told_the_grant(db: Db, postgres: Postgres) -> None:
    role = f"r{uuid.uuid4().hex[:8]}"
    await db.run(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'", f"CREATE SCHEMA vectorops AUTHORIZATION {role}")
    process = Process(postgres.dsn(db.url.rsplit("/", 1)[1], role, "pw"))
    wanted = [where("category", "Equal", "knives")]
    verdict = await Driven.create(process, indexName=NAME, where=wanted).until("OwnerRightMissing")
    assert verdict.message.endswith(f'Run: GRANT "postgres" TO "{role}".')
    await process.stop()
