"""docs/reasons.md says of every reason that any kind can show what the code says of it: what it means, what to do."""

from __future__ import annotations

import re
from pathlib import Path

from vectorops.errors import Reason

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reasons.md").read_text()


def test_the_page_has_every_reason_once_with_its_meaning_and_its_next_step() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted((str(one), str(one.means).lower(), one.next_step) for one in Reason)
