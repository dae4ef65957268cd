"""The steps that a backfill's plan may ask for; `act.py` carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from vectorops.clients.approvals import Approved
from vectorops.clients.ledger import State
from vectorops.kinds.embeddingbackfill.observation import Terms
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.runtime.kind import Action


@dataclass(frozen=True)
class Begin(Action):
    """Start the work under these terms. `plan` is what was planned, if it has not begun before.

    `consent` is kept before anything is sent, if a person has approved the plan just now; its bound then holds.
    """

    terms: Terms
    plan: Plan | None = None
    consent: Approved | None = None


@dataclass(frozen=True)
class Adjust(Action):
    """Give the running work other terms."""

    terms: Terms


@dataclass(frozen=True)
class Stop(Action):
    """End the running work after the write in hand."""


@dataclass(frozen=True)
class Finish(Action):
    """Have the ledger say that the request has ended, before the status does: it must not run again."""

    state: State
    reason: str
