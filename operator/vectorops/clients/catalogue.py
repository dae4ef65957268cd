"""One snapshot of a database: what every room needs to know of it, read in one round trip.

`read_catalogue` gives server, extension, role, vector columns and indexes, running builds, our sessions and locks, what
is in the way of a build, and our intents. Frozen and ordered, so that two readings of an unchanged world are equal but
for the clock. It decides nothing, and it reads no row of a user's table (see `coverage.py`). Bounded: 1,000 columns and
1,000 indexes, in order of name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from vectorops.clients.activity import Blocker, Build, Replica, Session, TableLock, Transaction
from vectorops.clients.bookkeeping import look_sql, refuse
from vectorops.clients.bookkeeping.records import Records
from vectorops.clients.foreign import jsontext
from vectorops.clients.locks import LOCK_CLASS
from vectorops.clients.postgres import Database
from vectorops.clients.sql import statements
from vectorops.clients.sqlstate import sqlstate_of
from vectorops.errors import OperatorError, Reason, Transient

__all__ = [
    "Blocker", "Build", "Catalogue", "Column", "Extension", "Index", "Intent", "Replica", "Role", "Session", "Settings",
    "TableLock", "Transaction", "read_catalogue",
]  # fmt: skip


@dataclass(frozen=True)
class Extension:
    """The extension `vector` as installed in this database."""

    oid: int
    version: str  # e.g. "0.8.2"
    schema: str


@dataclass(frozen=True)
class Settings:
    """Server settings that sizing needs; memory in bytes."""

    maintenance_work_mem: int
    max_parallel_maintenance_workers: int
    max_parallel_workers: int
    max_worker_processes: int
    max_connections: int
    superuser_reserved_connections: int
    shared_buffers: int
    dynamic_shared_memory_type: str
    block_size: int


@dataclass(frozen=True)
class Role:
    """Who we are in this database and what that allows."""

    name: str
    superuser: bool
    may_create_schema: bool  # CREATE on the database
    sees_activity: bool  # pg_read_all_stats (part of pg_monitor): without it other roles' activity is hidden
    may_signal: bool  # pg_signal_backend


@dataclass(frozen=True)
class Column:
    """One vector, halfvec or sparsevec column of a table, partitioned table, materialized view or foreign table.

    Partitions and inheritance children count into their parent's figures, and stand beside it with `is_partition`.
    """

    schema: str
    table: str
    table_oid: int
    relkind: str  # as in pg_class: r, p, m, f
    column: str
    type: str  # vector, halfvec, sparsevec
    dimensions: int | None  # None: declared without
    owner: str
    persistence: str  # p, u
    is_partition: bool
    locked: bool  # somebody holds or awaits ACCESS EXCLUSIVE: reading the table would wait
    rows_analyzed: int | None  # reltuples at the last VACUUM or ANALYZE; None: never
    pages_analyzed: int  # relpages at that time
    heap_bytes: int  # main fork, now (of a locked table: at the last ANALYZE)
    total_bytes: int  # with TOAST and indexes
    live_rows: int  # the statistics collector's counters; 0 after they were reset
    dead_rows: int
    null_fraction: float | None  # pg_stats; None: never analysed, or no right to read
    column_names: tuple[str, ...]  # all columns of the table
    primary_key: tuple[str, ...]
    role_owns: bool
    role_reads: bool  # SELECT on the table and USAGE on its schema
    role_updates: bool  # UPDATE of this column
    role_creates: bool  # CREATE in the schema: an index needs it

    @property
    def rows_estimate(self) -> int:
        """Rows now as the planner would guess them: the density of the last ANALYZE times the present size."""
        if self.rows_analyzed is None or self.pages_analyzed <= 0:
            return max(self.live_rows, self.rows_analyzed or 0)
        return round(self.rows_analyzed / self.pages_analyzed * (self.heap_bytes / 8192))


@dataclass(frozen=True)
class Index:
    """One hnsw or ivfflat index, found by its operator class and not by its name."""

    oid: int
    schema: str
    name: str
    table: str
    table_oid: int
    method: str  # hnsw, ivfflat
    opclass: str  # e.g. vector_cosine_ops
    input_type: str  # vector, halfvec, bit, sparsevec
    column: str | None  # None: an expression
    key: str  # the column or the expression, as SQL
    predicate: str | None
    options: Mapping[str, str]  # WITH (...): m, ef_construction, lists
    definition: str  # pg_get_indexdef
    valid: bool
    ready: bool
    live: bool  # False: being dropped
    locked: bool  # its table is held exclusively: key, predicate and definition are those of the last reading
    check_xmin: bool  # True: not used by transactions older than it
    is_partitioned: bool
    is_partition: bool
    size_bytes: int
    rows: int | None
    scans: int  # since the statistics were reset
    file: int  # relfilenode: changes with a REINDEX
    comment: str | None
    owner: str
    role_owns: bool


@dataclass(frozen=True)
class Intent:
    """What is about to be done to an index, and by whom: a row of vectorops.intent (see `bookkeeping.sql`)."""

    uid: str
    build_name: str
    index_schema: str
    index_name: str
    table_oid: int
    build_oid: int | None
    old_name: str | None
    old_oid: int | None
    definition: str
    definition_hash: str
    step: str
    owner: str | None
    run_token: str | None
    created_at: datetime
    updated_at: datetime
    term: int = 0  # tables that no step has brought up to date have none


@dataclass(frozen=True)
class RoleSettings:
    """What new sessions of a role get in this database, of pgvector's own settings; and since when it has sessions."""

    role: str
    values: Mapping[str, str]  # hnsw.ef_search -> 80
    oldest_session: datetime | None


@dataclass(frozen=True)
class Catalogue:
    """Everything about one database at one moment. Lists are in order of name."""

    now: datetime  # the server's clock
    version_num: int  # e.g. 180006
    version: str
    database_oid: int
    in_recovery: bool
    extension: Extension | None
    available_version: str | None  # what CREATE EXTENSION would install
    settings: Settings
    role: Role
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    builds: tuple[Build, ...]
    sessions: tuple[Session, ...]
    locks: tuple[TableLock, ...]
    long_transactions: tuple[Transaction, ...]
    replicas: tuple[Replica, ...]
    role_settings: tuple[RoleSettings, ...]  # of roles that have such settings, or sessions here
    records: Records  # the schema vectorops, whether it may be used or not
    intents: tuple[Intent, ...] = field(default=())
    schema_version: int | None = None  # None: it has none, or may not be read

    @property
    def bookkeeping(self) -> bool:
        """Whether vectorops.intent is there, trusted, and may be read."""
        return "intent" in self.records.usable

    def refuse_strange_records(self) -> None:
        """What is there and may not be used must not look like nothing. Raises Stalled with what to do."""
        refuse(self.records, self.schema_version)

    def column(self, schema: str, table: str, column: str) -> Column | None:
        """That vector column, or None."""
        wanted = (schema, table, column)
        return next((c for c in self.columns if (c.schema, c.table, c.column) == wanted), None)

    def index(self, schema: str, name: str) -> Index | None:
        """That vector index, or None."""
        return next((i for i in self.indexes if (i.schema, i.name) == (schema, name)), None)


READING = "reading the catalogue"
MOST_VALUES = 1_000_000
"""In one snapshot: a thousand columns and a thousand indexes with seventy each, and tables of hundreds of columns; made
of as little text as can be, so many take 40 MB."""
_APPENDED = {"intent": "intents", "schema_version": "version"}
"""Tables of ours and the statements that read them: appended only where the last look found them trusted."""

_DEPARSED = ("key", "predicate", "definition")  # what the server opens the table for


@cache
def _reader() -> TypeAdapter[Catalogue]:
    return TypeAdapter(Catalogue)


async def read_catalogue(database: Database) -> Catalogue:
    """One snapshot. One round trip; a second one only when our bookkeeping appeared or vanished since the last."""
    asked = database.usable  # before the first statement: connecting forgets it
    catalogue = await _read(database, asked)
    usable = catalogue.records.usable & _APPENDED.keys()
    if usable != asked:
        database.usable = usable
        catalogue = await _read(database, usable)
    return catalogue


async def _read(database: Database, usable: frozenset[str]) -> Catalogue:
    queries = statements("vectorops.clients", "catalogue.sql")
    looks = f"({queries['catalogue']}) || ({look_sql()})"
    appended = "".join(f" || ({queries[_APPENDED[table]]})" for table in sorted(usable))
    try:
        text = await database.fetchval(f"SELECT {looks}{appended}", LOCK_CLASS, what=READING)  # constants of ours
    except OperatorError as exc:
        if not (usable and sqlstate_of(exc) in ("42P01", "42501", "3F000")):
            raise
        database.usable = frozenset()  # dropped or revoked under us
        text = await database.fetchval(f"SELECT {looks}", LOCK_CLASS, what=READING)
    content = jsontext.from_database(text, MOST_VALUES)
    content["records"] = Records.read(content["records"])
    _leave_out_vanished(content)
    _remembered(database, content["indexes"])
    return _reader().validate_python(content)


def _leave_out_vanished(content: dict[str, Any]) -> None:
    """Take out what was dropped while the statement ran: its snapshot has the row, but no function knows the oid."""
    content["columns"] = [column for column in content["columns"] if column["role_reads"] is not None]
    content["indexes"] = [
        index for index in content["indexes"] if index["locked"] or None not in (index["key"], index["definition"])
    ]


def _remembered(database: Database, indexes: list[dict[str, Any]]) -> None:
    """Fill in what the server would have waited for: an index keeps its definition for as long as it has its oid.

    Raises Transient(LockContended) for an index that was never seen unlocked: unknown must not look like different.
    """
    for index in indexes:
        if index["locked"]:
            known = database.definitions.get(index["oid"])
            if known is None:
                where = f'"{index["schema"]}"."{index["table"]}"'
                text = f"The table {where} is locked exclusively, so its index cannot be read."
                raise Transient(Reason.LockContended, f"{text} {Reason.LockContended.next_step}", after=5.0)
            index.update(known)
    database.definitions = {index["oid"]: {name: index[name] for name in _DEPARSED} for index in indexes}
