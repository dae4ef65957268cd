"""The state of one run's work in this process: what it works with, what it has done, what it waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from vectorops.clients.searchservice import SearchService
from vectorops.clients.service_figures import PoolFigures
from vectorops.errors import Waiting
from vectorops.kinds.cachewarmup.observation import Ledger, Pacing, Trouble
from vectorops.kinds.cachewarmup.pace import Pace
from vectorops.kinds.cachewarmup.queries import Queries
from vectorops.kinds.cachewarmup.resource import Invalidate, Reason, RequestSpec
from vectorops.runtime.store import Store, Stores

RATE_SECONDS = 30.0


@dataclass(frozen=True)
class Limits:
    """The store's thresholds that a warm-up keeps away from."""

    pool_warning: int
    pool_critical: int
    p95_critical_milliseconds: int


@dataclass
class Run:
    """One run at work."""

    uid: str
    at: str  # namespace/name of the object
    store: Store
    stores: Stores
    service: SearchService
    invalidate: Invalidate
    wanted: Queries | None
    lines: tuple[str, ...] | None  # of the ConfigMap
    request: RequestSpec
    limits: Limits
    ledger: Ledger
    pacing: Pacing
    clock: Callable[[], float] = time.monotonic
    withheld: Callable[[], Waiting | None] = lambda: None  # asks whether work that costs something may go on
    queries: tuple[str, ...] = ()
    step: Reason = Reason.Selecting
    waiting: Trouble | None = None
    stopping: bool = False
    finished: bool = False
    former: Trouble | None = None  # of the try before; None as soon as the service has answered anything
    error: Trouble | None = None
    trouble: str = ""  # why the last request went wrong
    fatal: Exception | None = None  # raised by a request, to end all
    ended_at: datetime | None = None
    advanced_at: datetime | None = None
    pools: tuple[PoolFigures, ...] = ()
    pools_read_at: float = float("-inf")
    in_flight: int = 0
    unanswered: deque[float] = field(
        default_factory=deque
    )  # when requests were given up that were not answered in time
    answered: int = 0  # by this process, samples included
    settled: set[int] = field(default_factory=set)  # beyond the ledger's position
    ends: deque[float] = field(default_factory=deque)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.pacing.per_second)

    def adjust(self, pacing: Pacing) -> None:
        """Work more or less gently from the next request on."""
        self.pacing = pacing
        self.pace.adjust(pacing.per_second)

    def note(self, **changes: object) -> None:
        """Write into the ledger."""
        self.ledger = replace(self.ledger, **changes)  # type: ignore[arg-type]

    def settle(self, number: int, failure: str | None) -> None:
        """One query is done: answered, or failed with that reason."""
        ledger = self.ledger
        self.settled.add(number)
        position = ledger.position
        while position in self.settled:
            self.settled.discard(position)
            position += 1
        if failure is None:
            self.note(position=position, warmed=ledger.warmed + 1)
        else:
            failures = {**ledger.failures, failure: ledger.failures.get(failure, 0) + 1}
            self.note(position=position, failed=ledger.failed + 1, failures=failures)
        self.advanced_at = datetime.now(UTC)
        self.ends.append(self.clock())

    def goes_on(self) -> bool:
        """Whether it shall go on: nobody has stopped it, and no request has ended it."""
        return not self.stopping and self.fatal is None

    @property
    def rate(self) -> float | None:
        """Queries a second of late."""
        now = self.clock()
        while self.ends and now - self.ends[0] > RATE_SECONDS:
            self.ends.popleft()
        if len(self.ends) < 2:
            return None
        return (len(self.ends) - 1) / max(0.001, now - self.ends[0])
