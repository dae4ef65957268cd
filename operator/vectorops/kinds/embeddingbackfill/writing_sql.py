"""The statements that write: embeddings bought, embeddings copied from an equal text, embeddings adopted. Pure text.

One guard for all: a row takes an embedding only while its text is the one the embedding was made from, and, where only
missing ones are asked for, while it has none. What it was made from is remembered in the same statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vectorops.clients.sql import quote_ident
from vectorops.clients.texttemplate import text_sql
from vectorops.kinds.embeddingbackfill.parts import Select
from vectorops.kinds.embeddingbackfill.selection import (
    Scope,
    adoptable_sql,
    column_sql,
    dimensions_sql,
    embedding_sql,
    row_key_sql,
    rows_sql,
)
from vectorops.kinds.embeddingbackfill.sql import after_sql, key_array_sql, order_sql
from vectorops.kinds.embeddingbackfill.statement import Statement, Values

REMEMBER = """INSERT INTO vectorops.embedding_state AS s
    (table_name, column_name, row_key, text_hash, template_hash, model, dimensions)
  SELECT {table}, {column}, w.row_key, w.text_hash, {template}, {model}, {dimensions} FROM written AS w
  ON CONFLICT (table_name, column_name, row_key) DO UPDATE
  SET text_hash = excluded.text_hash, template_hash = excluded.template_hash, model = excluded.model,
      dimensions = excluded.dimensions, embedded_at = statement_timestamp()"""
FORGIVE = """DELETE FROM vectorops.failure AS f USING written AS w
  WHERE f.table_name = {table} AND f.column_name = {column} AND f.row_key = w.row_key"""


class Keyed(Protocol):
    """A row by its key, and the hash of its text."""

    @property
    def key(self) -> tuple[str, ...]: ...

    @property
    def text_hash(self) -> bytes: ...


def write_sql(
    scope: Scope, account: tuple[str, str], rows: Sequence[Keyed], vectors: Sequence[bytes], reserved: int, billed: int,
    term: int = 0,
) -> Statement:  # fmt: skip
    """Write bought embeddings, remember that, settle the bill. Returns the row_keys written.

    account: request_uid and run_token; nothing is changed where it is of another `term`. `reserved` and `billed` 0
    settle nothing: another part of the answer does.
    """
    requests = int(bool(reserved or billed))
    v = _values(scope, account, rows, vectors=vectors, reserved=reserved, billed=billed, requests=requests, term=term)
    vector = f"{quote_ident(scope.target.type_schema)}.vector[]"
    arrays = ", ".join([f"{v['hashes']}::bytea[]", f"{v['vectors']}::{vector}", *_arrays(scope, v)])
    return v.statement(
        f"""WITH held AS MATERIALIZED (
  {_held(v)}
), answer AS (
  SELECT * FROM unnest({arrays}) AS u(text_hash, embedding, {_names(scope)})
), written AS (
  UPDATE {scope.target.declared.name} AS t SET {quote_ident(scope.target.declared.column)} = a.embedding
  FROM answer AS a
  WHERE {_same(scope)}
    AND {_guard(scope)}
    AND EXISTS (SELECT FROM held)
  RETURNING {row_key_sql(scope.target)} AS row_key, a.text_hash
), remembered AS (
  {_remember(v)}
), forgiven AS (
  {_forgive(v)}
), settled AS (
  UPDATE vectorops.spend
  SET tokens_reserved = greatest(0, tokens_reserved - {v["reserved"]}), tokens_billed = tokens_billed + {v["billed"]},
      requests = requests + {v["requests"]}, rows_done = rows_done + (SELECT count(*) FROM written),
      updated_at = statement_timestamp()
  WHERE request_uid = {v["uid"]} AND run_token = {v["token"]} AND term = {v["term"]}
)
SELECT w.row_key FROM written AS w"""  # noqa: S608 - identifiers are quoted, literals escaped
    )


def copy_sql(scope: Scope, account: tuple[str, str], rows: Sequence[Keyed], term: int = 0) -> Statement:
    """Give rows the embedding of another row that was made from the same text. Returns the row_keys written.

    The other row must have that text still. With All only what this run has made counts.
    """
    v = _values(scope, account, rows, term=term)
    target, text = scope.target, text_sql(scope.target.template, "d").hash
    fits = "" if target.sized else f" AND {dimensions_sql(target, 'd')} = {v['dimensions']}"
    made = f" AND e.embedded_at >= {v['begun']}" if scope.selection.select is Select.ALL and scope.begun else ""
    return v.statement(
        f"""WITH held AS MATERIALIZED (
  {_held(v)}
), wanted AS (
  SELECT * FROM unnest({", ".join([f"{v['hashes']}::bytea[]", *_arrays(scope, v)])}) AS u(text_hash, {_names(scope)})
), made AS MATERIALIZED (
  SELECT h.text_hash, m.embedding
  FROM (SELECT DISTINCT text_hash FROM wanted) AS h
  CROSS JOIN LATERAL (
    SELECT {embedding_sql(target, "d")} AS embedding
    FROM vectorops.embedding_state AS e
    JOIN {target.declared.name} AS d ON {_donor(scope)}
    WHERE e.table_name = {v["table_name"]} AND e.column_name = {v["column_name"]} AND e.text_hash = h.text_hash
      AND e.template_hash = {v["template_hash"]} AND e.model = {v["model"]} AND e.dimensions = {v["dimensions"]}{made}
      AND {embedding_sql(target, "d")} IS NOT NULL AND {text} = h.text_hash{fits}
    LIMIT 1
  ) AS m
), written AS (
  UPDATE {target.declared.name} AS t SET {quote_ident(target.declared.column)} = m.embedding
  FROM wanted AS a JOIN made AS m ON m.text_hash = a.text_hash
  WHERE {_same(scope)}
    AND {_guard(scope)}
    AND EXISTS (SELECT FROM held)
  RETURNING {row_key_sql(target)} AS row_key, a.text_hash
), remembered AS (
  {_remember(v)}
), forgiven AS (
  {_forgive(v)}
), counted AS (
  UPDATE vectorops.spend
  SET rows_done = rows_done + (SELECT count(*) FROM written), updated_at = statement_timestamp()
  WHERE request_uid = {v["uid"]} AND run_token = {v["token"]} AND EXISTS (SELECT FROM written)
)
SELECT w.row_key FROM written AS w"""  # noqa: S608 - as above
    )


def adopt_sql(scope: Scope, rows: int, after: Sequence[str] | None = None) -> Statement:
    """Record today's texts as those of the next embeddings that others have written. Returns the keys, in order."""
    v = scope.values(rows=rows, after=after)
    target = scope.target
    return v.statement(
        f"""WITH written AS (
  SELECT {key_array_sql(target)} AS key, {row_key_sql(target)} AS row_key,
         {text_sql(target.template, "t").hash} AS text_hash,
         row_number() OVER (ORDER BY {order_sql(target)}) AS number
  FROM {rows_sql(scope, v)}
  WHERE {adoptable_sql(scope, v)}{"" if after is None else f" AND {after_sql(target, v)}"}
  ORDER BY {order_sql(target)}
  LIMIT {v["rows"]}
), remembered AS (
  {_remember(v).partition("  ON CONFLICT")[0]}  ON CONFLICT DO NOTHING
)
SELECT w.key FROM written AS w ORDER BY w.number"""  # noqa: S608 - as above
    )


def unchanged_sql(scope: Scope, rows: Sequence[Keyed]) -> Statement:
    """How many of these rows could still take what was made from their texts."""
    v = _values(scope, ("", ""), rows)
    arrays = ", ".join([f"{v['hashes']}::bytea[]", *_arrays(scope, v)])
    return v.statement(
        f"""SELECT count(*) FROM unnest({arrays}) AS a(text_hash, {_names(scope)})
JOIN {scope.target.declared.name} AS t ON {_same(scope)}
WHERE {_guard(scope)}"""  # noqa: S608 - as above
    )


def _values(scope: Scope, account: tuple[str, str], rows: Sequence[Keyed], **more: object) -> Values:
    keys = {f"k{number}": [row.key[number] for row in rows] for number in range(len(scope.target.keys))}
    hashes = [row.text_hash for row in rows]
    return scope.values(uid=account[0], token=account[1], hashes=hashes, **keys, **more)


def _arrays(scope: Scope, v: Values) -> list[str]:
    return [f"{v[f'k{number}']}::text[]" for number in range(len(scope.target.keys))]


def _names(scope: Scope) -> str:
    return ", ".join(f"k{number}" for number in range(len(scope.target.keys)))


def _same(scope: Scope) -> str:
    keys = enumerate(scope.target.keys)
    return " AND ".join(f"{column_sql(key)} = a.k{number}::{key.type}" for number, key in keys)


def _donor(scope: Scope) -> str:
    keys = scope.target.keys
    if len(keys) == 1:
        # through json, which has no collation: that of row_key would stand against the key's own
        return f"{column_sql(keys[0], 'd')} = (to_json(e.row_key) #>> '{{}}')::{keys[0].type}"
    parts = enumerate(keys)
    return " AND ".join(f"{column_sql(key, 'd')} = (e.row_key::json ->> {number})::{key.type}" for number, key in parts)


def _guard(scope: Scope) -> str:
    same = f"{text_sql(scope.target.template, 't').hash} = a.text_hash"
    return same if scope.selection.overwrites else f"{embedding_sql(scope.target)} IS NULL AND {same}"


def _held(v: Values) -> str:
    """Our account while it is of our term; nobody takes it before the statement has ended."""
    mine = f"request_uid = {v['uid']} AND run_token = {v['token']} AND term = {v['term']}"
    return f"SELECT FROM vectorops.spend WHERE {mine} FOR SHARE"


def _remember(v: Values) -> str:
    names = {"table": "table_name", "column": "column_name", "template": "template_hash"}
    known = {name: v[names.get(name, name)] for name in (*names, "model", "dimensions")}
    return REMEMBER.format(**known)


def _forgive(v: Values) -> str:
    """What is embedded is not recorded as refused any more."""
    return FORGIVE.format(table=v["table_name"], column=v["column_name"])
