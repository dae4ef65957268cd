"""The text of a row, as SQL: exact statements, and what a real server makes of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.clients.embedding_tokens import Load
from vectorops.clients.predicate import Compared
from vectorops.clients.texttemplate import TemplateError, parse_template, text_sql
from vectorops.kinds.embeddingbackfill.batch import Row
from vectorops.kinds.embeddingbackfill.observation import EVER, NEVER
from vectorops.kinds.embeddingbackfill.parts import Select, UnknownProvenance
from vectorops.kinds.embeddingbackfill.selection import Scope, Selection, row_key_sql
from vectorops.kinds.embeddingbackfill.sql import page_sql, proof_sql
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target
from vectorops.kinds.embeddingbackfill.writing_sql import adopt_sql, copy_sql, write_sql

EXACT = {
    "{title}": """(coalesce(t."title"::text, ''))""",
    "{title}\n\n{description}": r"""(coalesce(t."title"::text, '') || E'\n\n' || """
    """coalesce(t."description"::text, ''))""",
    "{{{a}}}": """('{' || coalesce(t."a"::text, '') || '}')""",
    "it's {a}": """('it''s ' || coalesce(t."a"::text, ''))""",
    'back\\slash {a"b}': r"""(E'back\\slash ' || coalesce(t."a""b"::text, ''))""",
    "{The Text}": """(coalesce(t."The Text"::text, ''))""",
    "{é$}\x01": r"""(coalesce(t."é$"::text, '') || E'\x01')""",
}


@pytest.mark.parametrize("template", EXACT)
def test_a_template_is_one_expression(template: str) -> None:
    assert text_sql(parse_template(template), "t").text == EXACT[template]


def test_a_prefix_is_part_of_the_text_and_of_the_hash_but_not_of_what_counts_as_blank() -> None:
    sql = text_sql(parse_template("{a}{b}{a}", "passage: "), "t")
    a, b = """coalesce(t."a"::text, '')""", """coalesce(t."b"::text, '')"""
    assert sql.text == f"('passage: ' || {a} || {b} || {a})"
    assert sql.hash == f"sha256(convert_to('passage: ' || {a} || {b} || {a}, 'UTF8'))"
    assert sql.blank == rf"(btrim({a} || {b}, E' \t\n\r\x0b\f') = '')"


@pytest.mark.parametrize("template", ["", "no column", "{}", "{a", "a}", "{a{b}}", "{a}\0"])
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(template)


def test_unknown_columns_are_named_once_in_order() -> None:
    assert parse_template("{z} {id} {a} {z}").unknown(["id"]) == ("z", "a")


def test_another_template_or_prefix_has_another_fingerprint() -> None:
    made = [
        parse_template("{a}"),
        parse_template("{a} "),
        parse_template("{b}"),
        parse_template("{a}", "x"),
        parse_template("x{a}"),
    ]
    assert len({template.fingerprint for template in made}) == len(made)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_literal_survives_parsing(literal: str) -> None:
    escaped = literal.replace("{", "{{").replace("}", "}}")
    template = parse_template(escaped + "{a}" + escaped)
    assert template.literals == (literal, literal)


def target(*keys: KeyColumn, template: str = "{title}") -> Target:
    declared = Declared("shop", "m", 3, None, "public", "products", "embedding", template, "", "products")
    return Target(declared, 1, keys, "public", parse_template(template))


ID = KeyColumn("id", "bigint", builtin=True, not_null=True)
SKU = KeyColumn('s"ku', "text", builtin=True, not_null=True)


def scope(*keys: KeyColumn, **selection: Any) -> Scope:
    return Scope(target(*keys or (ID,)), Selection(**selection), EVER, begun=NEVER)


def row(*key: str) -> Row:
    return Row(key, "", "", b"h", Load(0))


def test_a_page_goes_on_behind_the_last_key() -> None:
    text = """coalesce(t."title"::text, '')"""
    page = page_sql(scope(), 512, ["9"])
    assert (
        page.sql
        == rf"""SELECT ARRAY[t."id"::text] AS key, t."id"::text COLLATE "C" AS row_key,
       left(({text}), 65528) AS text, sha256(convert_to({text}, 'UTF8')) AS text_hash
FROM "public"."products" AS t
WHERE true AND t."embedding" IS NULL
  AND NOT (btrim({text}, E' \t\n\r\x0b\f') = '')
  AND NOT EXISTS (SELECT FROM vectorops.failure AS f
    WHERE f.table_name = $1 AND f.column_name = $2 AND f.row_key = t."id"::text COLLATE "C"
      AND f.text_hash = sha256(convert_to({text}, 'UTF8'))
      AND f.template_hash = $3 AND f.model = $4 AND f.last_at >= $5
    OFFSET 0)
  AND t."id" > ($6::text[])[1]::bigint
ORDER BY t."id"
LIMIT $7"""
    )
    fingerprint = parse_template("{title}").fingerprint
    assert page.args == ('"public"."products"', "embedding", fingerprint, "m", EVER, ["9"], 512)
    assert "$7" not in page_sql(scope(), 512).sql


def test_a_composite_key_is_compared_as_a_row() -> None:
    sql = page_sql(scope(SKU, ID), 1, ["a", "1"]).sql
    assert """(t."s""ku", t."id") > (($6::text[])[1]::text, ($6::text[])[2]::bigint)""" in sql
    assert row_key_sql(target(SKU, ID)) == """json_build_array(t."s""ku"::text, t."id"::text)::text COLLATE "C\""""


HASH = """sha256(convert_to(coalesce(t."title"::text, ''), 'UTF8'))"""
DIFFERS = (
    f"""(e.text_hash, e.template_hash, e.model, e.dimensions) IS DISTINCT FROM ({HASH}, $3::bytea, $4::text, $5::int)"""
)
NEEDS: list[tuple[dict[str, Any], str]] = [
    ({}, """t."embedding" IS NULL"""),
    ({"select": Select.STALE}, f"""(t."embedding" IS NULL OR e.row_key IS NOT NULL AND {DIFFERS})"""),
    (
        {"select": Select.STALE, "unknown": UnknownProvenance.EMBED},
        f"""(t."embedding" IS NULL OR {DIFFERS})""",
    ),
    ({"select": Select.ALL}, f"""(t."embedding" IS NULL OR {DIFFERS} OR e.embedded_at < $6)"""),
]


@pytest.mark.parametrize(("selection", "needs"), NEEDS)
def test_what_needs_an_embedding_is_one_condition(selection: dict[str, Any], needs: str) -> None:
    sql = page_sql(scope(**selection), 1).sql
    assert f"WHERE true AND {needs}\n  AND NOT (btrim(" in sql
    joined = """LEFT JOIN LATERAL (
  SELECT * FROM vectorops.embedding_state AS s
  WHERE s.table_name = $1 AND s.column_name = $2
    AND s.row_key = t."id"::text COLLATE "C"
  OFFSET 0) AS e ON true"""
    assert (joined in sql) == bool(selection)


def test_ids_and_where_narrow_by_words_that_an_index_serves() -> None:
    where = (Compared('Odd "column', "In", ("a", "it's")), Compared("n", "IsNotNull"))
    one = page_sql(scope(ids=("1", "2"), where=where), 1)
    narrowed = """t."id" = ANY ($1::text[]::bigint[]) AND t."Odd ""column" IN ('a', 'it''s') AND t."n" IS NOT NULL"""
    assert f"WHERE {narrowed} AND t." in one.sql and one.args[0] == ["1", "2"]
    two = page_sql(scope(SKU, ID, ids=('["a", "1"]', '["b", "2"]')), 1)
    pairs = (
        """(t."s""ku", t."id") IN (SELECT i.k0::text, i.k1::bigint FROM unnest($1::text[], $2::text[]) AS i(k0, k1))"""
    )
    assert f"WHERE {pairs} AND t." in two.sql and two.args[:2] == (["a", "b"], ["1", "2"])


def test_the_write_is_guarded_by_the_hash_and_where_only_missing_is_filled_by_null() -> None:
    same = f"""{HASH} = a.text_hash\n"""
    sql = write_sql(scope(), ("uid", ""), [row("1")], [b"v"], 5, 4).sql
    assert f"""WHERE t."id" = a.k0::bigint\n    AND t."embedding" IS NULL AND {same}""" in sql
    assert """$2::"public".vector[]""" in sql
    for select in (Select.STALE, Select.ALL):
        sql = write_sql(scope(select=select), ("uid", ""), [row("1")], [b"v"], 5, 4).sql
        assert f"""WHERE t."id" = a.k0::bigint\n    AND {same}""" in sql


def test_a_copy_takes_what_was_made_of_the_same_text_and_is_still_there() -> None:
    sql = copy_sql(scope(), ("uid", ""), [row("1")]).sql
    text = HASH.replace("t.", "d.")
    assert """JOIN "public"."products" AS d ON d."id" = (to_json(e.row_key) #>> '{}')::bigint""" in sql
    assert f"""AND d."embedding" IS NOT NULL AND {text} = h.text_hash\n    LIMIT 1""" in sql
    assert "embedded_at >=" not in sql
    assert "AND e.embedded_at >= $" in copy_sql(scope(select=Select.ALL), ("uid", ""), [row("1")]).sql


def test_dimensions_are_looked_at_where_the_column_does_not_say() -> None:
    loose = replace(scope(select=Select.STALE), target=replace(target(ID), sized=False))
    assert """ OR "public".vector_dims(t."embedding") <> $5)""" in page_sql(loose, 1).sql
    assert """AND e.row_key IS NULL AND "public".vector_dims(t."embedding") = $""" in adopt_sql(loose, 1).sql
    assert """ AND "public".vector_dims(d."embedding") = $""" in copy_sql(loose, ("uid", ""), [row("1")]).sql


@pytest.mark.parametrize("selection", [selection for selection, _ in NEEDS])
def test_the_proof_asks_for_the_same_rows_as_the_pages(selection: dict[str, Any]) -> None:
    proof, page = proof_sql(scope(**selection)).sql, page_sql(scope(**selection), 1).sql
    assert page.split("\nWHERE ", 1)[1].split("\nORDER BY")[0] in proof
    assert ("OR EXISTS" in proof) == scope(**selection).selection.adopts


VALUES: list[tuple[str, Any, str]] = [
    ("text", "NULL", ""),
    ("text", "'a''b \\ {c}'", "a'b \\ {c}"),
    ("boolean", "true", "true"),
    ("numeric", "1.50", "1.50"),
    ("int[]", "ARRAY[1,NULL]", "{1,NULL}"),
    ("jsonb", """'{"a": 1}'""", '{"a": 1}'),
    ("char(4)", "'ab'", "ab"),
]


@pytest.mark.real
@pytest.mark.parametrize(("type_", "value", "text"), VALUES)
async def test_values_become_text_as_a_cast_makes_them(database_url: str, type_: str, value: str, text: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "pg_catalog, pg_temp"})
    try:
        sql = text_sql(parse_template("<{The \\ \"Column'}>\t\\n", "p: "), "t")
        await connection.execute(
            f"""CREATE TABLE public.t ("The \\ ""Column'" {type_}); INSERT INTO public.t VALUES ({value})"""
        )
        row = await connection.fetchrow(
            f"SELECT {sql.text} AS text, {sql.hash} AS hash, {sql.blank} AS blank FROM public.t AS t"
        )
        assert row is not None
        assert row["text"] == f"p: <{text}>\t\\n"
        assert row["hash"] == hashlib.sha256(row["text"].encode()).digest()
        assert row["blank"] is (text == "")
    finally:
        await connection.close()


@pytest.mark.real
async def test_every_template_is_read_by_a_server_of_any_setting(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"standard_conforming_strings": "off"})
    try:
        for literal in ["'", "\\", "\\'", "%$1", "\x7f", "\x1b", "é\n\r\t\f\v", '"', "--", "/*"]:
            sql = text_sql(parse_template(literal + "{a}"), "t").text
            assert await connection.fetchval(f"SELECT {sql} FROM (SELECT 1 AS a) t") == f"{literal}1"
    finally:
        await connection.close()
