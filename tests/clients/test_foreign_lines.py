"""What is kept of a text of metrics, however it is cut into pieces, and what it costs to read it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.clients import service_figures
from vectorops.clients.foreign.lines import LONGEST_LINE, MOST_KEPT, TooMuch, Wanted

NAMES = ("wanted_total", "also_bucket")
LINES = st.sampled_from(
    [b"wanted_total 1", b'wanted_total{a="b"} 2', b"wanted_total_more 3", b"other 4", b"# HELP wanted_total x", b"",
     b'also_bucket{le="1"} 5', b"wanted_total" + b"{" + b"x" * LONGEST_LINE, b"x" * 3 * LONGEST_LINE]
)  # fmt: skip


@given(st.lists(LINES, max_size=12), st.integers(1, 3 * LONGEST_LINE), st.booleans())
def test_pieces_of_any_size_keep_the_same_lines(lines: list[bytes], size: int, ended: bool) -> None:
    text = b"first 0\n" + b"\n".join(lines) + (b"\n" if ended else b"")
    wanted = Wanted(NAMES)
    for at in range(0, len(text), size):
        wanted.feed(text[at : at + size])
    kept = [line for line in lines if re.match(rb"(wanted_total|also_bucket)[{ ]", line) and len(line) <= LONGEST_LINE]
    assert wanted.text() == b"".join(line + b"\n" for line in [b"first 0", *kept])


def test_more_than_anybody_counts_is_refused() -> None:
    wanted = Wanted(NAMES)
    with pytest.raises(TooMuch):
        wanted.feed(b"wanted_total 1\n" * (MOST_KEPT // 10))


def test_labels_are_not_parsed_where_nobody_reads_them() -> None:
    """The parser is quadratic in a line: this one of 1.9 MB alone would take a minute."""
    labels = ",".join(f'a{number}="1"' for number in range(165_000))
    text = f"other{{{labels}}} 1\n{service_figures.SEARCHES}{{{labels}}} 1\n{service_figures.SEARCHES} 7\n".encode()
    wanted = Wanted(service_figures.READ)
    wanted.feed(text)
    kept = wanted.text()
    assert len(kept) < 100
    assert service_figures.counters(kept.decode(), "a").searches == 7
