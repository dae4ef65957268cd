"""What one process remembers of a run in batch mode: where its sweep is, when to look again, what was refused. Pure.

Nothing here must survive: after a restart the sweep begins anew, the open batches stand in the database, and a text
that was refused because of its length is refused once more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vectorops.clients.embedding_batches import MAX_LINES

MOST_OPEN = 10  # batches at the provider at a time: half a million texts, and as many as a status shows
FIRST_LOOK, LAST_LOOK = 1.0, 60.0  # seconds between looks: a small batch takes seconds, a large one hours
FIRST_PAUSE, LAST_PAUSE = 30.0, 1800.0  # seconds until the next batch after one that came to nothing


@dataclass
class Queue:
    """The sweep and the batches of one run."""

    after: list[str] | None = None  # the key that the sweep has come to
    swept: bool = False  # it has come to the table's end
    full: bool = False  # the budget or the limit lets no further text in before open batches are settled
    idle: bool = False  # nothing to do under the table's lock until the provider has done something
    closing: bool = False  # the request is deleted: results that are there are still written
    most_open: int = MOST_OPEN
    most_lines: int = MAX_LINES
    not_before: float = 0.0  # of a steady clock: no new batch before that
    vain: int = 0  # batches in a row that came to nothing
    troubles: int = 0  # times in a row that the provider did not answer
    written: int = -1  # rows, when the sweep began
    strict: set[bytes] = field(default_factory=set)  # texts refused at the length a model may read at best
    unusable: Counter[bytes] = field(default_factory=Counter)  # times that a text was billed and had no vector
    short: Counter[str] = field(default_factory=Counter)  # times that a batch's output held too few lines
    look_after: float = field(default_factory=lambda: FIRST_LOOK)

    def start_over(self, written: int) -> bool:
        """Begin another sweep. False: the last one brought nothing, so do not hurry."""
        hurry = written != self.written
        self.after, self.swept, self.full, self.written = None, False, False, written
        return hurry

    def sent(self) -> None:
        """A new batch is at the provider."""
        self.look_after = FIRST_LOOK

    def looked(self) -> float:
        """Seconds until the next look; longer each time that nothing has ended."""
        now, self.look_after = self.look_after, min(LAST_LOOK, self.look_after * 2)
        return now

    def troubled(self) -> float:
        """The provider did not answer: seconds until the next try."""
        self.troubles += 1
        return min(LAST_LOOK, FIRST_LOOK * 2.0 ** min(self.troubles, 10))

    def fruitful(self) -> None:
        """A batch brought vectors."""
        self.vain, self.look_after = 0, FIRST_LOOK

    def fruitless(self, now: float) -> None:
        """A batch brought nothing: wait before the next."""
        self.not_before = now + min(LAST_PAUSE, FIRST_PAUSE * 2.0**self.vain)
        self.vain, self.look_after = self.vain + 1, FIRST_LOOK

    def refused_for_size(self, texts: int, others: int) -> None:
        """The provider's queue is full: fewer at a time, or smaller ones where this was alone."""
        self.most_open = max(1, others)
        if not others:
            self.most_lines = max(1, texts // 2)
