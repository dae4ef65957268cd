"""The ledger: a request that would do everything anew runs once, however often its manifest is applied.

A GitOps tool that re-creates a finished object must not pay for all rows a second time. The key says what makes two
requests the same; the entry says whether that has begun, since when, on whose account, and how it ended. Refused:
deciding what follows from it, and entries of requests that look before they act: those need no memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from vectorops.clients.bookkeeping import look
from vectorops.clients.postgres import Database
from vectorops.clients.sql import statements

KEEPING = "keeping the ledger"


class State(StrEnum):
    """How far a guarded request is."""

    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True)
class Request:
    """One guarded request, as it is asked for now."""

    kind: str
    namespace: str
    name: str
    run_token: str  # '' without
    key: bytes  # of `ledger_key`


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a request."""

    request_uid: str  # on whose account in vectorops.spend it runs or ran
    state: State
    reason: str  # why it ended so; '' while it runs
    begun_at: datetime  # by the database's clock; what was made since is made
    ended_at: datetime | None = None
    term: int = 0  # grows with each process that begins it or goes on with it


def guarded(
    cluster_uid: str, kind: str, namespace: str, name: str, run_token: str, content: Mapping[str, Any]
) -> Request:
    """The request with its key: SHA-256 of all that makes two requests the same.

    `content`: what is asked for, of JSON's types; its order does not matter, nor does a value that is None.
    """
    stated = {name: value for name, value in content.items() if value is not None}
    told = json.dumps([cluster_uid, kind, namespace, name, run_token, stated], sort_keys=True)
    return Request(kind, namespace, name, run_token, hashlib.sha256(told.encode()).digest())


async def find(database: Database, request: Request) -> Entry | None:
    """The entry, or None: this request has never begun."""
    if "ledger" not in (await look(database)).tables:
        return None  # before anything was guarded
    return _entry(await database.fetchrow(_sql("find"), request.key, what=KEEPING))


async def begin(database: Database, request: Request, request_uid: str) -> Entry:
    """Running from now, or going on; the entry of a complete one comes back as it is. The tables must be there.

    Whoever begins goes on with what runs already, on its account and from its beginning. What has failed runs again
    from its beginning, on the account of `request_uid`.
    """
    row = await database.write_row(
        _sql("begin"),
        request.key,
        request.kind,
        request.namespace,
        request.name,
        request.run_token,
        request_uid,
        what=KEEPING,
    )
    entry = _entry(row) or _entry(await database.fetchrow(_sql("find"), request.key, what=KEEPING))
    assert entry is not None, "an entry that was complete a moment ago is never deleted by us"
    return entry


async def finish(database: Database, request: Request, state: State, reason: str, term: int) -> None:
    """The end of a request that runs, as seen in that term.

    Nothing happens where none does (what is Complete or Failed stays so), nor where another process has begun it since.
    """
    await database.execute(_sql("finish"), request.key, state, reason, term, what=KEEPING)


def _sql(name: str) -> str:
    return statements("vectorops.clients", "ledger.sql")[name]


def _entry(row: Any) -> Entry | None:
    if row is None:
        return None
    return Entry(row["request_uid"], State(row["state"]), row["reason"], row["begun_at"], row["ended_at"], row["term"])
