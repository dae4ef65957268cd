"""Conditions as SQL, and the server's own words for them: what we wrote is recognised, what differs is told apart."""

from __future__ import annotations

import asyncpg
import pytest

from vectorops.clients.predicate import Compared, predicate_sql, same_predicate

COLUMNS = (
    'id int, "Ki nd" int, lang text, vc varchar(10), ch char(3), ok bool, price numeric, day date, big bigint, u uuid, '
    "ratio float8, e public.vector(3)"
)


def one(column: str, operator: str, *values: str) -> Compared:
    return Compared(column, operator, values)


RECOGNISED = [
    [one("Ki nd", "Equal", "1")],
    [one("Ki nd", "NotEqual", "-1")],
    [one("lang", "Equal", "e'n")],
    [one("lang", "Equal", "a::text (b) AND 'c'")],
    [one("lang", "Equal", "back\\slash")],
    [one("lang", "Equal", "")],
    [one("vc", "Equal", "en")],
    [one("ch", "Equal", "abc")],
    [one("ok", "Equal", "true")],
    [one("price", "GreaterOrEqual", "10.5")],
    [one("price", "Less", "-3")],
    [one("day", "Greater", "2024-01-01")],
    [one("big", "In", "1", "2")],
    [one("big", "LessOrEqual", "12345678901")],
    [one("lang", "In", "a", "b c", "d,e")],
    [one("vc", "In", "a", "b")],
    [one("lang", "In", "only")],
    [one("lang", "IsNull")],
    [one("lang", "IsNotNull")],
    [one("u", "Equal", "6f1d0c7e-0000-4000-8000-000000000003")],
    [one("ratio", "LessOrEqual", "0.5")],
    [one("ok", "In", "true", "false")],
    [one("Ki nd", "Equal", "1"), one("lang", "In", "x"), one("price", "IsNotNull")],
]


@pytest.mark.real
async def test_the_server_reads_what_was_meant_and_its_own_words_are_recognised(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "pg_catalog, pg_temp"})
    try:
        await connection.execute(f"CREATE TABLE public.t ({COLUMNS})")
        written = [predicate_sql(conditions) for conditions in RECOGNISED]
        servers: list[str] = []
        for number, ours in enumerate(written):
            sql = f"CREATE INDEX i{number} ON public.t USING hnsw (e public.vector_l2_ops) WHERE {ours}"
            await connection.execute(sql)
            asked = "SELECT pg_get_expr(indpred, indrelid, true) FROM pg_index WHERE indexrelid = $1::text::regclass"
            servers.append(await connection.fetchval(asked, f"public.i{number}"))
        for mine, ours in enumerate(written):
            for other, text in enumerate(servers):
                assert same_predicate(ours, text) == (mine == other), (ours, text)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("servers", "same"),
    [
        (None, False),
        ("kind = 1", True),
        ("(kind = 1)", True),
        ("kind = 1 AND true", False),
        ("kind = 1 OR kind = 2", False),
        ("lower(kind) = 1", False),
        ("NOT kind = 1", False),
        ("kind = 1 /* $ */", False),
        ("kind = (1 + 0)", False),
        ("kind <> 1", False),
        ("other = 1", False),
    ],
)
def test_what_is_not_surely_the_same_is_different(servers: str | None, same: bool) -> None:
    assert same_predicate(predicate_sql([one("kind", "Equal", "1")]), servers) is same


def test_no_condition_is_no_predicate() -> None:
    assert predicate_sql([]) == ""
    assert same_predicate("", None)
    assert not same_predicate("", "kind = 1")
