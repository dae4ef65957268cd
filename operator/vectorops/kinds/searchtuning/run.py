"""The state of one run's work in this process: what it works with, how far it is, what it has found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from vectorops.clients.catalogue import Catalogue, Index
from vectorops.clients.embeddings import Embedder
from vectorops.clients.postgres import Database
from vectorops.clients.searchservice import SearchService
from vectorops.errors import Reason as Shared
from vectorops.errors import Waiting
from vectorops.kinds.searchtuning.observation import Findings, Trouble
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Spec
from vectorops.runtime.backfills import Table


def copy_name(uid: str) -> str:
    """The table in schema vectorops that a comparison is made on."""
    return f"candidate_{uid.replace('-', '')[:24]}"


@dataclass
class Run:
    """One run at work."""

    uid: str
    spec: Spec
    database: Database  # the primary
    reader: Database  # where it is searched: a replica, where the store names one
    catalogue: Catalogue | None
    index: Index | None  # None: the service tunes
    embedder: Embedder | None
    query_prefix: str
    service: SearchService | None
    role: str | None
    declared: int | None  # efSearch of the VectorStore
    started_at: datetime
    unfilled: Callable[[], Awaitable[dict[Table, str]]]  # tables that a backfill has yet to fill, and what to say of it
    step: Reason = Reason.Sampling
    found: Findings = field(default_factory=Findings)
    done: int = 0
    total: int = 0
    stopping: bool = False
    finished: bool = False
    former: Trouble | None = None
    error: Trouble | None = None
    ended_at: datetime | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    withheld: Callable[[], Waiting | None] = lambda: None  # asks whether work that costs something may go on

    @property
    def token(self) -> str:
        """The runToken that it works for."""
        return self.spec.run_token or ""

    def note(self, **changes: object) -> None:
        """Write down what was found. The try before is forgotten: this one has got somewhere."""
        self.found = replace(self.found, **changes)  # type: ignore[arg-type]
        self.former = None

    def go_on(self) -> None:
        """Raises Waiting when it shall end."""
        if self.stopping:
            raise Waiting(Shared.QueryCanceled, "The tuning was ended before its end.", after=1.0)

    def may_spend(self) -> None:
        """Raises Waiting when it shall end, or while nothing that costs something may be asked for."""
        self.go_on()
        if (why := self.withheld()) is not None:
            raise why
