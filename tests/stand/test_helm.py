"""`python -m stand.helm --set`: values as helm reads them."""

from __future__ import annotations

from typing import Any

import pytest

from stand.helm import _typed
from stand.world import LOOPBACK


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("null", None),
        ("12", 12),
        ("1.5", "1.5"),
        ("{a,b}", ["a", "b"]),
        ("{}", []),
        ("{" + ",".join(LOOPBACK) + "}", list(LOOPBACK)),
    ],
)
def test_a_value_is_what_helm_makes_of_it(text: str, value: Any) -> None:
    assert _typed(text) == value
