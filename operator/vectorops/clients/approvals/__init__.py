"""What a person has approved, as it was when work began under it: figures, the bound that follows, when, for whom.

Kept in `vectorops.approval` on the account that is charged, so that neither a restart, nor a lost status, nor an object
created again forgets what was approved. The latest of an account is the one that counts. Refused: deciding whether it
still fits, and changing or deleting one: a new plan is a new row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vectorops.clients.bookkeeping import look
from vectorops.clients.postgres import Database
from vectorops.clients.sql import statements

KEEPING = "keeping what was approved"


@dataclass(frozen=True)
class Approved:
    """A plan as it was approved."""

    plan_hash: str
    object_uid: str  # for which object
    terms_hash: str  # what must stay while work goes on under it
    rows: int | None = None
    tokens: int | None = None
    error_percent: int | None = None
    cost_usd: str | None = None
    most_tokens: int | None = None  # that may be billed or at risk because of it
    ceiling_tokens: int | None = None  # and with what was before it on the account
    approved_at: datetime | None = None  # when work began under it, by the database's clock


async def latest(database: Database, request_uid: str, run_token: str) -> Approved | None:
    """The approval of that account that counts, or None."""
    if "approval" not in (await look(database)).tables:
        return None  # before anything was approved
    return _read(await database.fetchrow(_sql("latest"), request_uid, run_token, what=KEEPING))


async def of(database: Database, request_uid: str) -> tuple[Approved, ...]:
    """All approvals of that account, the latest first, a hundred at most."""
    if "approval" not in (await look(database)).tables:
        return ()
    return tuple(Approved(**dict(row)) for row in await database.fetch(_sql("all"), request_uid, what=KEEPING))


async def record(database: Database, kind: str, request_uid: str, run_token: str, one: Approved) -> Approved:
    """Keep it, once; what comes back is what stands. The table must be there.

    `ceiling_tokens` is made here: what the account has billed and reserved by now, and `most_tokens` more.
    """
    told = (one.rows, one.tokens, one.error_percent, one.cost_usd, one.most_tokens)
    args = (request_uid, run_token, one.plan_hash, kind, one.object_uid, one.terms_hash, *told)
    row = await database.write_row(_sql("record"), *args, what=KEEPING)
    row = row or await database.fetchrow(_sql("find"), request_uid, run_token, one.plan_hash, what=KEEPING)
    kept = _read(row)
    assert kept is not None, "written now or before, and never deleted by us"
    return kept


def _sql(name: str) -> str:
    return statements("vectorops.clients.approvals")[name]


def _read(row: Any) -> Approved | None:
    return Approved(**dict(row)) if row is not None else None
