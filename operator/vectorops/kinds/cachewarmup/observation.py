"""What a decision may know: the frozen picture that `observe.py` takes. Pure types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vectorops.kinds.cachewarmup.resource import Measured, Prewarmed, Reason


@dataclass(frozen=True)
class Trouble:
    """An error as a reason and a message."""

    reason: str
    message: str
    stalled: bool = False


@dataclass(frozen=True)
class Pacing:
    """How gently: what may be changed while the work runs."""

    per_second: int
    concurrency: int
    share_percent: int
    target_percent: int
    timeout_seconds: int


@dataclass(frozen=True)
class Ledger:
    """What a run has done so far. It is shown in status, and from there a killed operator goes on."""

    token: str = ""
    attempts: int = 0
    started_at: datetime | None = None
    list_hash: str = ""
    position: int = 0  # queries from the beginning of the list that are done
    selected: int = 0
    warmed: int = 0
    failed: int = 0
    ignored: int = 0
    covered_percent: int | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    invalidated: bool = False
    removed: int | None = None
    before: Measured | None = None
    after: Measured | None = None
    prewarmed: Prewarmed | None = None


@dataclass(frozen=True)
class WorkSeen:
    """The work of this process, running or ended."""

    running: bool
    ledger: Ledger
    pacing: Pacing
    step: Reason = Reason.Selecting
    waiting: Trouble | None = None
    stopping: bool = False
    finished: bool = False  # came to its own end: the ledger says with what
    former: Trouble | None = None  # what the try before ended in, until this one has got anywhere
    error: Trouble | None = None
    ended_at: datetime | None = None
    rate: float | None = None  # queries a second
    advanced_at: datetime | None = None


@dataclass(frozen=True)
class Observation:
    """The world as this request sees it. `over`: it has ended before, and nothing was looked at."""

    over: bool = False
    store: Trouble | None = None  # the store cannot be used
    filling: str = ""  # what is to be said of a table that is yet to be filled, before the run begins
    other: str = ""  # namespace/name of another warm-up at work on the same service
    ledger: Ledger = Ledger()  # of this run: by the work, else as the status keeps it
    work: WorkSeen | None = None
