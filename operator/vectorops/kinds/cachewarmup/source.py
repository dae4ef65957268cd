"""Where queries come from: the log of searches, a ConfigMap, or the request itself; and a sample as the log draws them.

What is no query (empty, over 2,000 characters, with control characters) is counted and left: it was typed by nobody.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vectorops.clients.foreign.budget import ANSWERS
from vectorops.clients.kubernetes_errors import Resource
from vectorops.clients.postgres import Connection, speaking, statements
from vectorops.clients.secrets import READING_BYTES
from vectorops.errors import OperatorError, Stalled
from vectorops.errors import Reason as Shared
from vectorops.kinds.cachewarmup.log_sql import MOST_BYTES, Log, arguments, drawn_sql, popular_sql
from vectorops.kinds.cachewarmup.queries import MOST_CHARACTERS, ConfigMapKeyRef, FromTable, Matching
from vectorops.kinds.cachewarmup.resource import Reason
from vectorops.kinds.cachewarmup.run import Run
from vectorops.runtime.context import Context
from vectorops.runtime.store import Store
from vectorops.runtime.tenancy import not_declared

PACKAGE = "vectorops.kinds.cachewarmup"
CONFIG_MAPS = Resource("", "v1", "configmaps")
MOST_LINES = 20_000  # of a ConfigMap: a megabyte of searches of fifty characters
READ_SECONDS = 120  # a scan of tens of millions of searches; a window narrows it
GENTLE = "SET statement_timeout = '{}s'; SET default_transaction_read_only = on"
SAMPLE = 100  # searches: a hit rate within about ten percent, nineteen times of twenty
CATEGORIES = {"query": "S", "count": "N", "time": "D"}  # pg_type.typcategory
WORDS = {"S": "text", "N": "a number", "D": "a date or a timestamp"}


@dataclass(frozen=True)
class Chosen:
    """The queries in order, the most searched first, and what the log says of them."""

    queries: tuple[str, ...]
    ignored: int = 0
    covered_percent: int | None = None

    @property
    def list_hash(self) -> str:
        """Of the ordered list."""
        digest = hashlib.sha256()
        for query in self.queries:
            digest.update(query.encode("utf-8", errors="surrogatepass") + b"\0")
        return digest.hexdigest()[:16]


def usable(text: str) -> bool:
    """Whether anyone may have typed it: as `log_sql` decides of rows."""
    if not text.strip() or len(text) > MOST_CHARACTERS or len(text.encode("utf-8", "replace")) > MOST_BYTES:
        return False
    return all(character >= " " and character != "\x7f" for character in text)


def listed(lines: Iterable[str]) -> Chosen:
    """Of lines: each query once, in their order."""
    kept: dict[str, None] = {}
    ignored = 0
    for line in lines:
        if usable(line):
            kept[line.strip()] = None
        else:
            ignored += 1
    return Chosen(tuple(kept), ignored)


async def config_map_lines(ctx: Context, namespace: str, ref: ConfigMapKeyRef) -> tuple[str, ...]:
    """The lines under the key. Raises Stalled (ConfigMapNotFound, RBACMissing)."""
    async with ANSWERS.hold(READING_BYTES):
        found = await ctx.kubernetes.read(CONFIG_MAPS, namespace, ref.name)
    if found is None:
        text = f"There is no ConfigMap {ref.name} in namespace {namespace}. {Reason.ConfigMapNotFound.next_step}"
        raise Stalled(Reason.ConfigMapNotFound, text)
    held = (found.get("data") or {}).get(ref.key)
    if held is None:
        told = f"ConfigMap {ref.name} has no key {ref.key} in its data. {Reason.ConfigMapNotFound.next_step}"
        raise Stalled(Reason.ConfigMapNotFound, told)
    lines = tuple(line for line in str(held).splitlines() if line)
    if len(lines) > MOST_LINES:
        told = f"ConfigMap {ref.name} has more than {MOST_LINES} lines under {ref.key}; leave what is searched most."
        raise Stalled(Shared.InvalidSpec, told)
    return lines


async def choose(run: Run) -> Chosen:
    """The queries of this run. Raises Stalled with a reason of this kind, and what the database raises."""
    wanted = run.wanted
    if wanted is None:
        return Chosen(())
    if wanted.from_table is None:
        return listed(run.lines if run.lines is not None else wanted.inline or ())
    log = await _log(run.store, wanted.from_table)
    args = arguments(log, _anchor(run))
    async with run.store.database.session(session_name(run.uid)) as connection:
        rows = await _read(connection, popular_sql(log), wanted.from_table.top, *args)
    kept = [row for row in rows if row["query"] is not None]
    ignored = int(rows[0]["ignored"]) if rows else 0
    total = float(rows[0]["total_weight"] or 0) if rows else 0.0
    covered = int(100 * sum(row["weight"] for row in kept) / total) if total else None
    return Chosen(tuple(row["query"] for row in kept), ignored, None if covered is None else min(100, covered))


async def draw(run: Run) -> Sequence[tuple[str, int]]:
    """A sample as people search: (query, how often it was drawn). Of a list each query is as likely as any other."""
    table = run.wanted.from_table if run.wanted is not None else None
    if table is None:
        queries = run.queries
        return sorted(Counter(random.choices(queries, k=SAMPLE)).items()) if queries else ()  # noqa: S311 - a sample
    log = await _log(run.store, table)
    async with run.store.database.session(session_name(run.uid)) as connection:
        rows = await _read(connection, drawn_sql(log), SAMPLE, *arguments(log, _anchor(run)))
    return [(row["query"], row["times"]) for row in rows]


def session_name(uid: str) -> str:
    """As every long session of ours is called."""
    return f"vectorops:vwarm:{uid}"


def _anchor(run: Run) -> datetime:
    assert run.ledger.started_at is not None, "set when the run began"
    return run.ledger.started_at  # the same window after a kill, and none of our own requests in it


async def _read(connection: Connection, sql: str, *args: Any) -> list[Any]:
    try:
        with speaking("reading the log of searches"):
            await connection.execute(GENTLE.format(READ_SECONDS))
            return list(await connection.fetch(sql, *args, timeout=READ_SECONDS + 5))
    except OperatorError as error:
        if error.reason != Shared.QueryCanceled:
            raise
        text = f"Reading the log of searches was cancelled, after at most {READ_SECONDS} s. "
        raise Stalled(Reason.LogTooLarge, text + Reason.LogTooLarge.next_step) from error


async def _log(store: Store, wanted: FromTable) -> Log:
    """The log's names, checked against the catalogue. Raises Stalled."""
    schema, table = wanted.schema_name, wanted.table or ""
    if wanted.table_name is not None:
        entry = next((one for one in store.spec.tables if one.name == wanted.table_name), None)
        if entry is None:
            known = ", ".join(one.name for one in store.spec.tables) or "none"
            text = f"VectorStore {store.name} declares no table {wanted.table_name}; it has: {known}. "
            raise Stalled(Reason.TableNotDeclared, text + Reason.TableNotDeclared.next_step)
        schema, table = entry.schema_name, entry.table
    elif refusal := not_declared(store.spec, store.name, schema, table):
        raise Stalled(Reason.TableNotDeclared, refusal)
    log = Log(
        schema,
        table,
        wanted.query_column,
        wanted.count_column,
        wanted.time_column,
        wanted.window_seconds,
        wanted.matching is Matching.EXACT,
    )
    columns = {"query": log.query, "count": log.count, "time": log.time}
    named = {role: column for role, column in columns.items() if column is not None}
    row = await store.database.fetchrow(statements(PACKAGE)["log_facts"], schema, table, list(named.values()))
    _check(f'"{schema}"."{table}"', named, row)
    return log


def _check(name: str, named: dict[str, str], row: Any) -> None:
    if row is None:
        raise Stalled(Reason.LogNotFound, f"There is no table {name}. {Reason.LogNotFound.next_step}")
    if not row["may_use"]:
        schema = name.split(".", 1)[0]
        text = f'Role "{row["role"]}" may not use schema {schema}: GRANT USAGE ON SCHEMA {schema} TO "{row["role"]}";'
        raise Stalled(Reason.LogRightMissing, text)
    seen = dict(zip(row["columns"], zip(row["categories"], row["readable"], strict=True), strict=True))
    for role, column in named.items():
        if column not in seen:
            text = f'{name} has no column "{column}". {Reason.LogColumnNotFound.next_step}'
            raise Stalled(Reason.LogColumnNotFound, text)
        category, readable = seen[column]
        if category != CATEGORIES[role]:
            told = f'Column "{column}" of {name} must be {WORDS[CATEGORIES[role]]}. {Reason.LogColumnType.next_step}'
            raise Stalled(Reason.LogColumnType, told)
        if not readable:
            text = f'Role "{row["role"]}" may not read {name}: GRANT SELECT ON {name} TO "{row["role"]}";'
            raise Stalled(Reason.LogRightMissing, text)
