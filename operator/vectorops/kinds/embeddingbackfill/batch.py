"""Rows on their way to the provider: how many at a time, equal texts once, halves when one of them is refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vectorops.clients.embedding_packing import MAX_INPUTS, OPTIMISTIC_BYTES, cut, most_tokens

FIRST_SIZE = 32  # texts: even a model on a laptop answers these within seconds
FAST, SLOW = 2.0, 8.0  # seconds an answer takes: below, more at a time; above, fewer. Progress stays visible


@dataclass(frozen=True)
class Row:
    """One row to embed."""

    key: tuple[str, ...]
    row_key: str
    text: str  # cut to what a model may read
    text_hash: bytes  # of the whole text
    size: int  # UTF-8 bytes of `text`


@dataclass(frozen=True)
class Batch:
    """Rows that go in one request."""

    rows: tuple[Row, ...]
    tries: int = 0  # what was answered by nothing or by nonsense, and may have been billed
    waits: int = 0  # what was answered by anything that waiting helps against
    strictly_cut: bool = False  # its one text was cut again, to a length that every tokeniser accepts

    @property
    def unique(self) -> tuple[Row, ...]:
        """One row for each different text, in order."""
        return tuple({row.text_hash: row for row in self.rows}.values())

    @property
    def size(self) -> int:
        """UTF-8 bytes of its different texts."""
        return sum(row.size for row in self.unique)

    @property
    def most_tokens(self) -> int:
        """The most it can be billed as."""
        return most_tokens(self.size, len(self.unique))

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

    def within(self, tokens: int) -> tuple[Batch, Batch]:
        """The longest beginning that surely costs at most `tokens`, and the rest; either may be empty."""
        taken: list[Row] = []
        for row in self.rows:
            if Batch((*taken, row)).most_tokens > tokens:
                break
            taken.append(row)
        return replace(self, rows=tuple(taken)), replace(self, rows=self.rows[len(taken) :])

    def cut_to(self, most_bytes: int) -> Batch:
        """With texts no longer than that; the hash stays that of the whole text."""
        rows = []
        for row in self.rows:
            text = cut(row.text, most_bytes)
            rows.append(replace(row, text=text, size=len(text.encode())))
        return replace(self, rows=tuple(rows), strictly_cut=True)


class BatchSize:
    """How many rows go together: as stated, or found out from how long answers take."""

    def __init__(self, stated: int | None) -> None:
        self._stated = stated
        self.rows = stated or FIRST_SIZE

    def answered(self, texts: int, seconds: float) -> None:
        """Learn from one answer."""
        if self._stated is not None:
            return
        if seconds > SLOW:
            self.rows = max(1, self.rows // 2)
        elif seconds < FAST and texts * 2 > self.rows:  # a small remainder says nothing about a full batch
            self.rows = min(MAX_INPUTS, self.rows * 2)


def fill(rows: Sequence[Row], most_rows: int, most_bytes: int) -> int:
    """How many of these rows make the next batch: at least one, at most `most_rows` and `most_bytes`."""
    size = 0
    for number, row in enumerate(rows[:most_rows]):
        size += row.size
        if number and size > most_bytes:
            return number
    return min(len(rows), most_rows)


def row_of(key: Sequence[str], row_key: str, text: str, text_hash: bytes) -> Row:
    """A row as read, its text cut to what a model may read at best."""
    kept = cut(text, OPTIMISTIC_BYTES)
    return Row(tuple(key), row_key, kept, text_hash, len(kept.encode()))
