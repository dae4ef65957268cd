"""When the API server last answered what was asked: who is cut off from it does not see a suspend or a deletion.

An answer is what was asked for (2xx). A refusal, a limit, an error and what a proxy in between says are none: whoever
gets only those is as blind as one who gets nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vectorops.errors import Reason, Waiting

PAUSE_AFTER = 300.0  # seconds: ten looks of the watchdog; longer than an upgrade of a control plane that goes well


class Contact:
    """The clock of the last answer. Runs from the beginning of the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def answered(self) -> None:
        """An answer came now."""
        self._last = self._clock()

    def silence(self) -> float:
        """Seconds since the last answer."""
        return max(0.0, self._clock() - self._last)

    def cut_off(self) -> Waiting | None:
        """After so long in silence nobody can stop what we do: a reason to spend no money. None while it answers."""
        if self.silence() < PAUSE_AFTER:
            return None
        text = "The API server has not answered for minutes, so that nobody could stop this"
        return Waiting(Reason.KubernetesUnavailable, f"{text}. {Reason.KubernetesUnavailable.next_step}")
