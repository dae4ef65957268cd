"""What goes on in a database: builds, sessions, locks, transactions and replicas, as the catalogue reports them.

Shapes only; `catalogue.py` reads them. Another role's activity is hidden without pg_monitor, except its pid and name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Blocker:
    """Whom a build waits for. Another role's age and state are None without pg_monitor."""

    pid: int
    age_seconds: int | None  # of its transaction, else of its session
    application_name: str
    state: str | None


@dataclass(frozen=True)
class Build:
    """A CREATE INDEX or REINDEX that runs now, ours or not (pg_stat_progress_create_index).

    Of another role's, without pg_monitor, only pid and table are known: index_oid is None, the figures are 0.
    """

    pid: int
    backend_start: datetime | None
    application_name: str
    query_start: datetime | None
    table_oid: int
    index_oid: int | None
    command: str
    phase: str
    blocks_done: int
    blocks_total: int
    tuples_done: int
    tuples_total: int
    lockers_done: int
    lockers_total: int
    blocker: Blocker | None


@dataclass(frozen=True)
class Session:
    """A backend of ours in this database."""

    pid: int
    backend_start: datetime | None
    application_name: str
    state: str | None
    query_start: datetime | None
    wait_event_type: str | None


@dataclass(frozen=True)
class TableLock:
    """A table's advisory lock (see `locks.py`) and who holds it."""

    table_oid: int
    pid: int
    application_name: str


@dataclass(frozen=True)
class Transaction:
    """One of the five oldest open transactions; pid 0: a prepared one, which no session owns."""

    pid: int
    age_seconds: int
    application_name: str
    state: str | None


@dataclass(frozen=True)
class Replica:
    """A standby that streams from this server; lag in seconds is None while there is nothing to measure."""

    application_name: str
    state: str | None
    lag_seconds: float | None
