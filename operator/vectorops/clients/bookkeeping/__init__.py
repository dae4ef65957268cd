"""The schema `vectorops` in a store's database: there, trusted and of our version before anyone writes to it.

`ensure_bookkeeping` looks first and writes only what is missing. The schema has a version, the row of
`vectorops.schema_version`, and numbered steps, `steps/NNNN-name.sql`: each is taken under an advisory lock, in one
transaction with its number. Tables without that row are those of the first release, which the first step leaves alone.

To add a step: write the next number's file, and nothing else; raise nothing by hand, VERSION counts the files. Its SQL

- may be run again on what it has made (IF NOT EXISTS, ON CONFLICT): a table that was dropped begins at step 1 again;
- only adds (a table, a column with a constant default): the former version's statements still run beside it;
- takes milliseconds: it never rewrites or scans a table, and `embedding_state` may have a row for each row of a user;
- uses no default but constants, statement_timestamp() and clock_timestamp(), no function in a check, no trigger,
  no view, no index on an expression: `look.sql` trusts nothing else;
- and a new table is named in TABLES (`records.py`).

Refused: a schema of a newer version (SchemaNewer), one that is not to be trusted (SchemaNotTrusted, see `records.py`),
and one that our role may not use or alter, with the exact statements for an administrator.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files

from vectorops.clients.bookkeeping.records import TABLES, VERSION_TABLE, Records
from vectorops.clients.dead_peers import transaction
from vectorops.clients.foreign import jsontext
from vectorops.clients.postgres import Connection, Database
from vectorops.clients.sql import statements
from vectorops.clients.sqlstate import sqlstate_of
from vectorops.errors import Reason, Stalled, Transient, Waiting

__all__ = ["TABLES", "VERSION", "Records", "ensure_bookkeeping", "look", "look_sql", "refuse", "refuse_newer", "steps"]

PACKAGE = "vectorops.clients.bookkeeping"
MAKING = "preparing the schema vectorops"
LOOKING = "looking at the schema vectorops"
MOST_VALUES = 10_000  # in one look: ten tables, and what is wrong with them
FIRST = 1  # the step that begins everything
STEPS_LOCK = 0x766F7073 + 1  # beside LOCK_CLASS, whose second key is a table
STEP_POLL = 0.1  # seconds: a step takes milliseconds
STEP_PATIENCE = 50  # polls: five seconds, then the pass is given back
_MADE_MEANWHILE = frozenset({"42P06", "42P07", "23505"})
"""duplicate_schema, duplicate_table, unique_violation of the catalogue: another operator was a moment earlier."""


@cache
def steps() -> tuple[str, ...]:
    """The SQL of all steps, in order; the file's number is the version it leads to. Raises ValueError for a gap."""
    found = sorted(item.name for item in files(PACKAGE).joinpath("steps").iterdir() if item.name.endswith(".sql"))
    if [int(name[:4]) for name in found] != list(range(FIRST, FIRST + len(found))):
        raise ValueError("the steps are not numbered one by one")
    return tuple(files(PACKAGE).joinpath("steps", name).read_text(encoding="utf-8") for name in found)


VERSION = len(steps())
"""The version that this operator works with."""


@cache
def look_sql() -> str:
    """The statement whose one jsonb value `Records.read` takes; it has no parameters and runs nobody's code."""
    names = ",".join((*TABLES, VERSION_TABLE))
    return statements(PACKAGE, "look.sql")["look"].replace(":tables", f"'{{{names}}}'")


async def ensure_bookkeeping(database: Database) -> None:
    """Bring the schema to our version, or find it there. Two round trips where nothing is to be done.

    Raises Stalled: InsufficientPrivilege with the statements for an administrator, SchemaNotTrusted, SchemaNewer.
    Waiting(LockHeld) where another operator is at it for long.
    """
    for _ in range(STEP_PATIENCE):
        records = await look(database)
        next_step = _next(records, await _version(database, records))
        if next_step is None:
            return
        refused = records.may_step()
        if refused is not None:
            raise refused
        if not await _take(database, next_step):
            await asyncio.sleep(STEP_POLL)
    text = "Another session holds the lock of the schema vectorops; it is looked again."
    raise Waiting(Reason.LockHeld, text)


async def look(database: Database) -> Records:
    """The schema as it is now. Raises Stalled where what is there may not be used."""
    return _usable(await database.fetchval(look_sql(), what=LOOKING))


def refuse_newer(version: int) -> None:
    """Raise Stalled(SchemaNewer) for a schema that a newer operator has brought further than we know."""
    if version > VERSION:
        text = f"The schema vectorops has version {version} and this operator knows {VERSION}."
        raise Stalled(Reason.SchemaNewer, f"{text} {Reason.SchemaNewer.next_step}")


def _usable(text: str | None) -> Records:
    if text is None:
        raise Transient(Reason.DatabaseError, "The database did not say what it holds; it is asked again.")
    records = Records.read(jsontext.from_database(text, MOST_VALUES)["records"])
    refused = records.refusal()
    if refused is not None:
        raise refused
    return records


async def _version(to: Database | Connection, records: Records) -> int:
    """The version of the row; 0 without one: the first step leaves the tables of the first release as they are."""
    return max(0, int(await to.fetchval(_sql("version")))) if VERSION_TABLE in records.tables else 0


def _next(records: Records, version: int) -> int | None:
    """The step to be taken; None where nothing is to be done. Raises Stalled(SchemaNewer)."""
    refuse_newer(version)
    if version < VERSION:
        return version + 1
    return None if records.complete else FIRST  # somebody has dropped a table


async def _take(database: Database, step: int) -> bool:
    """Take one step, if it is still the next. False: another session is at it."""
    async with database.session("vectorops:schema") as connection:
        try:
            return await _taken(connection, step)
        except Exception as error:
            if sqlstate_of(error) in _MADE_MEANWHILE:
                return False
            raise


async def _taken(connection: Connection, step: int) -> bool:
    async with transaction(connection):
        await connection.fetchrow(_sql("bound_step"))
        if not await connection.fetchval(_sql("lock_steps"), STEPS_LOCK):
            return False
        records = _usable(await connection.fetchval(look_sql()))
        if _next(records, await _version(connection, records)) != step:
            return True  # another operator has taken it
        if not records.has_schema:
            await connection.execute(_sql("create_schema"))
        await connection.execute(_sql("create_version"))
        await connection.execute(steps()[step - FIRST])
        await connection.execute(_sql("keep_version"), step)
        _usable(await connection.fetchval(look_sql()))  # what was planted a moment before is not taken for ours
    return True


def _sql(name: str) -> str:
    return statements(PACKAGE, "look.sql")[name]


def refuse(records: Records, version: int | None) -> None:
    """For whoever only reads: what is there and may not be used must not look like nothing. Raises Stalled."""
    refused = records.refusal()
    if refused is not None:
        raise refused
    refuse_newer(version or 0)
