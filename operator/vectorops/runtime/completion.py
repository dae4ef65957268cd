"""Requests that end: what has ended stays ended until a new runToken asks again. Pure."""

from __future__ import annotations

from typing import Protocol

from vectorops.runtime.api import ConditionStatus


class Ended(Protocol):
    """What a status of a run-to-completion kind has."""

    @property
    def run_token(self) -> str | None:
        """The runToken that the status speaks of."""

    @property
    def conditions(self) -> list[ConditionStatus]:
        """As last written."""


def ended(run_token: str | None, status: Ended) -> ConditionStatus | None:
    """The condition (Complete or Failed) with which the run of this token has ended, or None."""
    if status.run_token != run_token:
        return None
    kinds = ("Complete", "Failed")
    return next((one for one in status.conditions if one.status == "True" and one.type in kinds), None)
