"""Coverage: counted where that is cheap, sampled where it is not, taken from statistics where reading would wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from vectorops.clients import coverage
from vectorops.clients.catalogue import Column, read_catalogue
from vectorops.clients.coverage import Declared, TableCoverage, coverage_sql, read_coverage
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.clients.texttemplate import parse_template

COLUMN = Column(
    schema="public",
    table='we"ird',
    table_oid=1,
    relkind="r",
    column="e",
    type="vector",
    dimensions=3,
    owner="o",
    persistence="p",
    is_partition=False,
    locked=False,
    rows_analyzed=1000,
    pages_analyzed=10,
    heap_bytes=10 * 8192,
    total_bytes=10 * 8192,
    live_rows=0,
    dead_rows=0,
    null_fraction=0.25,
    column_names=("id", "e", "title"),
    primary_key=("id",),
    role_owns=True,
    role_reads=True,
    role_updates=True,
    role_creates=True,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    yield databases.open(Target(SecretStr(database_url)))
    await databases.close()


async def shop(database: Database, rows: int) -> Column:
    """Every tenth row has no text, every fourth no embedding."""
    await database.execute("CREATE TABLE public.t (id int PRIMARY KEY, title text, e public.vector(3))")
    await database.execute(
        "INSERT INTO public.t SELECT i, CASE WHEN i % 10 > 0 THEN 'text' ELSE E' \\n' END, "
        f"CASE WHEN i % 4 > 0 THEN '[1,2,3]'::public.vector END FROM generate_series(1, {rows}) i"
    )
    await database.execute("ANALYZE public.t")
    return (await read_catalogue(database)).columns[0]


def test_the_statement_of_a_small_and_of_a_large_table() -> None:
    small = Declared("small", COLUMN)
    large = Declared("large", replace(COLUMN, heap_bytes=16 * coverage.SAMPLE_BYTES), parse_template("{title}"))
    embedding = 't."e"'
    text = "NOT (btrim(coalesce(t.\"title\"::text, ''), E' \\t\\n\\r\\x0b\\f') = '')"
    assert coverage_sql([(0, small), (2, large)]).splitlines() == [
        f"SELECT 0 AS at, count(*) AS rows, count(*) - count({embedding}) AS missing,"
        f" count(*) FILTER (WHERE true) AS embeddable, count({embedding}) FILTER (WHERE true) AS embedded"
        ' FROM "public"."we""ird" AS t',
        "UNION ALL",
        f"SELECT 2 AS at, count(*) AS rows, count(*) - count({embedding}) AS missing,"
        f" count(*) FILTER (WHERE {text}) AS embeddable, count({embedding}) FILTER (WHERE {text}) AS embedded"
        ' FROM "public"."we""ird" AS t TABLESAMPLE SYSTEM (6.250000) REPEATABLE (0)',
    ]


@pytest.mark.real
async def test_a_small_table_is_counted_exactly(database: Database) -> None:
    column = await shop(database, 1000)
    plain, templated = await read_coverage(
        database, [Declared("plain", column), Declared("templated", column, parse_template("{title}"))]
    )
    assert plain == TableCoverage("plain", 1000, 250, 1000, 750, exact=True)
    assert templated == TableCoverage("templated", 1000, 250, 900, 700, exact=True)


@pytest.mark.real
async def test_a_large_table_is_sampled_the_same_way_every_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = await shop(database, 100_000)
    monkeypatch.setattr(coverage, "EXACT_BYTES", 1024 * 1024)
    monkeypatch.setattr(coverage, "SAMPLE_BYTES", 1024 * 1024)
    declared = [Declared("t", column, parse_template("{title}"))]
    (first,) = await read_coverage(database, declared)
    assert not first.exact
    assert first.rows == pytest.approx(100_000, rel=0.01)
    assert first.missing == pytest.approx(25_000, rel=0.02)
    assert first.embeddable == pytest.approx(90_000, rel=0.02)
    assert (first,) == await read_coverage(database, declared)


@pytest.mark.real
async def test_a_table_that_is_locked_is_taken_from_statistics(database: Database) -> None:
    await shop(database, 1000)
    async with database.session("somebody") as session, session.transaction():
        await session.execute("LOCK TABLE public.t")
        column = (await read_catalogue(database)).columns[0]
        (figures,) = await read_coverage(database, [Declared("t", column)])
    assert not figures.exact
    assert figures.rows == pytest.approx(1000, rel=0.01)
    assert figures.missing == pytest.approx(250, rel=0.01)


@pytest.mark.real
async def test_partitions_are_counted_with_their_table(database: Database) -> None:
    await database.execute(
        "CREATE TABLE public.p (id int, e public.vector(3)) PARTITION BY RANGE (id);"
        "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (0) TO (10);"
        "INSERT INTO public.p VALUES (1, NULL), (2, '[1,2,3]')"
    )
    column = (await read_catalogue(database)).columns[0]
    assert await read_coverage(database, [Declared("p", column)]) == (TableCoverage("p", 2, 1, 2, 1, exact=True),)


async def test_without_tables_nothing_is_asked() -> None:
    nowhere = Databases().open(Target(SecretStr("postgresql://u:p@127.0.0.1:1/d")))
    assert await read_coverage(nowhere, []) == ()
    unreadable = Declared("t", replace(COLUMN, role_reads=False))
    assert await read_coverage(nowhere, [unreadable]) == (TableCoverage("t", 1000, 250, 1000, 750, exact=False),)
