"""pg_prewarm: vector indexes and their tables into the database's memory, where the extension is there and they fit.

Only a help: whatever goes wrong here is told in status and ends nothing.
"""

from __future__ import annotations

from vectorops.clients.catalogue import Catalogue
from vectorops.clients.postgres import speaking, statements
from vectorops.clients.sql import quote_ident
from vectorops.errors import OperatorError
from vectorops.kinds.cachewarmup.resource import Prewarmed
from vectorops.kinds.cachewarmup.run import Run
from vectorops.kinds.cachewarmup.source import PACKAGE, session_name
from vectorops.runtime.rounding import two_digits

SHARE = 0.75  # of shared_buffers: what is read last must not push out what was read first
LONGEST_SECONDS = 300
AGE = 60.0  # seconds: which indexes there are changes seldom


async def prewarm(run: Run) -> Prewarmed:
    """Read what fits, indexes before tables. Raises nothing of ours."""
    try:
        facts = await run.store.database.fetchrow(statements(PACKAGE)["prewarm_facts"])
        if facts is None:
            return Prewarmed(skipped="The extension pg_prewarm is not in this database.")
        if not facts["may_execute"]:
            return Prewarmed(skipped="The role may not execute pg_prewarm: GRANT EXECUTE on it.")
        catalogue = await run.stores.catalogue(run.store, AGE)
        fitting, left = _fitting(run, catalogue, int(facts["shared_bytes"] * SHARE))
        for oid, _ in fitting:
            await _read(run, facts["schema"], oid)
    except OperatorError as error:
        return Prewarmed(skipped=f"{error.reason}: {error.message}"[:256])
    size = two_digits(sum(size for _, size in fitting))
    text = f"{left} relations are larger than what is left of shared_buffers." if left else None
    return Prewarmed(relations=len(fitting), size_bytes=size, skipped=text)


def _fitting(run: Run, catalogue: Catalogue, most: int) -> tuple[list[tuple[int, int]], int]:
    """((oid, bytes) of what fits, how many do not)."""
    declared = {(table.schema_name, table.table) for table in run.store.spec.tables}
    mine = [index for index in catalogue.indexes if index.valid and (index.schema, index.table) in declared]
    tables = {
        column.table_oid: column.heap_bytes
        for column in catalogue.columns
        if (column.schema, column.table) in declared and column.relkind in ("r", "m")
    }
    wanted = [(index.oid, index.size_bytes) for index in mine if not index.is_partitioned] + list(tables.items())
    fitting: list[tuple[int, int]] = []
    for oid, size in wanted:
        if size <= most:
            fitting.append((oid, size))
            most -= size
    return fitting, len(wanted) - len(fitting)


async def _read(run: Run, schema: str, oid: int) -> None:
    async with run.store.database.session(session_name(run.uid)) as connection:
        with speaking("reading into memory with pg_prewarm"):
            await connection.execute(f"SET statement_timeout = '{LONGEST_SECONDS}s'")
            sql = f"SELECT {quote_ident(schema)}.pg_prewarm($1::oid::regclass)"
            await connection.fetchval(sql, oid, timeout=LONGEST_SECONDS + 5)
