"""Of a text that comes in pieces, the lines that somebody wants: the rest is never kept, parsed or decoded.

A busy process exposes megabytes of samples; three families of them are read. Parsers of such texts are quadratic in
the length of a line, so a long one is dropped with its beginning: no sample that is read here has one. Refused: keeping
more than MOST_KEPT bytes. Pure.
"""

from __future__ import annotations

LONGEST_LINE = 4 << 10
"""A sample with fifty labels of 64 characters; those that are read have three or four."""

MOST_KEPT = 512 << 10
"""A histogram of twenty buckets for two hundred combinations of labels."""


class TooMuch(ValueError):
    """More lines that begin as wanted than anybody counts."""


class Wanted:
    """Lines that begin with one of `names`; and the first one, by which a parser tells what is no such text at all."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._beginnings = tuple(name.encode() + end for name in names for end in (b"{", b" ", b"\t"))
        self._rest = b""
        self._begun = False
        self._skipping = False  # the line under way is too long already
        self._kept: list[bytes] = []
        self._size = 0

    def feed(self, part: bytes) -> None:
        """The next piece. Raises TooMuch."""
        lines = part.split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = b""
        for line in lines[:-1]:
            self._take(line)
        if self._skipping or len(lines[-1]) > LONGEST_LINE:
            self._skipping = True
        else:
            self._rest = lines[-1]

    def text(self) -> bytes:
        """What was kept, and the last line if no newline ended it."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        return b"".join(self._kept)

    def _take(self, line: bytes) -> None:
        skipped, self._skipping = self._skipping, False
        if skipped or len(line) > LONGEST_LINE:
            return
        first = not self._begun and bool(line.strip()) and not line.startswith(b"#")
        self._begun = self._begun or first
        if not first and not line.startswith(self._beginnings):
            return
        self._size += len(line) + 1
        if self._size > MOST_KEPT:
            raise TooMuch("more samples than are counted")
        self._kept.append(line + b"\n")
