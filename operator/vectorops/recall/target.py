"""What is searched, in the words of SQL: an index as the catalogue knows it, and how a query by it is written.

Everything comes from the index itself (its key, operator class and predicate as the server writes them), so an index
that nobody of ours made can be measured as well. Refused: operator classes whose exact answer is not computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vectorops.clients.catalogue import Catalogue, Column, Index
from vectorops.clients.sql import qualified, quote_ident
from vectorops.errors import Reason, Stalled


class Distance(StrEnum):
    """What is computed: the operator classes of pgvector, without the type."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "ip"
    L1 = "l1"
    HAMMING = "hamming"


OPERATOR = {
    Distance.COSINE: "<=>", Distance.L2: "<->", Distance.INNER_PRODUCT: "<#>", Distance.L1: "<+>",
    Distance.HAMMING: "<~>",
}  # fmt: skip
TYPES = ("vector", "halfvec", "bit")  # of columns and of index keys


@dataclass(frozen=True)
class Target:
    """One index to be measured. All names are quoted already where they are SQL."""

    index_oid: int
    index_name: str
    method: str  # hnsw, ivfflat
    table: str  # schema-qualified SQL
    column: str  # SQL
    column_type: str  # vector, halfvec, bit
    dimensions: int
    key: str  # SQL of what is indexed
    key_type: str  # vector, halfvec, bit
    distance: Distance
    extension_schema: str
    predicate: str | None = None  # SQL, without WHERE

    def where(self) -> str:
        """The rows that the index holds: not NULL, matching its predicate. Zero vectors are left to the reader."""
        rest = f" AND ({self.predicate})" if self.predicate else ""
        return f"{self.column} IS NOT NULL{rest}"

    def parameter(self) -> str:
        """SQL of $1 (text of a vector as the column has it) turned into what the key holds."""
        schema = self.extension_schema
        if self.column_type == "bit":
            return f"$1::text::bit({self.dimensions})"
        given = f"$1::text::{qualified(schema, self.column_type)}"
        if self.key_type == "bit":
            return f"{qualified(schema, 'binary_quantize')}({given})::bit({self.dimensions})"
        return given if self.key_type == self.column_type else f"({given})::{qualified(schema, self.key_type)}"

    def search_sql(self, limit: int) -> str:
        """The search the index is for: ctid and distance of the rows nearest to $1."""
        by = f"{self.key} OPERATOR({quote_ident(self.extension_schema)}.{OPERATOR[self.distance]}) {self.parameter()}"
        where = f" WHERE ({self.predicate})" if self.predicate else ""
        return f"SELECT ctid, {by} AS distance FROM ONLY {self.table}{where} ORDER BY {by} LIMIT {limit}"  # noqa: S608 - quoted names

    def copy_sql(self) -> str:
        """Every row that the index holds, for one pass: ctid and the column."""
        return f"SELECT ctid, {self.column} FROM ONLY {self.table} WHERE {self.where()}"  # noqa: S608 - quoted names

    def filled_sql(self) -> str:
        """How many rows have a vector (filled), of those that the index is for (rows)."""
        where = f" WHERE ({self.predicate})" if self.predicate else ""
        return f"SELECT count({self.column}) AS filled, count(*) AS rows FROM ONLY {self.table}{where}"  # noqa: S608 - quoted names

    def sample_sql(self, percent: float, seed: int, rows: int) -> str:
        """Rows to search with, drawn at random and always the same ones while the table is: ctid, text."""
        method = f"TABLESAMPLE BERNOULLI ({percent:.6f}) REPEATABLE ({seed})" if percent < 100 else ""
        order = f"hashtextextended(ctid::text, {seed})"
        return (
            f"SELECT ctid, {self.column}::text FROM ONLY {self.table} {method} WHERE {self.where()} "  # noqa: S608 - quoted names
            f"ORDER BY {order} LIMIT {rows}"
        )


def target_of(catalogue: Catalogue, index: Index) -> Target:
    """The target of an index. Raises Stalled(TargetNotFound) for one that cannot be measured."""
    key_type, _, rest = index.opclass.partition("_")
    name = rest.removesuffix("_ops")
    column = _column(catalogue, index)
    if catalogue.extension is None or column is None or column.dimensions is None:
        raise Stalled(Reason.TargetNotFound, f'The column behind index "{index.name}" has no dimensions or is gone.')
    if key_type not in TYPES or column.type not in TYPES or name not in {d.value for d in Distance}:
        text = f'Recall by operator class {index.opclass} of index "{index.name}" cannot be measured.'
        raise Stalled(Reason.TargetNotFound, f"{text} Name an index on a vector, halfvec or bit column.")
    plain = index.column is not None
    return Target(
        index_oid=index.oid, index_name=index.name, method=index.method,
        table=qualified(index.schema, index.table), column=quote_ident(column.column), column_type=column.type,
        dimensions=column.dimensions, key=quote_ident(column.column) if plain else f"({index.key})", key_type=key_type,
        distance=Distance(name), extension_schema=catalogue.extension.schema, predicate=index.predicate,
    )  # fmt: skip


def _column(catalogue: Catalogue, index: Index) -> Column | None:
    """The column that the index is over: by name, or the only one that its expression speaks of."""
    of_table = [c for c in catalogue.columns if c.table_oid == index.table_oid]
    if index.column is not None:
        return next((c for c in of_table if c.column == index.column), None)
    spoken = [c for c in of_table if quote_ident(c.column) in (index.key or "") or c.column in (index.key or "")]
    return max(spoken, key=lambda c: len(c.column), default=None)
