"""What a decision about a VectorIndex may know of the world: frozen, without a way to touch it.

`observe.py` fills it, `plan.py` reads it. The words are those of the system catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from vectorops.clients.approvals import Approved
from vectorops.kinds.vectorindex.sizing import Spill


class Step(StrEnum):
    """How far an intent has come, as vectorops.intent.step says it."""

    ADOPTED = "Adopted"  # a claim: the index that bears the name, or shall bear it, is managed by us
    BUILDING = "Building"  # a build: written before CREATE INDEX is sent
    SWAPPED = "Swapped"  # a build: the names have changed places; the old index is still to be dropped
    DROPPING = "Dropping"  # what bears the name is to go; what a drop leaves half done is ours to finish


JobKind = Literal["build", "discard", "retire", "drop"]


@dataclass(frozen=True)
class Table:
    """The table, as found by schema and name."""

    oid: int
    kind: str  # pg_class.relkind
    rows: int  # as the planner estimates
    owned: bool  # whether our role may act as its owner
    owner: str
    role: str  # we
    creates: bool = True  # whether our role may create something in the schema
    dead_rows: int = 0  # as the statistics collector counts


@dataclass(frozen=True)
class Column:
    """The column; `type` is vector, halfvec, or the name of something else."""

    type: str
    dimensions: int | None
    others: tuple[str, ...] = ()  # all columns of the table; empty: not known


@dataclass(frozen=True)
class Index:
    """An index that bears a name we care for."""

    oid: int
    name: str
    table_oid: int
    valid: bool  # indisvalid and indisready and indislive
    method: str  # hnsw, ivfflat
    operator_class: str
    column: str | None
    cast: bool  # whether it indexes an expression over the column
    predicate: str | None  # of a partial index, as the server writes it
    options: Mapping[str, int]
    definition: str
    size_bytes: int
    scans: int
    comment: str | None = None
    attached: bool = False  # to a partitioned index: it cannot be dropped alone
    expression_dimensions: int | None = None  # n of the expression: binary_quantize(...)::bit(n) can cut


@dataclass(frozen=True)
class WhereSeen:
    """What the server says of spec.where."""

    same: bool  # the index that bears the name has this very predicate
    flaw: str = ""  # a condition that cannot be used, and why


@dataclass(frozen=True)
class Intent:
    """One row of our own in vectorops.intent."""

    build_name: str
    index_name: str
    table_oid: int
    step: str
    build_oid: int | None = None
    old_name: str | None = None
    old_oid: int | None = None
    attempt: str = ""  # hash of what was tried
    failure: str | None = None  # how it ended, if it did not succeed: a reason
    run_token: str | None = None
    updated_at: datetime | None = None
    term: int = 0  # grows with whatever is done about it


@dataclass(frozen=True)
class Rival:
    """Another VectorIndex that claims the same index. `alive` is False when no such object exists any more."""

    uid: str
    owner: str  # namespace/name
    alive: bool = True


@dataclass(frozen=True)
class Blocker:
    """The session that ours waits for, and since when ours waits."""

    pid: int
    age_seconds: int | None = None
    application: str | None = None
    waiting_seconds: int = 0


@dataclass(frozen=True)
class Backend:
    """A session of ours that is at work in the server, of this process or of one before."""

    pid: int
    started: datetime  # backend_start: with pid, the identity of a session
    statement_started: datetime | None
    creates: bool  # it is in CREATE INDEX, as far as progress says
    index_oid: int | None = None  # which it creates
    phase: str = ""
    blocks_done: int = 0
    blocks_total: int = 0
    tuples_done: int = 0
    blocker: Blocker | None = None


@dataclass(frozen=True)
class Job:
    """The long work of this process for this object, running or ended."""

    kind: JobKind
    running: bool
    started: datetime
    step: str  # a reason: WaitingForTableLock, Building, CleaningUp, DroppingOld
    build_name: str
    memory: int | None = None
    workers: int | None = None
    note: str = ""
    spill: Spill | None = None
    ended: datetime | None = None
    error_reason: str | None = None
    error_message: str = ""
    error_stalls: bool = False
    error_after: float = 0.0  # seconds that the other side asked for
    ending: bool = False  # it was told to end and will


@dataclass(frozen=True)
class Replica:
    """A standby. `state` None: our role may not see it; lag None: nothing is behind."""

    name: str
    state: str | None
    lag_seconds: float | None = None


@dataclass(frozen=True)
class Neighbour:
    """Another valid vector index of the table, and why a person should look at it."""

    name: str
    size_bytes: int
    duplicate: bool  # it answers the very same searches; else: no search has ever used it


@dataclass(frozen=True)
class ProbeSeen:
    """The last measurement of the recall in this process. Percents: the recall down, its bounds outwards."""

    running: bool
    index_oid: int
    ending: bool = False
    ended: datetime | None = None
    percent: int | None = None
    lower_percent: int | None = None
    upper_percent: int | None = None
    sampled: int = 0
    ef_search: int | None = None
    error_reason: str | None = None
    error_message: str = ""


@dataclass(frozen=True)
class Canary:
    """A search that had to use the index. `passed` is None when it could not be run."""

    passed: bool | None
    message: str


@dataclass(frozen=True)
class Observation:
    """The world as one VectorIndex sees it."""

    extension: tuple[int, ...]
    table: Table | None
    column: Column | None
    index: Index | None = None  # bears the wanted name, on whichever table
    where: WhereSeen | None = None  # None: there is no spec.where, or the index is ours and was looked at
    taken_by: str | None = None  # what else bears that name, in words
    built_by_others: bool = False  # a build of that name runs, and it is none of ours
    intents: tuple[Intent, ...] = ()  # of this object
    indexes: Mapping[str, Index] = field(default_factory=dict)  # those that our intents speak of, by name
    rivals: tuple[Rival, ...] = ()
    backend: Backend | None = None
    job: Job | None = None
    canary: Canary | None = None  # of `index`
    build_canary: Canary | None = None  # of the valid index that waits for the swap
    foreign_invalid: tuple[str, ...] = ()  # invalid indexes of the table that nobody of us made
    advisories: tuple[str, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    replicas: tuple[Replica, ...] = ()
    probe: ProbeSeen | None = None
    extension_schema: str = "public"
    place: str = ""  # of the database: the same for whoever connects to it
    approved: tuple[Approved, ...] = ()  # what people have approved, as written down; asked for while a build is begun
    own_scans: int = 0  # of `index.scans`: the searches that proved and measured it
