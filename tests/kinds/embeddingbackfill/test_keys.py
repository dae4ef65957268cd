"""Pages by any key that can be ordered, while rows come and change; and that pages follow the key's index."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector.asyncpg import register_vector

from stand.provider import Provider
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.sql import statements
from vectorops.clients.texttemplate import parse_template
from vectorops.clients.vectorcodec import pack_vector, register_vectors
from vectorops.kinds.embeddingbackfill.effects import PACKAGE, Found
from vectorops.kinds.embeddingbackfill.observation import EVER
from vectorops.kinds.embeddingbackfill.parts import Select
from vectorops.kinds.embeddingbackfill.selection import Scope, Selection
from vectorops.kinds.embeddingbackfill.sql import page_sql
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target
from vectorops.kinds.embeddingbackfill.writing_sql import adopt_sql, copy_sql, write_sql

from .driver import DIMENSIONS, World, missing, wrong_rows

pytestmark = pytest.mark.real

MIXED = "(ARRAY['a','B','ä','Z'])[1 + n % 4] || n"
KEYS = {
    "bigint": ("id bigint PRIMARY KEY", "n - 500"),
    "text": ("id text PRIMARY KEY", "E'odd '' \"key\" \\\\ (é) ' || n"),
    "text in a collation of its own": ('id text COLLATE "POSIX" PRIMARY KEY', MIXED),
    "char": ("id char(12) PRIMARY KEY", "'k' || n"),
    "uuid": ("id uuid PRIMARY KEY", "md5(n::text)::uuid"),
    "timestamptz": ("id timestamptz PRIMARY KEY", "timestamptz '2026-01-01Z' + n * interval '1.000001 second'"),
    "numeric": ("id numeric PRIMARY KEY", "n / 7.0"),
    "double": ("id float8 PRIMARY KEY", "n / 7.0"),
    "date": ("id date PRIMARY KEY", "date '2020-01-01' + n"),
    "enum and int": ("kind mood, n int, PRIMARY KEY (kind, n)", "(ARRAY['sad','glad'])[1 + n % 2]::mood, n"),
    "composite": (
        'shop int, sku text COLLATE "POSIX", PRIMARY KEY (sku, shop)', """n % 3, 'ü "sku" ' || n / 3"""
    ),
}  # fmt: skip


@pytest.mark.parametrize("keys", KEYS)
async def test_pages_by_any_key_find_every_row_once_while_rows_come_and_change(
    world: World, db: Any, provider: Provider, keys: str
) -> None:
    columns, values = KEYS[keys]
    insert = f"INSERT INTO keyed SELECT {values}, 'text ' || n % 1000 FROM generate_series({{}}, {{}}) n"
    await db.execute(
        f"""CREATE TYPE mood AS ENUM ('sad', 'glad'); SET TimeZone = 'Asia/Kolkata';
            CREATE TABLE keyed ({columns}, title text, embedding vector({DIMENSIONS})); {insert.format(1, 1100)}"""
    )
    world.table = {"table": "keyed", "textTemplate": "{title}"}
    world.declare()
    world.state_limits()
    provider.control(holdRequests="Billed")
    passes = asyncio.create_task(world.backfill(batchSize=90).until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    await db.execute(insert.format(1101, 1200))
    await db.execute("UPDATE keyed SET title = 'edited ' || title WHERE title LIKE 'text %7'")
    provider.control(holdRequests=None)
    await passes
    assert await missing(db, "keyed") == 0 and await wrong_rows(db, "title", "keyed") == []
    assert set(provider.bill()["perText"].values()) == {1}, "200 rows have a text that another row has as well"
    provider.reset()
    await db.execute("UPDATE keyed SET title = 'stale ' || title WHERE title LIKE 'text %3'")
    await world.backfill(select="Stale").until(lambda v: v.complete)
    bought = await db.fetchval("SELECT count(DISTINCT title) FROM keyed WHERE title LIKE 'stale %'")
    assert provider.bill()["texts"] == bought and await wrong_rows(db, "title", "keyed") == []
    names = [name for name in ("id", "sku", "shop", "kind", "n") if f"{name} " in columns]
    key = "id::text" if names == ["id"] else "json_build_array(sku, shop::text)::text"
    if "kind" in names:
        key = "json_build_array(kind::text, n::text)::text"
    some = [row[0] for row in await db.fetch(f"SELECT {key} FROM keyed WHERE title LIKE 'stale %' LIMIT 5")]
    await world.backfill(select="All", ids=some).until(lambda v: v.complete)
    assert await db.fetchval("SELECT count(*) FROM vectorops.embedding_state WHERE embedded_at > $1", BEFORE) == 1200


BEFORE = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("select", list(Select))
async def test_every_statement_of_a_sweep_follows_an_index_whatever_the_statistics_say(
    world: World, db: asyncpg.Connection[Any], database_url: str, select: Select
) -> None:
    """The tables have never been analysed, and look as if hardly a row were left and nothing were remembered."""
    await ensure_bookkeeping((await world.ctx.stores.resolve("shop", "shop")).database)
    await db.execute("INSERT INTO products (title) SELECT 'more ' || n FROM generate_series(1, 20000) n")
    key = KeyColumn("id", "bigint", builtin=True, not_null=True)
    declared = Declared("shop", "m", DIMENSIONS, None, "public", "products", "embedding", "{title}", "")
    target = Target(declared, 1, (key,), "public", parse_template("{title}"))
    scope, account = Scope(target, Selection(select), EVER, begun=EVER), ("uid", "")
    rows = [Found((str(number),), "", "", bytes(32)) for number in range(500)]
    statements_of_a_sweep = {
        "page": page_sql(scope, 512, ["9"]),
        "copy": copy_sql(scope, account, rows),
        "write": write_sql(scope, account, rows, [pack_vector([1.0] * DIMENSIONS)] * 500, 1, 1),
    }
    if scope.selection.adopts:
        statements_of_a_sweep["adopt"] = adopt_sql(scope, 5000, ["9"])
    session = await asyncpg.connect(database_url, server_settings={"search_path": "pg_catalog, pg_temp"})
    try:
        await session.execute(statements(PACKAGE)["walk_the_key"])
        await register_vectors(session, "public")
        for name, statement in statements_of_a_sweep.items():
            text = await session.fetchval(f"EXPLAIN (FORMAT JSON) {statement.sql}", *statement.args)
            found = nodes(json.loads(text)[0]["Plan"])
            tables = {(node["Node Type"], node["Relation Name"]) for node in found if "Relation Name" in node}
            scans = {kind for kind, table in tables if table in ("products", "embedding_state") and "Scan" in kind}
            assert scans <= {"Index Scan", "Index Only Scan"}, (name, tables)
            if name == "page":
                assert "Sort" not in {node["Node Type"] for node in found}
            if name == "copy":
                assert "embedding_state_text" in {node.get("Index Name") for node in found}
    finally:
        await session.close()


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in nodes(below))]


Edit = tuple[str, int, str]
TEXT = st.sampled_from(["alpha", "beta", "gamma", "delta", " ", ""])
EDIT = st.tuples(st.sampled_from(["set", "insert", "delete", "empty"]), st.integers(1, 30), TEXT)
EDITS = st.lists(EDIT, max_size=12)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=EDITS, meanwhile=EDITS, then=EDITS, select=st.sampled_from(["Stale", "All"]))
def test_after_a_run_every_vector_is_that_of_the_present_text(
    database_url: str, provider: Provider, before: list[Edit], meanwhile: list[Edit], then: list[Edit], select: str
) -> None:
    asyncio.run(under_edits(database_url, provider, before, meanwhile, then, select))


async def under_edits(
    url: str, provider: Provider, before: list[Edit], meanwhile: list[Edit], then: list[Edit], select: str
) -> None:
    provider.reset()
    db = await asyncpg.connect(url)
    await db.execute(
        f"""DROP TABLE IF EXISTS products; DROP SCHEMA IF EXISTS vectorops CASCADE;
            CREATE TABLE products (id bigint PRIMARY KEY, title text, embedding vector({DIMENSIONS}));
            INSERT INTO products SELECT n, 'text ' || n % 12 FROM generate_series(1, 20) n"""
    )
    await register_vector(db)
    try:
        async with World(url, provider.base_url, provider.api_key) as world:
            world.table = {"table": "products", "textTemplate": "{title}"}
            world.declare()
            await edit(db, before)
            provider.control(holdRequests="Billed")
            passes = asyncio.create_task(world.backfill(batchSize=3).until(lambda v: v.complete))
            await asyncio.to_thread(provider.wait_for, "Held")
            await edit(db, meanwhile)
            provider.control(holdRequests=None)
            await passes
            await edit(db, then)
            await world.backfill(select=select, runToken="2").until(lambda v: v.complete)
        there = await db.fetch("SELECT title, embedding IS NULL AS missing FROM products WHERE btrim(title) <> ''")
        assert not [row["title"] for row in there if row["missing"]]
        assert [text for text in await wrong_rows(db, "title") if text.strip()] == []
    finally:
        await db.close()


async def edit(db: asyncpg.Connection[Any], edits: list[Edit]) -> None:
    for what, number, text in edits:
        if what == "set":
            await db.execute("UPDATE products SET title = $2 WHERE id = $1", number, text)
        elif what == "insert":
            await db.execute("INSERT INTO products VALUES ($1, $2) ON CONFLICT DO NOTHING", number, text)
        elif what == "delete" and number > 10:
            await db.execute("DELETE FROM products WHERE id = $1", number)
        elif what == "empty":
            await db.execute("UPDATE products SET embedding = NULL WHERE id = $1", number)
