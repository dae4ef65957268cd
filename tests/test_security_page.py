"""docs/security.md names tests that are there: a threat whose test has gone is open."""

from __future__ import annotations

import re
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
