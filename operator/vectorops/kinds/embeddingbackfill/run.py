"""The state of one run's work in this process: what it works with, what it waits for, how fast it is.

Nothing here is remembered across processes: what must be is in the database. `stop` and `pause` are asked from
outside (a suspended or deleted request, an index build that wants the table) and looked at between two steps.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from vectorops.clients.embedding_limits import Limits
from vectorops.clients.embedding_packing import MAX_REQUEST_TOKENS
from vectorops.clients.embeddings import Embedder
from vectorops.clients.postgres import Connection, Database
from vectorops.errors import OperatorError, Waiting
from vectorops.kinds.embeddingbackfill.batch import BatchSize
from vectorops.kinds.embeddingbackfill.observation import Counts, End, Spend, Terms, Trouble
from vectorops.kinds.embeddingbackfill.pace import Pace
from vectorops.kinds.embeddingbackfill.parts import Select
from vectorops.kinds.embeddingbackfill.selection import Scope, Selection
from vectorops.kinds.embeddingbackfill.target import Target

RATE_SECONDS = 30.0  # long enough to smooth over one batch, short enough to follow a provider that slows down
CONCURRENCY = 8  # requests in flight at most, where nothing is stated: hides the latency behind the highest limits

R = TypeVar("R")


class Halted(Exception):
    """Asked to stop or to pause while waiting; what was not sent is left for later."""


@dataclass
class Run:
    """One run at work."""

    uid: str
    token: str  # runToken, '' without
    database: Database
    embedder: Embedder
    target: Target
    terms: Terms
    counts: Counts  # as counted before the work began
    selection: Selection = field(default_factory=Selection)
    on_account: str = ""  # request_uid of vectorops.spend; '' is this object's own
    begun: datetime | None = None  # of the run by the ledger, if it is guarded; else when its account was opened
    limit: int | None = None
    max_failed: int | None = None
    backoff_limit: int = 6
    neighbours: Callable[[], Awaitable[Trouble | None]] | None = None  # asks whether they suffer
    withheld: Callable[[], Waiting | None] = lambda: None  # asks whether money may be spent
    concurrency: int = CONCURRENCY
    size: BatchSize = field(default_factory=lambda: BatchSize(None))
    spend: Spend = field(default_factory=Spend)
    term: int = 0  # of its account, taken with the table's lock; 0: none yet. Whoever has a later one has deposed us
    limits: Limits = field(default_factory=Limits)
    spent_at: int = 0  # `written` when `spend` was read
    end: End | None = None  # set by `finish`
    ended_terms: Terms | None = None  # under which it came to that end
    error: Trouble | None = None  # set at the end
    ended_at: datetime | None = None
    ended_with: str = ""  # account and CA then; a CA that is rotated in use is none of the plan's business
    waiting: Trouble | None = None
    written: int = 0  # rows, by this process; those copied from an equal text included
    adopted: int = 0  # embeddings of others whose texts were recorded, by this process
    left: int = 0  # rows of this sweep whose text is in flight for another row; the next sweep copies
    failed: int = 0
    truncated: int = 0
    in_flight: int = 0  # rows handed out and not settled
    sent: int = 0  # requests sent and not settled
    delivering: int = 0  # batches being delivered, those that wait to be sent again included
    slack: int = 0  # tokens that requests in flight can cost beyond what was reserved for them
    nonsense: int = 0  # answers in a row that could not be used
    useless: int = 0  # billed answers in a row that held not one usable vector
    discarded: int = 0  # answers in a row of which the table took no row
    refusals: int = 0  # single rows that it refused since it last took one
    lost: dict[tuple[str, bytes], int] = field(default_factory=dict)  # rows whose write the table did not take
    advanced_at: datetime | None = None
    attempt_failed: Trouble | None = None  # how the last attempt ended
    written_at_attempt: int = 0  # `written` then

    def __post_init__(self) -> None:
        self._stop, self._pause, self._halt = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.using = asyncio.Lock()  # one statement at a time on the session
        self.reserving = asyncio.Lock()  # one batch at a time asks whether it fits into the budget
        self.flying: set[bytes] = set()  # hashes of the texts that are handed out and not settled
        self._session: Connection | None = None
        self._saved_at = time.monotonic()
        self.paused_for: Trouble | None = None
        self._steps: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        if self.embedder.meter.known:
            self.size.begin_full()
        self.adjust(self.terms)

    def adjust(self, terms: Terms) -> None:
        """Work under these terms from now on."""
        self.terms = terms
        self.limits = Limits(terms.requests_per_minute, terms.tokens_per_minute)
        self.pace = Pace(terms.rows_per_second)

    def stop(self) -> None:
        """End after the write in hand."""
        self._stop.set()
        self._halt.set()

    def finish(self, end: End) -> None:
        """A reason was found to send nothing more."""
        self.end, self.ended_terms = end, self.terms
        self._halt.set()

    def pause(self, why: Trouble | None) -> None:
        """Let go of the table after the write in hand, or go on."""
        self.paused_for = why
        if why is not None:
            self._pause.set()
            self._halt.set()
        else:
            self._pause.clear()
            self.go_on()

    def held_back(self) -> bool:
        """Whether no money may be spent now. The run is then paused; who watches it lets it go on."""
        why = self.withheld()
        if why is not None:
            self.pause(Trouble(why.reason, why.message))
        return why is not None

    def halt(self) -> None:
        """Send nothing more until `go_on`: one batch met an error, the others are to land."""
        self._halt.set()

    def go_on(self) -> None:
        """Send again, unless there is another reason not to."""
        if not (self._stop.is_set() or self._pause.is_set() or self.end):
            self._halt.clear()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, or found a reason to."""
        return self._stop.is_set() or self.end is not None

    @property
    def halted(self) -> bool:
        """Whether nothing more is to be sent now."""
        return self._halt.is_set()

    @property
    def pausing(self) -> bool:
        """Whether the table is to be let go of."""
        return self._pause.is_set()

    @property
    def unsaved_seconds(self) -> float:
        """For how long it has worked or waited since that was last put on its account."""
        return time.monotonic() - self._saved_at

    def take_seconds(self) -> float:
        """These seconds, from now on counted as saved: if saving fails they are lost, and never added twice."""
        seconds, self._saved_at = self.unsaved_seconds, time.monotonic()
        return seconds

    @property
    def most_request_tokens(self) -> int:
        """The most tokens that one request should hold now."""
        return min(MAX_REQUEST_TOKENS, self.embedder.limits.request_tokens, self.limits.request_tokens)

    @property
    def since(self) -> datetime:
        """Failures recorded before this do not count."""
        return self.spend.failures_since(self.token)

    @property
    def account(self) -> tuple[str, str]:
        """request_uid and run_token of vectorops.spend."""
        return self.on_account or self.uid, self.token

    @property
    def scope(self) -> Scope:
        """What the statements speak of. With All, what was made before the run began is to be made again."""
        begun = (self.begun or self.spend.started_at) if self.selection.select is Select.ALL else None
        return Scope(self.target, self.selection, self.since, begun)

    @property
    def session(self) -> Connection:
        """The session that holds the table's lock."""
        assert self._session is not None, "set while working"
        return self._session

    @session.setter
    def session(self, connection: Connection | None) -> None:
        self._session = connection

    async def sleep(self, seconds: float) -> None:
        """Wait, but not when stopping."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def unless_halted(self, waiting: Coroutine[Any, Any, R]) -> R:
        """Wait for something that has no effect outside. Raises Halted as soon as nothing more is to be sent."""
        task, halt = asyncio.create_task(waiting), asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait({task, halt}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Halted
        finally:
            for pending in (task, halt):
                pending.cancel()
            await asyncio.gather(task, halt, return_exceptions=True)

    def told(self, error: OperatorError) -> None:
        """Show what is being waited for."""
        self.waiting = Trouble(error.reason, error.message)

    def advanced(self, rows: int) -> None:
        """So many rows were written or recorded: it works."""
        now = time.monotonic()
        self.waiting = None
        self.advanced_at = datetime.now(UTC)
        self._steps.append((now, self._steps[-1][1] + rows))
        while len(self._steps) > 2 and now - self._steps[1][0] > RATE_SECONDS:
            self._steps.popleft()

    @property
    def rate(self) -> float | None:
        """Rows a second over the last half minute; None before the first were written."""
        (begun, before), (last, after) = self._steps[0], self._steps[-1]
        seconds = max(time.monotonic(), last) - begun
        return (after - before) / seconds if after > before and seconds > 0 else None

    @property
    def rows_done(self) -> int:
        """Rows of this run, by this process and those before it."""
        return self.spend.rows_done + self.written - self.spent_at

    @property
    def counts_now(self) -> Counts:
        """The counts it began with, moved on by what it did."""
        c, failed = self.counts, min(self.failed, self.counts.pending)
        pending = max(0, c.pending - self.written - failed)
        share = pending / c.pending if c.pending else 0
        missing = c.pending if c.missing is None else c.missing
        embedded = c.embedded + (round(self.written * missing / c.pending) if c.pending else 0)
        return replace(
            c,
            rows=max(c.rows, embedded),  # rows that came meanwhile are not counted, but embedded
            embedded=embedded,
            failed=c.failed + failed,
            pending=pending,
            pending_bytes=round(c.pending_bytes * share),
            missing=round(missing * share),
            to_adopt=max(0, c.to_adopt - self.adopted),
        )
