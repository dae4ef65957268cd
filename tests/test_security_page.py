"""docs/security.md names tests that are there: a threat whose test has gone is open."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
TESTS = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


def test_every_test_of_the_threat_table_is_there() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in TESTS
        if not (ROOT / file).is_file() or (name and f"def {name}(" not in (ROOT / file).read_text())
    ]
    assert TESTS and not missing


def test_a_threat_without_a_test_says_that_nothing_stops_it() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.split("## Threats")[1].splitlines() if line.startswith("| ")]
    open_ones = [row[0] for row in rows[1:] if "`tests/" not in row[-1] and "nothing" not in " ".join(row[2:])]
    assert not open_ones


def test_every_row_stands_in_a_table_and_no_threat_twice() -> None:
    lines = PAGE.splitlines()
    astray = [line for above, line in pairwise(lines) if line.startswith("| ") and not above.startswith("|")]
    assert [line.split("|")[1].strip() for line in astray] == ["who", "threat"], "a table begins with its head"
    threats = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert len(threats) == len(set(threats))
