"""The statements that depend on the table: pages of rows to embed, the counts, the write. Pure text, exact tests.

Every one says by the same words what is still to do: the embedding is NULL, the text is not blank, and no failure is
recorded for this very text, template and model. They run on a session whose search_path is pg_catalog and whose output
formats are pinned, because keys travel as text.

Parameters of all reading statements: $1 table_name, $2 column_name, $3 template_hash, $4 model, $5 since when failures
count. Reading pages adds $6 (rows) and, but for the first page, $7 (the last key, text[]).
"""

from __future__ import annotations

from vectorops.clients.embedding_packing import OPTIMISTIC_BYTES, READ_CHARACTERS
from vectorops.clients.sql import quote_ident
from vectorops.clients.texttemplate import text_sql
from vectorops.kinds.embeddingbackfill.target import KeyColumn, Target

WRITE_KEYS = 12  # the number of the first parameter that holds keys in `write_sql`


def page_sql(target: Target, *, first: bool) -> str:
    """The next rows to embed in key order: key text[], row_key, text (cut to what a model may read), text_hash."""
    text = text_sql(target.template, "t")
    after = "" if first else f"\n  AND {_after(target)}"
    return f"""SELECT {_key_array(target)} AS key, {row_key_sql(target)} AS row_key,
       left({text.text}, {READ_CHARACTERS}) AS text, {text.hash} AS text_hash
FROM {target.declared.name} AS t
WHERE {_pending(target)}{after}
ORDER BY {", ".join(_column(key) for key in target.keys)}
LIMIT $6"""  # noqa: S608 - identifiers are quoted, literals escaped


def pending_sql(target: Target) -> str:
    """Whether any row is left to embed: the proof that the work is done."""
    return f"SELECT EXISTS (SELECT FROM {target.declared.name} AS t\nWHERE {_pending(target)})"  # noqa: S608 - as above


def counts_sql(target: Target, *, bookkeeping: bool = True) -> str:
    """All figures of the table in one scan: rows, embedded, blank, failed, pending, pending_bytes.

    Without bookkeeping (nothing was ever recorded here) it has no parameters, and nothing has failed.
    """
    text = text_sql(target.template, "t")
    column = _embedding(target)
    failed = f"{column} IS NULL AND NOT {text.blank} AND {_failed(target)}" if bookkeeping else "false"
    return f"""SELECT count(*) AS rows, count(*) FILTER (WHERE r.present) AS embedded,
       count(*) FILTER (WHERE r.blank) AS blank, count(*) FILTER (WHERE r.failed) AS failed,
       count(r.size) AS pending, coalesce(sum(r.size), 0)::bigint AS pending_bytes
FROM (
  SELECT s.present, s.blank, s.failed, CASE WHEN NOT (s.present OR s.blank OR s.failed) THEN s.size END AS size
  FROM (
    SELECT {column} IS NOT NULL AS present,
           {column} IS NULL AND {text.blank} AS blank,
           {failed} AS failed,
           CASE WHEN {column} IS NULL THEN least(octet_length({text.text}), {OPTIMISTIC_BYTES}) END AS size
    FROM {target.declared.name} AS t
  ) AS s
) AS r"""  # noqa: S608 - as above


def write_sql(target: Target) -> str:
    """Write vectors to rows whose text is still the one embedded, remember that, settle the bill: one statement.

    $1 table_name, $2 column_name, $3 template_hash, $4 model, $5 dimensions, $6 request_uid, $7 run_token, $8 reserved,
    $9 billed, $10 text hashes, $11 vectors, from $12 on one text[] a key column. Returns the row_keys written.
    """
    names = [f"k{number}" for number in range(len(target.keys))]
    arrays = ["$10::bytea[]", f"$11::{quote_ident(target.type_schema)}.vector[]"]
    arrays += [f"${WRITE_KEYS + number}::text[]" for number in range(len(target.keys))]
    same = [f"{_column(key)} = a.{name}::{key.type}" for key, name in zip(target.keys, names, strict=True)]
    return f"""WITH answer AS (
  SELECT * FROM unnest({", ".join(arrays)}) AS u(text_hash, embedding, {", ".join(names)})
), written AS (
  UPDATE {target.declared.name} AS t SET {quote_ident(target.declared.column)} = a.embedding
  FROM answer AS a
  WHERE {" AND ".join(same)}
    AND {_embedding(target)} IS NULL AND {text_sql(target.template, "t").hash} = a.text_hash
  RETURNING {row_key_sql(target)} AS row_key, a.text_hash
), remembered AS (
  INSERT INTO vectorops.embedding_state
    (table_name, column_name, row_key, text_hash, template_hash, model, dimensions)
  SELECT $1, $2, w.row_key, w.text_hash, $3, $4, $5 FROM written AS w
  ON CONFLICT (table_name, column_name, row_key) DO UPDATE
  SET text_hash = excluded.text_hash, template_hash = excluded.template_hash, model = excluded.model,
      dimensions = excluded.dimensions, embedded_at = statement_timestamp()
), settled AS (
  UPDATE vectorops.spend
  SET tokens_reserved = greatest(0, tokens_reserved - $8), tokens_billed = tokens_billed + $9, requests = requests + 1,
      rows_done = rows_done + (SELECT count(*) FROM written), updated_at = statement_timestamp()
  WHERE request_uid = $6 AND run_token = $7
)
SELECT w.row_key FROM written AS w"""  # noqa: S608 - as above


def unchanged_sql(target: Target) -> str:
    """How many of these rows are still NULL with the same text. $1 text hashes, from $2 on one text[] a key column."""
    names = [f"k{number}" for number in range(len(target.keys))]
    arrays = ["$1::bytea[]"] + [f"${number + 2}::text[]" for number in range(len(target.keys))]
    same = [f"{_column(key)} = a.{name}::{key.type}" for key, name in zip(target.keys, names, strict=True)]
    return f"""SELECT count(*) FROM unnest({", ".join(arrays)}) AS a(text_hash, {", ".join(names)})
JOIN {target.declared.name} AS t ON {" AND ".join(same)}
WHERE {_embedding(target)} IS NULL AND {text_sql(target.template, "t").hash} = a.text_hash"""  # noqa: S608 - as above


def row_key_sql(target: Target) -> str:
    """The key as one text: itself if it is one column, else a JSON array of texts."""
    if len(target.keys) == 1:
        return f"{_column(target.keys[0])}::text"
    return f"json_build_array({', '.join(f'{_column(key)}::text' for key in target.keys)})::text"


def _pending(target: Target) -> str:
    blank = text_sql(target.template, "t").blank
    return f"{_embedding(target)} IS NULL AND NOT {blank}\n  AND NOT {_failed(target)}"


def _failed(target: Target) -> str:
    return (
        "EXISTS (SELECT FROM vectorops.failure AS f\n"
        f"    WHERE f.table_name = $1 AND f.column_name = $2 AND f.row_key = {row_key_sql(target)}\n"
        f"      AND f.text_hash = {text_sql(target.template, 't').hash}\n"
        "      AND f.template_hash = $3 AND f.model = $4 AND f.last_at >= $5)"
    )


def _after(target: Target) -> str:
    columns = [_column(key) for key in target.keys]
    values = [f"($7::text[])[{number}]::{key.type}" for number, key in enumerate(target.keys, start=1)]
    if len(columns) == 1:
        return f"{columns[0]} > {values[0]}"
    return f"({', '.join(columns)}) > ({', '.join(values)})"


def _key_array(target: Target) -> str:
    return f"ARRAY[{', '.join(f'{_column(key)}::text' for key in target.keys)}]"


def _column(key: KeyColumn) -> str:
    return f"t.{quote_ident(key.name)}"


def _embedding(target: Target) -> str:
    return f"t.{quote_ident(target.declared.column)}"
