"""The statements of VectorIndex, letter by letter, and against a real server where its quoting decides."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from tests.kinds.vectorindex.given import spec

from vectorops.errors import Stalled
from vectorops.kinds.vectorindex import sql

WEIRD = 'we"ird; drop table x'


def create(name: str = "b", dimensions: int = 3, of: str = "vector", schema: str = "public", **fields: Any) -> str:
    return sql.create_index_sql(name, spec(**fields), schema, dimensions, of, 42)


WHERE = [
    {"column": "kind", "operator": "In", "values": ["a", "b'c"]},
    {"column": WEIRD, "operator": "GreaterOrEqual", "value": "-1"},
    {"column": "gone", "operator": "IsNull"},
]


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            create(),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" '
            'USING hnsw ("embedding" "public"."vector_cosine_ops") '
            "WITH (m = 24, ef_construction = 100)",
        ),
        (
            create(storage="HalfVec", dimensions=1536, schema="ext"),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" USING hnsw '
            '(("embedding"::"ext"."halfvec"(1536)) "ext"."halfvec_cosine_ops") WITH (m = 24, ef_construction = 100)',
        ),
        (
            create(storage="HalfVec", of="halfvec"),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" USING hnsw '
            '("embedding" "public"."halfvec_cosine_ops") WITH (m = 24, ef_construction = 100)',
        ),
        (
            create(storage="Bit", metric="L1", dimensions=1536, schema="ext", where=WHERE),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" USING hnsw '
            '(("ext"."binary_quantize"("embedding")::bit(1536)) "ext"."bit_hamming_ops") '
            "WITH (m = 24, ef_construction = 100) "
            """WHERE "kind" IN ('a', 'b''c') AND "we""ird; drop table x" >= '-1' AND "gone" IS NULL""",
        ),
        (
            create(storage="Bit", of="bit", method="IVFFlat", ivfflat={"lists": 7}),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" USING ivfflat '
            '("embedding" "public"."bit_hamming_ops") WITH (lists = 7)',
        ),
        (
            create(method="IVFFlat", metric="L2"),
            'CREATE INDEX CONCURRENTLY "b" ON "public"."products" USING ivfflat ("embedding" "public"."vector_l2_ops") '
            "WITH (lists = 42)",
        ),
        (
            create(method="IVFFlat", metric="InnerProduct", ivfflat={"lists": 7}, schema="public", name=WEIRD),
            'CREATE INDEX CONCURRENTLY "we""ird; drop table x" ON "public"."products" USING ivfflat '
            '("embedding" "public"."vector_ip_ops") WITH (lists = 7)',
        ),
        (sql.drop_index_sql("s", WEIRD), 'DROP INDEX CONCURRENTLY "s"."we""ird; drop table x"'),
        (sql.rename_index_sql("s", "a", WEIRD), 'ALTER INDEX "s"."a" RENAME TO "we""ird; drop table x"'),
        (sql.comment_on_index_sql("s", "a", "it's"), """COMMENT ON INDEX "s"."a" IS 'it''s'"""),
        (sql.comment_on_index_sql("s", "a", "\\'"), """COMMENT ON INDEX "s"."a" IS E'\\\\'''"""),
        (sql.analyze_table_sql("s", "t"), 'ANALYZE "s"."t"'),
        (
            sql.sample_sql(spec(), "public", "vector", 10),
            'SELECT "embedding"::text FROM ONLY "public"."products" WHERE "embedding" IS NOT NULL '
            'AND "public"."vector_norm"("embedding") > 0 LIMIT 10',
        ),
        (
            sql.sample_sql(spec(metric="L2"), "public", "halfvec", 10),
            'SELECT "embedding"::text FROM ONLY "public"."products" WHERE "embedding" IS NOT NULL LIMIT 10',
        ),
        (
            sql.search_sql(spec(), "ext", "vector", 3, 10),
            'SELECT 1 FROM ONLY "public"."products" '
            'ORDER BY "embedding" OPERATOR("ext".<=>) $1::text::"ext"."vector" LIMIT 10',
        ),
        (
            sql.search_sql(spec(storage="HalfVec", metric="L1"), "ext", "vector", 3, 10),
            'SELECT 1 FROM ONLY "public"."products" ORDER BY ("embedding"::"ext"."halfvec"(3)) OPERATOR("ext".<+>) '
            '($1::text::"ext"."vector"::"ext"."halfvec"(3)) LIMIT 10',
        ),
        (
            sql.search_sql(spec(storage="Bit", where=WHERE[2:]), "ext", "halfvec", 3, 10),
            'SELECT 1 FROM ONLY "public"."products" WHERE "gone" IS NULL '
            'ORDER BY ("ext"."binary_quantize"("embedding")::bit(3)) OPERATOR("ext".<~>) '
            '("ext"."binary_quantize"($1::text::"ext"."halfvec")::bit(3)) LIMIT 10',
        ),
        (
            sql.search_sql(spec(storage="Bit"), "ext", "bit", 3, 10),
            'SELECT 1 FROM ONLY "public"."products" ORDER BY "embedding" OPERATOR("ext".<~>) $1::text::bit(3) LIMIT 10',
        ),
        (
            sql.sample_sql(spec(storage="Bit", where=WHERE[2:]), "public", "vector", 10),
            'SELECT "embedding"::text FROM ONLY "public"."products" WHERE "embedding" IS NOT NULL '
            'AND "gone" IS NULL LIMIT 10',
        ),
    ],
)
def test_the_text_is_exactly(statement: str, text: str) -> None:
    assert statement == text


def test_no_statement_says_if_not_exists() -> None:
    assert "EXISTS" not in create()


def test_a_name_that_would_be_cut_is_refused() -> None:
    with pytest.raises(Stalled):
        create(name="n" * 64)


@pytest.mark.parametrize(
    ("key", "column"),
    [
        ("(embedding::halfvec(3))", ("embedding", 3)),
        ("((embedding)::public.halfvec(3))", ("embedding", 3)),
        ('("we""ird; drop table x"::"my schema".halfvec(3))', (WEIRD, 3)),
        ('(("a b")::ext.halfvec(1536))', ("a b", 1536)),
        ("embedding", None),
        ("(lower(embedding)::halfvec(3))", None),
        ("(binary_quantize(embedding)::bit(3))", ("embedding", 3)),
        ('((my.binary_quantize("a b"))::bit(3))', ("a b", 3)),
        ("(lower(embedding)::bit(3))", None),
    ],
)
def test_the_column_behind_a_cast_is_found(key: str, column: tuple[str, int] | None) -> None:
    assert sql.expression_column(key) == column


@pytest.mark.real
@pytest.mark.parametrize("name", ["embedding", "a b", "Ünïcode", WEIRD, 'q"', "(x)::y"])
@pytest.mark.parametrize("schema", ["public", "ext", 'my "own"'])
async def test_the_server_reads_what_was_meant(database_url: str, name: str, schema: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "pg_catalog, pg_temp"})
    try:
        if schema != "public":
            await connection.execute(
                f"CREATE SCHEMA {sql.quote_ident(schema)}; ALTER EXTENSION vector SET SCHEMA {sql.quote_ident(schema)}"
            )
        column = sql.quote_ident(name)
        await connection.execute(f"CREATE TABLE public.products ({column} {sql.qualified(schema, 'vector')}(3))")
        for storage in ("Vector", "HalfVec", "Bit"):
            wanted, made = spec(column=name, storage=storage), f"i{storage}"
            await connection.execute(sql.create_index_sql(made, wanted, schema, 3, "vector", 1))
            await connection.fetch(sql.search_sql(wanted, schema, "vector", 3, 5), "[1,2,3]")
            await connection.fetch(sql.sample_sql(wanted, schema, "vector", 5))
            await connection.execute(sql.comment_on_index_sql("public", made, f"it's {name} \\"))
            said = await connection.fetchval("SELECT obj_description(oid) FROM pg_class WHERE relname = $1", made)
            assert said == f"it's {name} \\"
            key = await connection.fetchval(
                "SELECT pg_get_indexdef(oid, 1, true) FROM pg_class WHERE relname = $1", made
            )
            assert storage == "Vector" or sql.expression_column(key) == (name, 3)
    finally:
        await connection.close()
