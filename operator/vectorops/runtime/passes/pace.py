"""When the next pass of an object comes. One rule: no act, no verdict and no error can make a hot loop.

    after an act      at once, so that what came of it is told; the same act again: 1, 2, 4 ... seconds later
    after a failure   what it asks for, but ever more slowly (full jitter)
    after a verdict   what the plan asked for
    a deadline        only wakes earlier, and only while it lies ahead
    a write refused   tried again soon, never before what the API server asked for (Retry-After)
    whatever it is    a purse of a few passes, refilled slowly: who has spent it waits, woken or not

Pure: clocks are arguments. Refused: knowing what an act does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from vectorops.runtime.kind import Action, Verdict

LEAST_SLEEP = 0.05  # seconds: between two passes that nobody asked for in a hurry
BACKOFF_FIRST, BACKOFF_CAP = 1.0, 60.0  # seconds; full jitter between. What others mend is seen within a minute
ACTS_AT_ONCE = 8  # different steps in a row without a pause: more than the longest chain of a room (claim to retire)
REPEAT_CAP = 60.0  # seconds: an act that changes nothing is repeated once a minute, as a stalled object is looked at
UNWRITTEN_LOOK = 10.0  # seconds after which a status that could not be written is tried again, doubling
UNWRITTEN_CAP = 60.0  # seconds; as long as a person at work on a missing right is waited for
PURSE = 10.0  # passes in a burst: an edit, its acts and the wakes of its store come without any wait
EARNED = 2.0  # passes a second that may go on for ever: the busiest room looks once a second


@dataclass
class Pace:
    """What one object's recent passes were like. Losing it costs a few passes that come too soon."""

    failures: int = 0  # in a row
    acts: int = 0  # in a row
    repeats: int = 0  # of the same act, in a row
    unwritten: int = 0  # writes of status that failed, in a row
    _last: Action | None = None
    _purse: float = PURSE
    _counted: float | None = None  # when the purse was last counted

    def wait(self, now: float) -> float:
        """Spend one pass from the purse; how many seconds it must wait for that. `now` is of a monotonic clock."""
        if self._counted is not None:
            self._purse = min(PURSE, self._purse + (now - self._counted) * EARNED)
        self._counted, self._purse = now, self._purse - 1.0
        return max(0.0, -self._purse / EARNED)

    def acted(self, action: Action | None) -> None:
        """Note what the pass did, if anything."""
        if action is None:
            self.acts, self.repeats, self._last = 0, 0, None
            return
        self.acts += 1
        self.repeats = self.repeats + 1 if action == self._last else 0
        self._last = action

    def saw(self, verdict: Verdict) -> None:
        """Note whether trying again, ever more slowly, is the remedy."""
        self.failures = self.failures + 1 if verdict.backs_off else 0

    def wrote(self, *, failed: bool) -> None:
        """Note whether the status could be written."""
        self.unwritten = self.unwritten + 1 if failed else 0

    def next_pass(self, verdict: Verdict, *, deadline: float, asked: float) -> float:
        """Seconds until the next pass, unless a wake comes first.

        `deadline`: seconds until something is due that only a pass can do. `asked`: what the API server asked us to
        wait when it refused a write.
        """
        wanted = self._after_act(verdict) if self.acts else self._after_look(verdict)
        if deadline > 0.0:
            wanted = min(wanted, max(deadline, LEAST_SLEEP))
        if self.unwritten:
            wanted = min(wanted, UNWRITTEN_CAP, UNWRITTEN_LOOK * 2.0 ** min(self.unwritten - 1, 8))
        return max(wanted, asked)

    def _after_act(self, verdict: Verdict) -> float:
        too_many = max(self.repeats - 1, self.acts - ACTS_AT_ONCE - 1)
        pause = min(REPEAT_CAP, 2.0 ** min(too_many, 16)) if too_many >= 0 else 0.0
        return max(pause, verdict.action.rest if verdict.action is not None else 0.0)

    def _after_look(self, verdict: Verdict) -> float:
        return max(verdict.look_again, backoff(self.failures, verdict.backs_off) if self.failures else LEAST_SLEEP)


def backoff(failures: int, cap: float = BACKOFF_CAP) -> float:
    """Full jitter: anywhere up to first * 2^failures, at most the cap; never less than a tenth of that."""
    ceiling = min(cap, BACKOFF_FIRST * 2.0 ** min(failures, 16))
    return random.uniform(ceiling / 10, ceiling)  # noqa: S311 - jitter, no secret
