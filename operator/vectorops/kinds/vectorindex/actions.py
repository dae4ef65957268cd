"""The steps that a plan can ask for; `act.py` carries them out. Each is bounded and safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from vectorops.clients.approvals import Approved
from vectorops.runtime.kind import Action


@dataclass(frozen=True)
class Claim(Action):
    """Write down that this object manages the index of that name, whether it is there yet or not."""

    index_name: str
    table_oid: int
    index_oid: int | None
    run_token: str | None


@dataclass(frozen=True)
class TakeOver(Action):
    """The object that claims the index is gone: its claim, and what it left half done, become ours."""

    uid: str
    index_name: str
    run_token: str | None


@dataclass(frozen=True)
class StartBuild(Action):
    """Start CREATE INDEX CONCURRENTLY as supervised work; an unfinished one of that name is dropped first."""

    leaves: ClassVar[bool] = True

    index_name: str
    build_name: str
    table_oid: int
    dimensions: int
    definition: str
    attempt: str
    run_token: str | None
    rows: int
    statement: str  # as it was planned, and is sent
    consent: Approved | None = None  # written down first, if a person has approved it


@dataclass(frozen=True)
class WriteComment(Action):
    """Say on the index being built whose it is."""

    index_name: str
    index_oid: int
    comment: str


@dataclass(frozen=True)
class CancelBuild(Action):
    """Cancel the running statement of ours, and remember why before."""

    build_name: str
    failure: str
    pid: int | None  # None: our own work that has not sent it yet
    backend_start: datetime | None


@dataclass(frozen=True)
class MarkFailed(Action):
    """Remember that an attempt failed, and why, where a restart finds it."""

    build_name: str
    failure: str


@dataclass(frozen=True)
class Discard(Action):
    """Drop the unfinished index of an attempt that is over, as supervised work; `keep` keeps the memory of it."""

    build_name: str
    table_oid: int
    keep: bool


@dataclass(frozen=True)
class Forget(Action):
    """Strike out an intent whose index is not there."""

    build_name: str


@dataclass(frozen=True)
class Swap(Action):
    """Give the verified index the name, and the former one another, in one short transaction."""

    index_name: str
    build_name: str
    build_oid: int
    old_name: str
    old_oid: int | None
    table_oid: int
    run_token: str | None
    birth: str  # what the index is like now, for its comment


@dataclass(frozen=True)
class Retire(Action):
    """Drop the replaced index concurrently, if there is one left, and ANALYZE, as supervised work."""

    build_name: str
    table_oid: int
    old_name: str | None
    old_oid: int | None


@dataclass(frozen=True)
class DropIndex(Action):
    """deletionPolicy Delete: drop the index itself, as supervised work."""

    index_name: str
    index_oid: int
    table_oid: int


@dataclass(frozen=True)
class StartProbe(Action):
    """Measure the recall of that index, as supervised work that only reads."""

    index_oid: int


@dataclass(frozen=True)
class StopProbe(Action):
    """End the measurement after the statement in hand."""


@dataclass(frozen=True)
class ReleaseClaim(Action):
    """Strike out what is left of this object in the database."""
