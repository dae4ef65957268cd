"""The statements that read the table: pages of rows to embed, the proof that none is left, the counts. Pure text.

Whether a row is to be embedded is said by the same words in all of them; see `selection.py`. They run on a session
whose search_path is pg_catalog and whose output formats are pinned, because keys travel as text.
"""

from __future__ import annotations

from collections.abc import Sequence

from vectorops.clients.embedding_packing import OPTIMISTIC_BYTES, READ_CHARACTERS
from vectorops.clients.texttemplate import text_sql
from vectorops.kinds.embeddingbackfill.selection import (
    Scope,
    adoptable_sql,
    column_sql,
    embedding_sql,
    failed_sql,
    key_parts,
    narrowed_sql,
    needs_sql,
    pending_sql,
    row_key_sql,
    rows_sql,
    stale_sql,
    unknown_sql,
)
from vectorops.kinds.embeddingbackfill.statement import Statement, Values
from vectorops.kinds.embeddingbackfill.target import Target


def page_sql(scope: Scope, rows: int, after: Sequence[str] | None = None) -> Statement:
    """The next rows to embed in key order: key text[], row_key, text (cut to what a model may read), text_hash."""
    v = scope.values(rows=rows, after=after)
    target, text = scope.target, text_sql(scope.target.template, "t")
    return v.statement(
        f"""SELECT {key_array_sql(target)} AS key, {row_key_sql(target)} AS row_key,
       left({text.text}, {READ_CHARACTERS}) AS text, {text.hash} AS text_hash
FROM {rows_sql(scope, v)}
WHERE {pending_sql(scope, v)}{"" if after is None else f"{chr(10)}  AND {after_sql(target, v)}"}
ORDER BY {order_sql(target)}
LIMIT {v["rows"]}"""  # noqa: S608 - identifiers are quoted, literals escaped
    )


def proof_sql(scope: Scope) -> Statement:
    """Whether any row is left to embed or to adopt: false is the proof that the work is done."""
    v = scope.values()
    left = f"EXISTS (SELECT FROM {rows_sql(scope, v)}\nWHERE {pending_sql(scope, v)})"
    if scope.selection.adopts:
        left += f"\nOR EXISTS (SELECT FROM {rows_sql(scope, v)}\nWHERE {adoptable_sql(scope, v)})"
    return v.statement(f"SELECT {left}")


def counts_sql(scope: Scope, *, bookkeeping: bool = True) -> Statement:
    """All figures of the selected rows in one scan: rows, embedded, blank, failed, stale, unknown, pending...

    blank: without a text, but for Missing only where they have no embedding either. stale: embeddings known to be of
    something else; unknown: embeddings written by others; neither is looked for with Missing. Without bookkeeping
    nothing was ever recorded here: nothing has failed, and every embedding is of unknown provenance.
    """
    v = scope.values()
    text, there = text_sql(scope.target.template, "t"), f"{embedding_sql(scope.target)} IS NOT NULL"
    looks = scope.selection.overwrites
    blank = text.blank if looks else f"NOT ({there}) AND {text.blank}"
    failed = f"{needs_sql(scope, v)} AND NOT {text.blank} AND {failed_sql(scope, v)}" if bookkeeping else "false"
    return v.statement(
        f"""SELECT count(*) AS rows, count(*) FILTER (WHERE r.present) AS embedded,
       count(*) FILTER (WHERE r.blank) AS blank, count(*) FILTER (WHERE r.failed) AS failed,
       count(*) FILTER (WHERE r.stale AND NOT r.blank) AS stale,
       count(*) FILTER (WHERE r.unknown AND NOT r.blank) AS unknown,
       count(r.size) AS pending, coalesce(sum(r.size), 0)::bigint AS pending_bytes,
       count(r.size) FILTER (WHERE NOT r.present) AS missing
FROM (
  SELECT s.present, s.blank, s.failed, s.stale, s.unknown,
         CASE WHEN s.needs AND NOT (s.blank OR s.failed) THEN s.size END AS size
  FROM (
    SELECT {there} AS present, {blank} AS blank, {failed} AS failed,
           {f"{there} AND ({stale_sql(scope, v)})" if looks else "false"} AS stale,
           {unknown_sql(scope, v) if looks else "false"} AS unknown,
           {needs_sql(scope, v)} AS needs,
           least(octet_length({text.text}), {OPTIMISTIC_BYTES}) AS size
    FROM {counted_sql(scope, v, bookkeeping)}
    WHERE {narrowed_sql(scope, v)}
    OFFSET 0) AS s
) AS r"""  # noqa: S608 - as above
    )


def absent_ids_sql(scope: Scope) -> Statement:
    """How many of the ids name no row of the table; fails where one does not read as the key's type."""
    keys = scope.target.keys
    v = scope.values()
    arrays = ", ".join(f"{v[f'id{number}']}::text[]" for number in range(len(keys)))
    same = " AND ".join(f"{column_sql(key)} = i.k{number}::{key.type}" for number, key in enumerate(keys))
    names = ", ".join(f"k{number}" for number in range(len(keys)))
    return v.statement(
        f"""SELECT count(*) FROM unnest({arrays}) AS i({names})
WHERE NOT EXISTS (SELECT FROM {scope.target.declared.name} AS t WHERE {same})"""  # noqa: S608 - as above
    )


def readable_id_sql(target: Target, one: str) -> Statement:
    """Reads one id as the key's type, or fails."""
    parts = key_parts([one], len(target.keys))
    v = Values(**{f"id{number}": part[0] for number, part in enumerate(parts)})
    return v.statement(
        "SELECT " + ", ".join(f"{v[f'id{number}']}::text::{key.type}::text" for number, key in enumerate(target.keys))
    )


def after_sql(target: Target, v: Values) -> str:
    """Rows behind the last key."""
    columns = [column_sql(key) for key in target.keys]
    values = [f"({v['after']}::text[])[{number}]::{key.type}" for number, key in enumerate(target.keys, start=1)]
    if len(columns) == 1:
        return f"{columns[0]} > {values[0]}"
    return f"({', '.join(columns)}) > ({', '.join(values)})"


def order_sql(target: Target) -> str:
    """The key's order."""
    return ", ".join(column_sql(key) for key in target.keys)


def key_array_sql(target: Target) -> str:
    """The key as text[], as `after` takes it."""
    return f"ARRAY[{', '.join(f'{column_sql(key)}::text' for key in target.keys)}]"


def counted_sql(scope: Scope, v: Values, bookkeeping: bool) -> str:
    """FROM: the rows with what is remembered of them; without bookkeeping nothing is."""
    if bookkeeping or not scope.selection.overwrites:
        return rows_sql(scope, v)
    nothing = "NULL::text AS row_key, NULL::bytea AS text_hash, NULL::bytea AS template_hash, NULL::text AS model"
    nothing += ", NULL::int AS dimensions, NULL::timestamptz AS embedded_at"
    return f"{scope.target.declared.name} AS t CROSS JOIN (SELECT {nothing}) AS e"
