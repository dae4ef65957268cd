"""Rows on their way to the provider: how many at a time, equal texts once, halves when one of them is refused. Pure.

How many tokens a batch counts as is asked of the caller's meter; here it is only added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vectorops.clients.embedding_packing import MAX_INPUTS, cut
from vectorops.clients.embedding_tokens import Load, Measured

FIRST_SIZE = 32  # texts: even a model on a laptop answers these within seconds
FAST, SLOW = 2.0, 8.0  # seconds an answer takes: below, more at a time; above, fewer. Progress stays visible
SLOW_HOSTED = 30.0  # of a model that is known to be hosted: a full request takes it some seconds, and few are best

Count = Callable[[Load], int]


@dataclass(frozen=True)
class Row:
    """One row to embed."""

    key: tuple[str, ...]
    row_key: str
    text: str  # cut to what a model may read
    text_hash: bytes  # of the whole text
    load: Load  # of `text`
    truncated: bool = False  # `text` is less than the row's text


@dataclass(frozen=True)
class Batch:
    """Rows that go in one request."""

    rows: tuple[Row, ...]
    tries: int = 0  # what was answered by nothing or by nonsense, and may have been billed
    waits: int = 0  # what was answered by anything that waiting helps against
    strictly_cut: bool = False  # its one text was cut again, to a length that every tokeniser accepts

    @cached_property
    def unique(self) -> tuple[Row, ...]:
        """One row for each different text, in order."""
        return tuple({row.text_hash: row for row in self.rows}.values())

    @cached_property
    def load(self) -> Load:
        """What its different texts come to."""
        return Load.of(row.load for row in self.unique)

    def again(self, tried: bool = True) -> Batch:
        """The same, once more."""
        return replace(self, tries=self.tries + tried, waits=self.waits + 1)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches of different texts; a refusal is narrowed down to one text so."""
        texts = self.unique
        first = {row.text_hash for row in texts[: len(texts) // 2]}
        left = tuple(row for row in self.rows if row.text_hash in first)
        right = tuple(row for row in self.rows if row.text_hash not in first)
        return Batch(left), Batch(right)

    def within(self, tokens: int, most: Count) -> tuple[Batch, Batch]:
        """The first texts that surely cost at most `tokens`, with all their rows, and the rest; either may be empty."""
        load, fitting = Load(0, 0, 0), set[bytes]()
        for row in self.unique:
            load = Load.of((load, row.load))
            if most(load) > tokens:
                break
            fitting.add(row.text_hash)
        paid = tuple(row for row in self.rows if row.text_hash in fitting)
        rest = tuple(row for row in self.rows if row.text_hash not in fitting)
        return replace(self, rows=paid), replace(self, rows=rest)

    def cut_to(self, most_bytes: int) -> Batch:
        """With texts no longer than that; the hash stays that of the whole text."""
        rows = []
        for row in self.rows:
            text = cut(row.text, most_bytes)
            load = Load(len(text.encode()))  # not counted: the provider did not agree with the count
            rows.append(replace(row, text=text, load=load, truncated=row.truncated or text != row.text))
        return replace(self, rows=tuple(rows), strictly_cut=True)


class BatchSize:
    """How many rows go together: as stated, or found out from how long answers take."""

    def __init__(self, stated: int | None) -> None:
        self._stated = stated
        self._slow = SLOW
        self.rows = stated or FIRST_SIZE

    def begin_full(self) -> None:
        """The model is a known one: as many as a request may hold, from the first request on."""
        if self._stated is None:
            self.rows, self._slow = MAX_INPUTS, SLOW_HOSTED

    def answered(self, texts: int, seconds: float) -> None:
        """Learn from one answer."""
        if self._stated is not None:
            return
        if seconds > self._slow:
            self.rows = max(1, min(self.rows, texts) // 2)
        elif seconds < FAST and texts * 2 > self.rows:  # a small remainder says nothing about a full batch
            self.rows = min(MAX_INPUTS, self.rows * 2)


def fill(rows: Sequence[Row], most_rows: int, most_tokens: int, count: Count) -> int:
    """How many of these rows make the next batch: at least one, at most `most_rows`, and `most_tokens` as counted.

    Equal texts count once, for they are sent once.
    """
    load, seen = Load(0, 0, 0), set[bytes]()
    for number, row in enumerate(rows[:most_rows]):
        if row.text_hash in seen:
            continue
        seen.add(row.text_hash)
        load = Load.of((load, row.load))
        if number and count(load) > most_tokens:
            return number
    return min(len(rows), most_rows)


def row_of(key: Sequence[str], row_key: str, measured: Measured, text_hash: bytes) -> Row:
    """A row as read, its text cut to what a model may read at best."""
    return Row(tuple(key), row_key, measured.text, text_hash, measured.load, measured.truncated)
