"""What a decision may know: the frozen picture that `observe.py` takes. Pure types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Applied, Compared, Point


@dataclass(frozen=True)
class Trouble:
    """An error as a reason and a message."""

    reason: str
    message: str
    stalled: bool = False
    rest: float = 60.0  # seconds until it is tried again


@dataclass(frozen=True)
class Findings:
    """What the work has found so far, or in the end."""

    index_name: str = ""
    rows: int | None = None
    curve: tuple[Point, ...] = ()
    chosen: Point | None = None
    current: Point | None = None
    comparison: tuple[Compared, ...] = ()
    applied: Applied | None = None
    declared: int | None = None  # efSearch of the VectorStore, which is then the one to change
    queries: int = 0


@dataclass(frozen=True)
class WorkSeen:
    """The work of this process, running or ended."""

    token: str
    running: bool
    step: Reason
    found: Findings
    started_at: datetime
    done: int = 0  # searches
    total: int = 0  # searches, at most
    stopping: bool = False
    finished: bool = False  # came to its own end
    former: Trouble | None = None  # what the try before ended in
    error: Trouble | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Observation:
    """The world as this request sees it. `over`: it has ended before, and nothing was looked at."""

    over: bool = False
    store: Trouble | None = None  # the store or the index cannot be used, now or ever
    leftover: bool = False  # a copy of the column of ours is there
    work: WorkSeen | None = None
