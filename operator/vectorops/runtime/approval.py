"""Plans that wait for a person: what is shown, and whether it was approved. Pure.

A plan's hash stands for what would be done and for what it was decided on. It is approved by writing the hash into
`spec.approvedPlan`, or into the annotation `vectorops.dev/approve`; any other plan is not. Who may write either is the
chart's admission policy (verb `approve`).
"""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vectorops.runtime.api import ApiModel, ShortText
from vectorops.runtime.kind import Subject

ANNOTATION = "vectorops.dev/approve"
DIGITS = 16  # of the hash: copied by people, and nobody finds another plan with the same ones (64 bits)

PlanHash = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]*$")]


class Approval(StrEnum):
    """Whether what is planned waits for a person."""

    AUTO = "Auto"
    MANUAL = "Manual"


class PlanStatus(ApiModel):
    """What would be done, before it is."""

    hash: PlanHash = Field(description="Approve it by this, in spec.approvedPlan or the annotation.")
    why: ShortText = Field(description="Why it is due.")
    statements: Annotated[list[ShortText], Field(max_length=8)] = Field(
        default_factory=list, description="The statements, in order."
    )
    rows: int | None = Field(default=None, description="Rows of the table, two digits.")
    size_bytes: int | None = Field(default=None, description="Disk that is taken beside what is there, roughly.")
    memory_bytes: int | None = Field(default=None, description="Memory of the server that it would like to have.")


def plan_hash(*parts: str) -> str:
    """The hash of what makes this plan and no other."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGITS]


def magnitude(number: int) -> str:
    """A figure as a plan's hash sees it: the same until it has doubled or halved."""
    return str(round(math.log2(number))) if number > 0 else "none"


def approved(subject: Subject, approved_plan: str | None, hash_: str) -> bool:
    """Whether a person has approved the plan of that hash."""
    return hash_ in (approved_plan, subject.annotations.get(ANNOTATION))


def how_to_approve(subject: Subject, plural: str, hash_: str) -> str:
    """The command that approves it."""
    return f"Approve it with: kubectl -n {subject.namespace} annotate {plural} {subject.name} {ANNOTATION}={hash_}"
