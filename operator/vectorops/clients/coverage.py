"""How much of the declared tables is embedded: one statement for all of them, cheap at any size.

A table whose heap is at most 64 MiB is counted; of a larger one the same pages are sampled every time and scaled to its
estimated rows, and `exact` says so. A table that somebody holds exclusively, or that we may not read, is taken from the
statistics instead of waited for. The statement is built here, pure, and tested as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vectorops.clients.catalogue import Column
from vectorops.clients.postgres import Database
from vectorops.clients.sql import qualified, quote_ident
from vectorops.clients.texttemplate import TextTemplate, text_sql

EXACT_BYTES = 64 * 1024 * 1024
"""A scan of this much takes some 50 ms from the cache: every 30 s that is a fifth of a percent of one core. Vectors of
more than 2 kB are out of line (TOAST), so this is some 300,000 rows of a shop and 40,000 with vectors inline."""

SAMPLE_BYTES = 16 * 1024 * 1024
"""2,048 pages hold thousands of rows: the error of a share is about one percent, and percents are what is shown."""

PAGE_BYTES = 8192
"""BLCKSZ of every stock build; another one only changes how large the sample is."""


@dataclass(frozen=True)
class Declared:
    """A table to look at: its vector column as the catalogue has it, and the template where one is declared."""

    name: str
    column: Column
    template: TextTemplate | None = None


@dataclass(frozen=True)
class TableCoverage:
    """Figures of one declared table. Unless `exact` they are scaled from a sample or from statistics."""

    name: str
    rows: int
    missing: int  # embedding IS NULL
    embeddable: int  # rows with a text; all rows where no template is declared
    embedded: int  # of the embeddable ones
    exact: bool


async def read_coverage(database: Database, declared: Sequence[Declared]) -> tuple[TableCoverage, ...]:
    """Figures of all declared tables, in their order; at most one round trip."""
    readable = [(at, item) for at, item in enumerate(declared) if item.column.role_reads and not item.column.locked]
    counted: dict[int, TableCoverage] = {}
    if readable:
        for row in await database.fetch(coverage_sql(readable), what="counting the declared tables"):
            item = declared[row["at"]]
            counted[row["at"]] = _scaled(item, row["rows"], row["missing"], row["embeddable"], row["embedded"])
    return tuple(counted.get(at) or _from_statistics(item) for at, item in enumerate(declared))


def coverage_sql(declared: Sequence[tuple[int, Declared]]) -> str:
    """The statement for (position, table) pairs: position, rows, missing, embeddable and embedded of each."""
    return "\nUNION ALL\n".join(_table_sql(at, item) for at, item in declared)


def _table_sql(at: int, item: Declared) -> str:
    embedding = f"t.{quote_ident(item.column.column)}"
    text = f"NOT {text_sql(item.template, 't').blank}" if item.template else "true"
    return (  # identifiers are quoted, the rest is ours
        f"SELECT {int(at)} AS at, count(*) AS rows, count(*) - count({embedding}) AS missing,"  # noqa: S608
        f" count(*) FILTER (WHERE {text}) AS embeddable,"
        f" count({embedding}) FILTER (WHERE {text}) AS embedded"
        f" FROM {qualified(item.column.schema, item.column.table)} AS t{_sample(item.column)}"
    )


def _sample(column: Column) -> str:
    if exact(column):
        return ""
    # at least three digits, so that the server never sees 0; REPEATABLE: an unchanged table gives an unchanged figure
    percent = max(100.0 * SAMPLE_BYTES / column.heap_bytes, 0.0001)
    return f" TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (0)"


def exact(column: Column) -> bool:
    """Whether the table is small enough to be counted; a foreign table cannot be sampled and is taken as it comes."""
    return column.heap_bytes <= EXACT_BYTES or column.relkind == "f"


def _scaled(item: Declared, rows: int, missing: int, embeddable: int, embedded: int) -> TableCoverage:
    if exact(item.column):
        return TableCoverage(item.name, rows, missing, embeddable, embedded, exact=True)
    estimate = item.column.rows_estimate or round(rows * item.column.heap_bytes / SAMPLE_BYTES)
    factor = estimate / rows if rows else 0.0
    missing, embeddable, embedded = (round(figure * factor) for figure in (missing, embeddable, embedded))
    return TableCoverage(item.name, estimate, missing, embeddable, embedded, exact=False)


def _from_statistics(item: Declared) -> TableCoverage:
    rows = item.column.rows_estimate
    missing = round(rows * (item.column.null_fraction or 0.0))
    return TableCoverage(item.name, rows, missing, rows, rows - missing, exact=False)
