"""DDL of this room, as text. Pure: names come in, statements come out, nothing is sent.

Names are quoted by the one quoting function; classes, operators and types are named with the schema the extension
lives in, because our search_path holds none. Refused: IF NOT EXISTS (an invalid index of that name would count).
"""

from __future__ import annotations

import re

from vectorops.clients.postgres import qualified, quote_ident
from vectorops.clients.predicate import literal
from vectorops.kinds.vectorindex.naming import SUFFIX, TYPE, operator_class, options, predicate
from vectorops.kinds.vectorindex.resource import Metric, Storage, VectorIndexSpec

OPERATOR = {Metric.COSINE: "<=>", Metric.L2: "<->", Metric.INNER_PRODUCT: "<#>", Metric.L1: "<+>"}
HAMMING = "<~>"
NORM = {
    "vector": "vector_norm",
    "halfvec": "l2_norm",
}  # vector_norm exists since pgvector 0.1, halfvec came with l2_norm
_NAME = r'(?:"(?:[^"]|"")+"|[^\s"():.]+)'  # as the server writes identifiers
_CAST = re.compile(rf"^\(*({_NAME})\)?::(?:{_NAME}\.)?halfvec\((\d+)\)\)*$")  # with or without its many parentheses
_BITS = re.compile(rf"^\(*(?:{_NAME}\.)?binary_quantize\(({_NAME})\)\)?::bit\((\d+)\)\)*$")


def key_sql(spec: VectorIndexSpec, extension_schema: str, column_type: str, dimensions: int, value: str) -> str:
    """What is indexed of `value` (SQL of the column's type): itself, cast to halfvec(n), or its signs as bit(n)."""
    wanted = TYPE[spec.storage]
    if column_type == wanted:
        return value
    if wanted == "bit":
        return f"({qualified(extension_schema, 'binary_quantize')}({value})::bit({dimensions}))"
    return f"({value}::{qualified(extension_schema, wanted)}({dimensions}))"


def create_index_sql(
    name: str, spec: VectorIndexSpec, extension_schema: str, dimensions: int, column_type: str, lists: int
) -> str:
    """CREATE INDEX CONCURRENTLY under `name`; `lists` stands in for Auto."""
    key = key_sql(spec, extension_schema, column_type, dimensions, quote_ident(spec.column))
    clause = ", ".join(f"{option} = {lists if value is None else value}" for option, value in options(spec).items())
    where = f" WHERE {predicate(spec)}" if spec.where else ""
    return (
        f"CREATE INDEX CONCURRENTLY {quote_ident(name)} ON {qualified(spec.schema_name, spec.table)} "
        f"USING {SUFFIX[spec.method]} ({key} {qualified(extension_schema, operator_class(spec))}) "
        f"WITH ({clause}){where}"
    )


def drop_index_sql(schema: str, name: str) -> str:
    """DROP INDEX CONCURRENTLY."""
    return f"DROP INDEX CONCURRENTLY {qualified(schema, name)}"


def rename_index_sql(schema: str, name: str, new_name: str) -> str:
    """ALTER INDEX ... RENAME TO."""
    return f"ALTER INDEX {qualified(schema, name)} RENAME TO {quote_ident(new_name)}"


def comment_on_index_sql(schema: str, name: str, comment: str) -> str:
    """COMMENT ON INDEX; the statement takes no parameters."""
    return f"COMMENT ON INDEX {qualified(schema, name)} IS {literal(comment)}"


def analyze_table_sql(schema: str, table: str) -> str:
    """ANALYZE."""
    return f"ANALYZE {qualified(schema, table)}"


def sample_sql(spec: VectorIndexSpec, extension_schema: str, column_type: str, rows: int) -> str:
    """Stored vectors that the index holds, as text: not NULL, as `where` says, and for Cosine not zero."""
    column = quote_ident(spec.column)
    conditions = [f"{column} IS NOT NULL", *([predicate(spec)] if spec.where else [])]
    if spec.metric is Metric.COSINE and spec.storage is not Storage.BIT:
        conditions.append(f"{qualified(extension_schema, NORM[column_type])}({column}) > 0")
    table = qualified(spec.schema_name, spec.table)
    return f"SELECT {column}::text FROM ONLY {table} WHERE {' AND '.join(conditions)} LIMIT {rows}"  # noqa: S608 - quoted names


def search_sql(spec: VectorIndexSpec, extension_schema: str, column_type: str, dimensions: int, rows: int) -> str:
    """The search the index is for: the rows nearest to $1 (text of a vector of the column's type)."""
    key = key_sql(spec, extension_schema, column_type, dimensions, quote_ident(spec.column))
    by = HAMMING if spec.storage is Storage.BIT else OPERATOR[spec.metric]
    of_type = f"bit({dimensions})" if column_type == "bit" else qualified(extension_schema, column_type)
    vector = key_sql(spec, extension_schema, column_type, dimensions, f"$1::text::{of_type}")
    where = f" WHERE {predicate(spec)}" if spec.where else ""
    operator = f"OPERATOR({quote_ident(extension_schema)}.{by})"
    table = qualified(spec.schema_name, spec.table)
    return f"SELECT 1 FROM ONLY {table}{where} ORDER BY {key} {operator} {vector} LIMIT {rows}"  # noqa: S608 - quoted names


def expression_column(key: str) -> tuple[str, int] | None:
    """Column and n of an index key `(column)::schema.halfvec(n)` or `schema.binary_quantize(column)::bit(n)`, as
    pg_get_indexdef writes them; None for others."""
    found = _CAST.match(key) or _BITS.match(key)
    if found is None:
        return None
    name = found[1]
    return (name[1:-1].replace('""', '"') if name.startswith('"') else name), int(found[2])
