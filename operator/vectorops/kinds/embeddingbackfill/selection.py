"""Which rows a request is about, as a condition over one row: what every statement says by the same words. Pure.

A row is told by its embedding and by what `vectorops.embedding_state` (alias e) remembers of it:

    select    needs embedding, unless its text is blank or recorded as refused
    Missing   no embedding
    Stale     Missing, or made from another text, template, model or dimensions
    All       everything that this run has not made

An embedding without state is of unknown provenance: others have written it. Stale adopts it (today's text is recorded
as its text) or embeds it again. ids and where narrow any of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vectorops.clients.predicate import Compared, predicate_sql
from vectorops.clients.sql import quote_ident
from vectorops.clients.texttemplate import text_sql
from vectorops.kinds.embeddingbackfill.parts import Select, UnknownProvenance
from vectorops.kinds.embeddingbackfill.resource import Spec
from vectorops.kinds.embeddingbackfill.statement import Values
from vectorops.kinds.embeddingbackfill.target import KeyColumn, Target


@dataclass(frozen=True)
class Selection:
    """What the spec selects."""

    select: Select = Select.MISSING
    ids: tuple[str, ...] | None = None
    where: tuple[Compared, ...] = ()
    unknown: UnknownProvenance = UnknownProvenance.ADOPT

    @property
    def adopts(self) -> bool:
        """Whether embeddings of unknown provenance are recorded as those of today's texts."""
        return self.select is Select.STALE and self.unknown is UnknownProvenance.ADOPT

    @property
    def overwrites(self) -> bool:
        """Whether a row that has an embedding may get another."""
        return self.select is not Select.MISSING


def selection_of(spec: Spec) -> Selection:
    """What the spec selects."""
    conditions = (
        Compared(w.column, w.operator, tuple(w.values or ([w.value] if w.value is not None else [])))
        for w in spec.where or ()
    )
    ids = tuple(spec.ids) if spec.ids is not None else None
    return Selection(spec.select, ids, tuple(conditions), spec.unknown_provenance)


@dataclass(frozen=True)
class Scope:
    """A selection of a table, in one run: what the statements are made of."""

    target: Target
    selection: Selection
    since: datetime  # failures recorded before do not count
    begun: datetime | None = None  # of the run, by the database's clock; None: nothing was made by it yet

    def values(self, **more: object) -> Values:
        """What any statement may name: of bookkeeping, of the selection, and `more`."""
        declared = self.target.declared
        keys = key_parts(self.selection.ids or (), len(self.target.keys))
        return Values(
            table_name=declared.name,
            column_name=declared.column,
            template_hash=self.target.template.fingerprint,
            model=declared.model,
            dimensions=declared.dimensions,
            since=self.since,
            begun=self.begun,
            **{f"id{number}": part for number, part in enumerate(keys)},
            **more,
        )


def key_parts(ids: Sequence[str], columns: int) -> list[list[str]]:
    """ids by key column; of a key of several columns each is a JSON array of texts. Raises ValueError."""
    if columns == 1:
        return [list(ids)]
    try:
        rows = [json.loads(one) for one in ids]
    except RecursionError as exc:
        raise ValueError("an id is nested deeper than anything that is one") from exc
    for row in rows:
        if not isinstance(row, list) or len(row) != columns or not all(isinstance(part, str) for part in row):
            raise ValueError("an id is no JSON array with a text for each key column")
    return [[row[number] for row in rows] for number in range(columns)]


def narrowed_sql(scope: Scope, v: Values) -> str:
    """ids and where; `true` for neither."""
    conditions = []
    keys = scope.target.keys
    if scope.selection.ids is not None and len(keys) == 1:
        conditions.append(f"{column_sql(keys[0])} = ANY ({v['id0']}::text[]::{keys[0].type}[])")
    elif scope.selection.ids is not None:
        columns = ", ".join(column_sql(key) for key in keys)
        arrays = ", ".join(f"{v[f'id{number}']}::text[]" for number in range(len(keys)))
        wanted = ", ".join(f"i.k{number}::{key.type}" for number, key in enumerate(keys))
        names = ", ".join(f"k{number}" for number in range(len(keys)))
        conditions.append(f"({columns}) IN (SELECT {wanted} FROM unnest({arrays}) AS i({names}))")  # noqa: S608 - quoted
    if scope.selection.where:
        conditions.append(predicate_sql(scope.selection.where, "t"))
    return " AND ".join(conditions) or "true"


def rows_sql(scope: Scope, v: Values) -> str:
    """FROM: the table as t, and what is remembered of its rows as e where the selection asks for that."""
    table = f"{scope.target.declared.name} AS t"
    return f"{table}\n{state_join_sql(scope, v)}" if scope.selection.overwrites else table


def state_join_sql(scope: Scope, v: Values) -> str:
    """What is remembered of a row. OFFSET 0 keeps it a look-up of one row: a join is planned by statistics.

    Of a table just filled these are wrong, and all that is remembered would be gone through for every row.
    """
    return f"""LEFT JOIN LATERAL (
  SELECT * FROM vectorops.embedding_state AS s
  WHERE s.table_name = {v["table_name"]} AND s.column_name = {v["column_name"]}
    AND s.row_key = {row_key_sql(scope.target)}
  OFFSET 0) AS e ON true"""  # noqa: S608 - identifiers are quoted


def needs_sql(scope: Scope, v: Values) -> str:
    """Whether a row needs an embedding, whatever its text is. Needs `rows_sql`."""
    absent = f"{embedding_sql(scope.target)} IS NULL"
    if scope.selection.select is Select.MISSING:
        return absent
    if scope.selection.select is Select.ALL:
        if scope.begun is None:
            return "true"
        return f"({absent} OR {differs_sql(scope, v)} OR e.embedded_at < {v['begun']})"
    if scope.selection.unknown is UnknownProvenance.EMBED:
        return f"({absent} OR {differs_sql(scope, v)})"
    return f"({absent} OR {stale_sql(scope, v)})"


def differs_sql(scope: Scope, v: Values) -> str:
    """Whether an embedding is not known to be of today's text, template and model, or has not today's dimensions."""
    text = text_sql(scope.target.template, "t")
    made = "(e.text_hash, e.template_hash, e.model, e.dimensions)"
    now = f"({text.hash}, {v['template_hash']}::bytea, {v['model']}::text, {v['dimensions']}::int)"
    return f"{made} IS DISTINCT FROM {now}{_or_unfit(scope, v)}"


def stale_sql(scope: Scope, v: Values) -> str:
    """Whether an embedding is known to be of something else."""
    return f"e.row_key IS NOT NULL AND {differs_sql(scope, v)}"


def unknown_sql(scope: Scope, v: Values) -> str:
    """Whether an embedding that could be of today's text was written by others."""
    there = f"{embedding_sql(scope.target)} IS NOT NULL AND e.row_key IS NULL"
    return there if scope.target.sized else f"{there} AND {dimensions_sql(scope.target)} = {v['dimensions']}"


def failed_sql(scope: Scope, v: Values) -> str:
    """Whether this very text is recorded as refused. OFFSET 0 as in `state_join_sql`."""
    return (
        "EXISTS (SELECT FROM vectorops.failure AS f\n"
        f"    WHERE f.table_name = {v['table_name']} AND f.column_name = {v['column_name']} "
        f"AND f.row_key = {row_key_sql(scope.target)}\n"
        f"      AND f.text_hash = {text_sql(scope.target.template, 't').hash}\n"
        f"      AND f.template_hash = {v['template_hash']} AND f.model = {v['model']} AND f.last_at >= {v['since']}\n"
        "    OFFSET 0)"
    )


def pending_sql(scope: Scope, v: Values) -> str:
    """Whether a selected row is to be embedded. Needs `rows_sql`."""
    blank = text_sql(scope.target.template, "t").blank
    wanted = f"{narrowed_sql(scope, v)} AND {needs_sql(scope, v)}"
    return f"{wanted}\n  AND NOT {blank}\n  AND NOT {failed_sql(scope, v)}"


def adoptable_sql(scope: Scope, v: Values) -> str:
    """Whether a selected row's embedding is to be adopted. Needs `rows_sql`."""
    blank = text_sql(scope.target.template, "t").blank
    return f"{narrowed_sql(scope, v)} AND {unknown_sql(scope, v)}\n  AND NOT {blank}"


def row_key_sql(target: Target, alias: str = "t") -> str:
    """The key as one text: itself if it is one column, else a JSON array of texts.

    With the collation of our own columns: the key's own may be another, and then no index of ours would be used.
    """
    texts = [f"{column_sql(key, alias)}::text" for key in target.keys]
    text = texts[0] if len(texts) == 1 else f"json_build_array({', '.join(texts)})::text"
    return f'{text} COLLATE "C"'


def column_sql(key: KeyColumn, alias: str = "t") -> str:
    """A key column."""
    return f"{alias}.{quote_ident(key.name)}"


def embedding_sql(target: Target, alias: str = "t") -> str:
    """The embedding column."""
    return f"{alias}.{quote_ident(target.declared.column)}"


def dimensions_sql(target: Target, alias: str = "t") -> str:
    """How many dimensions an embedding has; reads all of it, so asked only where the type does not say."""
    return f"{quote_ident(target.type_schema)}.vector_dims({embedding_sql(target, alias)})"


def _or_unfit(scope: Scope, v: Values) -> str:
    if scope.target.sized:
        return ""
    return f" OR {dimensions_sql(scope.target)} <> {v['dimensions']}"
