"""The text of a row, as SQL: exact statements, and what a real server makes of them."""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.clients.texttemplate import TemplateError, parse_template, text_sql
from vectorops.kinds.embeddingbackfill.sql import page_sql, pending_sql, row_key_sql, write_sql
from vectorops.kinds.embeddingbackfill.target import Declared, KeyColumn, Target

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


def test_a_page_goes_on_behind_the_last_key() -> None:
    text = """coalesce(t."title"::text, '')"""
    assert (
        page_sql(target(ID), first=False)
        == rf"""SELECT ARRAY[t."id"::text] AS key, t."id"::text AS row_key,
       left(({text}), 65528) AS text, sha256(convert_to({text}, 'UTF8')) AS text_hash
FROM "public"."products" AS t
WHERE t."embedding" IS NULL AND NOT (btrim({text}, E' \t\n\r\x0b\f') = '')
  AND NOT EXISTS (SELECT FROM vectorops.failure AS f
    WHERE f.table_name = $1 AND f.column_name = $2 AND f.row_key = t."id"::text
      AND f.text_hash = sha256(convert_to({text}, 'UTF8'))
      AND f.template_hash = $3 AND f.model = $4 AND f.last_at >= $5)
  AND t."id" > ($7::text[])[1]::bigint
ORDER BY t."id"
LIMIT $6"""
    )
    assert "$7" not in page_sql(target(ID), first=True)


def test_a_composite_key_is_compared_as_a_row() -> None:
    sql = page_sql(target(SKU, ID), first=False)
    assert """(t."s""ku", t."id") > (($7::text[])[1]::text, ($7::text[])[2]::bigint)""" in sql
    assert row_key_sql(target(SKU, ID)) == """json_build_array(t."s""ku"::text, t."id"::text)::text"""


def test_the_write_is_guarded_by_null_and_by_the_hash_of_the_same_expression() -> None:
    sql = write_sql(target(ID))
    assert (
        """t."embedding" IS NULL AND sha256(convert_to(coalesce(t."title"::text, ''), 'UTF8')) = a.text_hash""" in sql
    )
    assert """$11::"public".vector[]""" in sql and """t."id" = a.k0::bigint""" in sql


def test_the_proof_asks_for_the_same_rows_as_the_pages() -> None:
    condition = pending_sql(target(ID)).split("WHERE ", 1)[1].removesuffix(")")
    assert condition in page_sql(target(ID), first=True)


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
