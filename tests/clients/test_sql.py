"""Quoting and named statements: what people write as a name means exactly that to the server, or is refused."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectorops.clients.sql import parse_statements, qualified, quote_ident, statements
from vectorops.errors import Reason, Stalled

WEIRD = ['we"ird; drop table x', "select", "MiXed", " lead", "tab\there", "'", "\\", "é" * 31, '"', "a.b", "$1", "%I"]
NAMES = st.one_of(st.sampled_from(WEIRD), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "é" * 32, "\ud800"])
def test_what_postgres_cannot_hold_or_would_cut_is_refused(name: str) -> None:
    with pytest.raises(Stalled) as caught:
        quote_ident(name)
    assert caught.value.reason == Reason.InvalidSpec


def test_a_qualified_name_quotes_both_parts() -> None:
    assert qualified("pub.lic", 'we"ird') == '"pub.lic"."we""ird"'


@pytest.mark.real
def test_a_quoted_name_means_itself_to_the_server(database_url: str) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
        @given(NAMES.filter(lambda name: len(name.encode()) <= 63))
        def check(name: str) -> None:
            ours = quote_ident(name)
            row = runner.run(connection.fetchrow(f"SELECT quote_ident($1) AS theirs, 1 AS {ours}", name))
            assert list(row.keys())[1] == name  # the parser took it for one identifier, unchanged
            assert row["theirs"] in (ours, name)  # the server quotes the same way, or sees no need to

        check()
        runner.run(connection.close())


def test_statements_are_told_apart_by_name_and_must_say_why() -> None:
    text = "-- preface\n-- name: one\n-- because\nSELECT 1;\n\n-- name: two\n-- because\nSELECT 2 -- two\n"
    assert parse_statements(text) == {"one": "-- because\nSELECT 1", "two": "-- because\nSELECT 2 -- two"}
    for broken in ("-- name: a\nSELECT 1", "-- name: a\n-- why", "-- name: a\n-- b\nX\n-- name: a\n-- b\nX"):
        with pytest.raises(ValueError, match="statement"):
            parse_statements(broken)


def test_statements_come_with_the_package() -> None:
    assert {"catalogue", "intents", "version"} == set(statements("vectorops.clients", "catalogue.sql"))
