"""What a decision may know: the frozen picture that `observe.py` takes. Pure types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from vectorops.clients.approvals import Approved
from vectorops.clients.ledger import Entry, Request
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.kinds.embeddingbackfill.target import Declared, Flaw, Target

EVER = datetime(1, 1, 1, tzinfo=UTC)  # before any failure: all that were recorded count
NEVER = datetime(9999, 1, 1, tzinfo=UTC)  # after any failure: none counts


@dataclass(frozen=True)
class Terms:
    """What may be changed while the work runs."""

    budget: int | None = None  # tokens
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    rows_per_second: int | None = None


@dataclass(frozen=True)
class Counts:
    """The selected rows in one scan."""

    rows: int
    embedded: int
    blank: int  # no text; with select Missing only those that have no embedding either
    failed: int  # recorded as not embeddable, with the text they have now
    pending: int  # left to embed
    pending_bytes: int = 0  # of their texts
    missing: int | None = None  # of those left, how many have no embedding; None: all
    stale: int = 0  # embeddings known to be of another text, template, model or dimensions; not with Missing
    unknown: int = 0  # embeddings that others have written; not with Missing
    to_adopt: int = 0  # as many of these are to be recorded as those of today's texts
    absent_ids: int = 0  # of spec.ids, how many name no row


@dataclass(frozen=True)
class Spend:
    """The account of this run, as kept in the database."""

    reserved: int = 0  # for calls in flight, or never answered
    billed: int = 0
    rows_done: int = 0
    started_at: datetime | None = None
    attempts: int = 0  # in a row that ended in an error, without a row written
    active_seconds: float = 0.0  # in which it worked or waited

    def failures_since(self, token: str) -> datetime:
        """Failures recorded before this do not count: a runToken tries them again, once its run has begun."""
        if not token:
            return EVER
        return self.started_at or NEVER


@dataclass(frozen=True)
class Estimate:
    """What is to be sent, and how far the tokens may be off."""

    texts: int
    tokens: int
    error_percent: int
    longest: int = 0  # the most tokens that one of the texts can be billed as, of those that were looked at


@dataclass(frozen=True)
class Rates:
    """The lowest limits that hold, a minute and a second; None: unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    rows_per_second: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Graph:
    """An HNSW index of the column that is filled."""

    name: str
    size_bytes: int
    rows: int | None = None  # in it, as of the last VACUUM; None: nobody knows


@dataclass(frozen=True)
class FailedRow:
    """A row that could not be embedded."""

    key_hash: str
    reason: str
    attempts: int


@dataclass(frozen=True)
class Trouble:
    """An error as a reason and a message."""

    reason: str
    message: str
    stalled: bool = False


class End(StrEnum):
    """How the work of this process ended, when it ended well."""

    PROVED = "Proved"  # a query found nothing left
    LIMIT = "Limit"
    BUDGET = "Budget"
    FAILURES = "Failures"  # more than maxFailedRows
    STOPPED = "Stopped"


@dataclass(frozen=True)
class WorkSeen:
    """The work of this process, running or ended."""

    running: bool
    target: Target
    terms: Terms
    fingerprint: str  # of the account at the provider, and of the CA that is believed
    counts: Counts  # as it found them, moved on by what it did
    stopping: bool = False  # asked to end; what is in flight is still written
    end: End | None = None
    error: Trouble | None = None
    ended_at: datetime | None = None
    waiting: Trouble | None = None  # what it waits for at this moment
    rate: float | None = None  # rows a second
    truncated: int = 0
    advanced_at: datetime | None = None
    token: str = ""  # runToken that it was begun with, '' without
    plan: Plan | None = None  # as it was when it began
    unsaved_seconds: float = 0.0  # in which it worked or waited, and that are not on the account yet
    failed: Trouble | None = None  # the error of the last attempt
    database: str = ""  # key of the target that it works in


@dataclass(frozen=True)
class OpenBatch:
    """A batch of this run at the provider."""

    id: str
    state: str  # the provider's word
    texts: int
    done: int
    failed: int
    created: datetime


@dataclass(frozen=True)
class Observation:
    """The world as this request sees it. `over`: it has ended before, and nothing was looked at."""

    over: bool = False
    store: Trouble | None = None  # the store cannot be used
    declared: Declared | Flaw | None = None
    target: Target | Flaw | None = None
    fingerprint: str = ""
    database: str = ""  # key of the target that the store names now
    place: str = ""  # the same for whoever connects to that database
    seal: str = ""  # in whose hands texts and bill are: base URL and key at the provider
    approved: Approved | None = None  # what a person has approved last of what this account pays
    build: str = ""  # of an index on this table that runs now: its phase
    counts: Counts | None = None  # None: a build would have to wait for the scan, or it goes on
    counting: bool = False  # they are being taken
    spend: Spend = Spend()
    failures: tuple[FailedRow, ...] = ()
    work: WorkSeen | None = None
    batches: tuple[OpenBatch, ...] = ()  # at the provider and not settled
    request: Request | None = None  # as the ledger knows it, if it is guarded
    entry: Entry | None = None  # what the ledger says of it, if it has begun before
    estimate: Estimate | None = None  # None: it has begun, or nothing is left
    rates: Rates = Rates()
    graph: Graph | None = None

    @property
    def running(self) -> bool:
        """Whether work of this process runs."""
        return self.work is not None and self.work.running
