"""One sweep: the shared catalogue, then coverage of the declared tables; beside it the search service's endpoints.

Two round trips to the database in a healthy world.

An error of the database is itself something seen: it is returned, not raised, so that the conditions can say which
part is unknown and which is not. Refused: deciding what any of it means, and writing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from vectorops.clients.catalogue import Catalogue
from vectorops.clients.coverage import Declared, TableCoverage, read_coverage
from vectorops.clients.sql import statements
from vectorops.clients.texttemplate import TemplateError, TextTemplate, parse_template
from vectorops.errors import OperatorError, Stalled, Transient, Waiting
from vectorops.kinds.vectorstore.act import Refusals
from vectorops.kinds.vectorstore.observation import Failure, Observation, TableSeen
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store
from vectorops.runtime.store_spec import TableSpec, VectorStoreSpec

FRESH_SHARE = 0.5
"""Of the period: a snapshot that a dependant has just read serves the sweep too; an older one is read anew."""


class Observer:
    """Sweeps stores, and shows what act could not set."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals

    async def observe(
        self, ctx: Context, subject: Subject, spec: VectorStoreSpec, status: VectorStoreStatus
    ) -> Observation:
        """What is so. Nothing is asked while the store is suspended or being deleted."""
        seen = await _observe(ctx, subject, spec)
        if spec.search is None:
            self._refusals.known.pop(subject.uid, None)
            return seen
        rivals = ctx.stores.search_rivals(subject.namespace, subject.name, spec.search)
        return replace(seen, search_rivals=rivals, set_failure=self._refusals.known.get(subject.uid))


async def _observe(ctx: Context, subject: Subject, spec: VectorStoreSpec) -> Observation:
    """What is so. Nothing is asked while the store is suspended or being deleted."""
    if spec.suspend or subject.deleting_since is not None:
        return Observation()
    try:
        store = await ctx.stores.open(subject.namespace, subject.name, subject.uid, subject.generation, spec)
    except OperatorError as error:
        return Observation(failure=_failure(error))
    database, service = await asyncio.gather(_database(ctx, store), _service(ctx, store))
    return replace(database, service=service.service, service_failure=service.service_failure)


async def _database(ctx: Context, store: Store) -> Observation:
    try:
        period = store.spec.health_check_period_seconds
        catalogue = await ctx.stores.catalogue(store, max_age=period * FRESH_SHARE)
        tables = await _declared_tables(store, catalogue)
    except OperatorError as error:
        return Observation(failure=_failure(error))
    try:
        return Observation(catalogue, tables=await _with_coverage(store, tables))
    except OperatorError as error:
        return Observation(catalogue, tables=tables, coverage_failure=_failure(error))


async def _service(ctx: Context, store: Store) -> Observation:
    """One request an endpoint; the sweep is shared by nobody, for only this room asks for it."""
    if store.spec.service is None:
        return Observation()
    try:
        return Observation(service=await ctx.stores.service_figures(store))
    except OperatorError as error:
        return Observation(service_failure=_failure(error))


def _failure(error: OperatorError) -> Failure:
    after = error.after if isinstance(error, Waiting | Transient) else 0.0
    return Failure(error.reason, error.message, isinstance(error, Stalled), after)


async def _declared_tables(store: Store, catalogue: Catalogue) -> tuple[TableSeen, ...]:
    """The tables of the spec as the catalogue has them; one more statement only where one is not among them."""
    tables = [_table_seen(entry, catalogue) for entry in store.spec.tables]
    lost = [at for at, table in enumerate(tables) if table.column is None]
    if lost and catalogue.extension is not None:
        wanted = [tables[at] for at in lost]
        names = [t.schema for t in wanted], [t.table for t in wanted], [t.column_name for t in wanted]
        rows = await store.database.fetch(statements("vectorops.kinds.vectorstore")["presence"], *names)
        for at, row in zip(lost, rows, strict=True):
            tables[at] = replace(tables[at], table_exists=row["table_exists"], column_type=row["column_type"])
    return tuple(tables)


def _table_seen(entry: TableSpec, catalogue: Catalogue) -> TableSeen:
    column = catalogue.column(entry.schema_name, entry.table, entry.embedding_column)
    seen = TableSeen(entry.name, entry.schema_name, entry.table, entry.embedding_column, column)
    try:
        template = _template(entry)
    except TemplateError as error:
        return replace(seen, template_error=str(error))
    if column is None:
        return seen
    named = [*(template.columns if template else ()), *(entry.key_columns or ())]
    named += [entry.updated_at_column] if entry.updated_at_column else []
    unknown = tuple(dict.fromkeys(name for name in named if name not in column.column_names))
    return replace(seen, unknown_columns=unknown)


def _template(entry: TableSpec) -> TextTemplate | None:
    return parse_template(entry.text_template, entry.document_prefix) if entry.text_template else None


async def _with_coverage(store: Store, tables: tuple[TableSeen, ...]) -> tuple[TableSeen, ...]:
    """The same tables with their figures; those with an unusable template are counted as if they had none."""
    declared = []
    for entry, table in zip(store.spec.tables, tables, strict=True):
        if table.column is not None:
            usable = table.template_error is None and not table.unknown_columns
            declared.append(Declared(table.name, table.column, _template(entry) if usable else None))
    counted: dict[str, TableCoverage] = {c.name: c for c in await read_coverage(store.database, declared)}
    return tuple(replace(table, coverage=counted.get(table.name)) for table in tables)
