"""Where the searches come from: rows of the table itself, or the log of real searches, as vectors or as texts.

What is no search is left: an empty text, a vector of other dimensions, a zero vector. Texts are embedded in batches
with the store's model for queries, and cost tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectorops.clients.postgres import Connection, qualified, quote_ident, speaking, statements
from vectorops.errors import Stalled
from vectorops.kinds.searchtuning.queries import FromTable
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.run import Run
from vectorops.recall.searching import Queries, draw_queries
from vectorops.recall.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUERIES = statements("vectorops.kinds.searchtuning")
HELD_OUT_ROWS = 1024  # of the table itself, where nothing else is asked for: most runs need a tenth of them
TEXTS = 128  # of one request to the provider: searches are short
MOST_CHARACTERS = 2000  # of one search: nobody types more
VECTORS = ("vector", "halfvec")


async def draw(run: Run, connection: Connection, target: Target) -> Queries:
    """The searches of this run. Raises Stalled (QueriesInvalid, QueryRightMissing) and what the provider raises."""
    asked = run.spec.queries
    if asked is None or asked.from_table is None:
        rows = (asked.held_out_rows if asked is not None else None) or HELD_OUT_ROWS
        return await draw_queries(connection, target, rows, run.index.rows or 0 if run.index is not None else 0)
    if asked.from_table.embedding_column is not None:
        return await _vectors(connection, target, asked.from_table, asked.from_table.embedding_column)
    return await _texts(run, connection, target, asked.from_table)


async def _vectors(connection: Connection, target: Target, wanted: FromTable, column: str) -> Queries:
    found = await _look_up(connection, wanted, column)
    if found["type"] not in VECTORS or found["modifier"] not in (None, target.dimensions):
        text = f"{_place(wanted, column)} is not of type vector({target.dimensions})."
        raise Stalled(Reason.QueriesInvalid, f"{text} {Reason.QueriesInvalid.next_step}")
    name, table = quote_ident(column), qualified(wanted.schema_name, wanted.table)
    dimensions = f"{qualified(target.extension_schema, 'vector_dims')}({name}) = {target.dimensions}"
    sql = f"SELECT {name}::text FROM {table} WHERE {name} IS NOT NULL AND {dimensions} ORDER BY random() LIMIT {wanted.rows}"  # noqa: E501, S608 - quoted names
    with speaking("drawing searches"):
        rows = await connection.fetch(sql)
    texts = tuple(row[0] for row in rows if any(character in "123456789" for character in row[0]))
    return Queries(texts, (None,) * len(texts))


async def _texts(run: Run, connection: Connection, target: Target, wanted: FromTable) -> Queries:
    assert wanted.query_column is not None and run.embedder is not None, "the API and act saw to it"
    found = await _look_up(connection, wanted, wanted.query_column)
    if found["category"] != "S":
        text = f"{_place(wanted, wanted.query_column)} is of type {found['type']}, not text."
        raise Stalled(Reason.QueriesInvalid, f"{text} {Reason.QueriesInvalid.next_step}")
    if run.embedder.account.dimensions != target.dimensions:
        text = f"The store's model has {run.embedder.account.dimensions} dimensions, the column {target.dimensions}."
        raise Stalled(Reason.QueriesInvalid, f"{text} {Reason.QueriesInvalid.next_step}")
    name, table = quote_ident(wanted.query_column), qualified(wanted.schema_name, wanted.table)
    sql = f"SELECT {name}::text FROM {table} WHERE length({name}) BETWEEN 1 AND {MOST_CHARACTERS} ORDER BY random() LIMIT {wanted.rows}"  # noqa: E501, S608 - quoted names
    with speaking("drawing searches"):
        rows = [run.query_prefix + row[0] for row in await connection.fetch(sql) if row[0].strip()]
    run.step = Reason.Embedding
    texts: list[str] = []
    for start in range(0, len(rows), TEXTS):
        run.may_spend()
        embedded = await run.embedder.embed(rows[start : start + TEXTS])
        texts += [_text(vector) for vector in embedded.vectors if vector is not None]
    return Queries(tuple(texts), (None,) * len(texts))


def _text(packed: bytes) -> str:
    """pgvector's binary form as text."""
    import numpy as np

    values: NDArray[np.float32] = np.frombuffer(packed, dtype=">f4", offset=4).astype(np.float32)
    return "[" + ",".join(repr(float(value)) for value in values) + "]"


async def _look_up(connection: Connection, wanted: FromTable, column: str) -> dict[str, object]:
    with speaking("looking for the log of searches"):
        row = await connection.fetchrow(QUERIES["look_up_column"], wanted.schema_name, wanted.table, column)
    place = _place(wanted, column)
    if row is None or row["type"] is None:
        what = "table" if row is None else "column"
        raise Stalled(Reason.QueriesInvalid, f"There is no {what} {place}. {Reason.QueriesInvalid.next_step}")
    if not row["readable"]:
        grant = f"GRANT SELECT ON {qualified(wanted.schema_name, wanted.table)} TO {quote_ident(row['role'])}"
        raise Stalled(Reason.QueryRightMissing, f"Our role may not read {place}. Run: {grant}.")
    return dict(row)


def _place(wanted: FromTable, column: str) -> str:
    return f"{qualified(wanted.schema_name, wanted.table)}.{quote_ident(column)}"
