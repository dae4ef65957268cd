"""The schema `vectorops` in a store's database: there before anyone writes to it.

`ensure_bookkeeping` looks first and writes only what is missing. Where the role may not, it names the exact statement
for an administrator. Reading and writing rows is the rooms' own business. Refused: altering tables that are there.
"""

from __future__ import annotations

from vectorops.clients.postgres import Database
from vectorops.clients.sql import quote_ident, statements
from vectorops.clients.sqlstate import sqlstate_of
from vectorops.errors import OperatorError, Reason, Stalled, Transient

TABLES = ("intent", "embedding_state", "failure", "spend", "ledger", "batch", "batch_row", "approval")
"""What `bookkeeping.sql` creates; a test compares."""

_MADE_MEANWHILE = frozenset({"42P06", "42P07", "23505"})
"""duplicate_schema, duplicate_table, unique_violation of the catalogue: another operator was a moment earlier."""

MAKING = "preparing the schema vectorops"
ATTEMPTS = 4
"""Schema, tables, and a look after each: whoever loses both races to another operator is through after three."""


async def ensure_bookkeeping(database: Database) -> None:
    """Create the schema and its tables where missing; remembered per Database until a statement misses them.

    Raises Stalled(InsufficientPrivilege) with the statement that an administrator should run.
    """
    if database.has_bookkeeping:
        return
    for _ in range(ATTEMPTS):
        if await _present(database):
            database.has_bookkeeping = database.has_intents = True
            return
        try:
            await _create(database)
        except OperatorError as exc:
            if sqlstate_of(exc) not in _MADE_MEANWHILE:
                raise
    text = "The tables of the schema vectorops were created and are not there; it is looked again."
    raise Transient(Reason.DatabaseError, text)


def forget_bookkeeping(database: Database) -> None:
    """Look again next time: a statement said that a table of the schema is missing (TargetNotFound)."""
    database.has_bookkeeping = database.has_intents = False


async def _present(database: Database) -> bool:
    """Whether all is there and ours to use. Raises Stalled where it is not and we may not mend it."""
    row = await database.fetchrow(
        statements("vectorops.clients", "bookkeeping.sql")["present"], list(TABLES), what=MAKING
    )
    if row is None:
        raise Transient(Reason.DatabaseError, "The database did not say what it holds; it is asked again.")
    role = quote_ident(row["role"])
    if not row["has_schema"]:
        if not row["may_create_schema"]:
            raise _refused(f"CREATE SCHEMA vectorops AUTHORIZATION {role}", row["database"])
        return False
    if not row["may_write"]:
        tables = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vectorops TO {role}"
        raise _refused(f"GRANT USAGE, CREATE ON SCHEMA vectorops TO {role}; {tables}", row["database"])
    if not row["has_tables"] and not row["may_create_tables"]:
        raise _refused(f"GRANT USAGE, CREATE ON SCHEMA vectorops TO {role}", row["database"])
    return bool(row["has_tables"])


async def _create(database: Database) -> None:
    queries = statements("vectorops.clients", "bookkeeping.sql")
    if not await database.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'vectorops')"):
        await database.execute(queries["create_schema"], what=MAKING)
    await database.execute(queries["create_tables"], what=MAKING)


def _refused(statement: str, name: str) -> Stalled:
    where = quote_ident(name)
    text = "The operator keeps its records in the schema vectorops and may not use it."
    return Stalled(Reason.InsufficientPrivilege, f"{text} Have an administrator run in database {where}: {statement};")
