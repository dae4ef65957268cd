"""DDL of this room, as text. Pure: names come in, statements come out, nothing is sent.

Names are quoted by the one quoting function; classes, operators and types are named with the schema the extension
lives in, because our search_path holds none. Refused: IF NOT EXISTS (an invalid index of that name would count).
"""

from __future__ import annotations

import re

from vectorops.clients.postgres import qualified, quote_ident
from vectorops.kinds.vectorindex.naming import SUFFIX, TYPE, operator_class, options
from vectorops.kinds.vectorindex.resource import Metric, VectorIndexSpec

OPERATOR = {Metric.COSINE: "<=>", Metric.L2: "<->", Metric.INNER_PRODUCT: "<#>", Metric.L1: "<+>"}
NORM = {
    "vector": "vector_norm",
    "halfvec": "l2_norm",
}  # vector_norm exists since pgvector 0.1, halfvec came with l2_norm
_NAME = r'(?:"(?:[^"]|"")+"|[^\s"():.]+)'  # as the server writes identifiers
_CAST = re.compile(rf"^\(*({_NAME})\)?::(?:{_NAME}\.)?halfvec\(\d+\)\)*$")  # with or without its many parentheses


def indexed_sql(spec: VectorIndexSpec, extension_schema: str, dimensions: int, cast: bool) -> str:
    """What is indexed and searched: the column, or the column cast to halfvec(n)."""
    column = quote_ident(spec.column)
    return f"({column}::{qualified(extension_schema, 'halfvec')}({dimensions}))" if cast else column


def create_index_sql(
    name: str, spec: VectorIndexSpec, extension_schema: str, dimensions: int, cast: bool, lists: int
) -> str:
    """CREATE INDEX CONCURRENTLY under `name`; `lists` stands in for Auto."""
    key = indexed_sql(spec, extension_schema, dimensions, cast)
    key = f"({key})" if cast else key
    clause = ", ".join(f"{option} = {lists if value is None else value}" for option, value in options(spec).items())
    return (
        f"CREATE INDEX CONCURRENTLY {quote_ident(name)} ON {qualified(spec.schema_name, spec.table)} "
        f"USING {SUFFIX[spec.method]} ({key} {qualified(extension_schema, operator_class(spec))}) "
        f"WITH ({clause})"
    )


def drop_index_sql(schema: str, name: str) -> str:
    """DROP INDEX CONCURRENTLY."""
    return f"DROP INDEX CONCURRENTLY {qualified(schema, name)}"


def rename_index_sql(schema: str, name: str, new_name: str) -> str:
    """ALTER INDEX ... RENAME TO."""
    return f"ALTER INDEX {qualified(schema, name)} RENAME TO {quote_ident(new_name)}"


def comment_on_index_sql(schema: str, name: str, comment: str) -> str:
    """COMMENT ON INDEX; the statement takes no parameters."""
    return f"COMMENT ON INDEX {qualified(schema, name)} IS {quote_literal(comment)}"


def analyze_table_sql(schema: str, table: str) -> str:
    """ANALYZE."""
    return f"ANALYZE {qualified(schema, table)}"


def sample_sql(spec: VectorIndexSpec, extension_schema: str, column_type: str, rows: int) -> str:
    """Stored vectors that the index holds, as text: not NULL, and for Cosine not zero."""
    column = quote_ident(spec.column)
    norm = f"{qualified(extension_schema, NORM[column_type])}({column})"
    nonzero = f" AND {norm} > 0" if spec.metric is Metric.COSINE else ""
    table = qualified(spec.schema_name, spec.table)
    return f"SELECT {column}::text FROM ONLY {table} WHERE {column} IS NOT NULL{nonzero} LIMIT {rows}"  # noqa: S608 - quoted names


def search_sql(spec: VectorIndexSpec, extension_schema: str, dimensions: int, cast: bool, rows: int) -> str:
    """The search the index is for: the rows nearest to $1 (text of a vector)."""
    key = indexed_sql(spec, extension_schema, dimensions, cast)
    operator = f"OPERATOR({quote_ident(extension_schema)}.{OPERATOR[spec.metric]})"
    vector = f"$1::text::{qualified(extension_schema, TYPE[spec.storage])}"
    table = qualified(spec.schema_name, spec.table)
    return f"SELECT 1 FROM ONLY {table} ORDER BY {key} {operator} {vector} LIMIT {rows}"  # noqa: S608 - quoted names


def quote_literal(text: str) -> str:
    """A string literal that means exactly `text`, as the server's quote_literal writes it."""
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def cast_column(key: str) -> str | None:
    """The column behind an index key `(column)::schema.halfvec(n)` as pg_get_indexdef writes it; None for others."""
    found = _CAST.match(key)
    if found is None:
        return None
    name = found[1]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
