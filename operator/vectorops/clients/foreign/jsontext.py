"""JSON of strangers: how much a text becomes in memory is known before it is parsed.

A parser makes an object of at least some fifty bytes out of every value, and a value may be three bytes long: a
megabyte of `[],` is twenty-five megabytes of lists. Commas, colons and opening brackets count the values from above.
Refused: texts of more values than the caller expects, and what nests deeper than Python can follow. Pure.
"""

from __future__ import annotations

import json
from typing import Any

ERROR_BYTES = 64 << 10
"""The body of a refusal: a code and a sentence."""

SEPARATORS = (b",", b":", b"[", b"{")


def parse(text: bytes | bytearray, most_values: int) -> Any:
    """As json.loads. Raises ValueError for no JSON, and for more values than that."""
    if sum(text.count(separator) for separator in SEPARATORS) > most_values:
        raise ValueError("more values than an answer can have")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested deeper than anything that is an answer") from None
