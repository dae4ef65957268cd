"""What a reason is: a word, what a person reading it should do, and what it means for its object.

Three words of the outside are decided by the meaning and nowhere else: Reconciling, Stalled, Suspended. Refused: a
reason without a next step.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Means(StrEnum):
    """What a reason says of its object: whether it gets there by itself, and who has to do something about it."""

    GOOD = "Good"  # as wanted, or ended as wanted
    WORK = "Work"  # it gets there by itself: work goes on, or is waited for, however long that takes
    AWAITED = "Awaited"  # not there yet, or not answering: others bring it; too late after the progress deadline
    WRONG = "Wrong"  # no waiting heals it
    PAUSED = "Paused"  # a person's word or a clock is waited for: no failure, however long
    FAILED = "Failed"  # a run has ended, and not with what it was for
    ASIDE = "Aside"  # never Ready's reason: a word of another condition, of an event or of the history


class Reasons(StrEnum):
    """Base of every enum of reasons: a value, what a person reading it should do, and what it means."""

    next_step: str
    means: Means

    def __new__(cls, value: str, next_step: str, means: Means) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.next_step, member.means = next_step, means
        return member
