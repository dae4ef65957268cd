"""JSON of strangers: how much a text becomes in memory is known before it is parsed.

A parser makes an object of at least some fifty bytes out of every value, and a value may be three bytes long: a
megabyte of `[],` is twenty-five megabytes of lists. Commas, colons and opening brackets count the values from above.
Refused: texts of more values than the caller expects, and what nests deeper than Python can follow. Pure.
"""

from __future__ import annotations

import json
from typing import Any

from vectorops.errors import Reason, Transient

ERROR_BYTES = 64 << 10
"""The body of a refusal: a code and a sentence."""

PLAN_VALUES = 100_000
"""In the plan of a statement: a node has thirty, and a table of a thousand partitions a node for each of them."""

SEPARATORS = (",", ":", "[", "{")


def parse(text: bytes | bytearray | str, most_values: int) -> Any:
    """As json.loads. Raises ValueError for no JSON, and for more values than that."""
    found = text.count if isinstance(text, str) else lambda separator: text.count(separator.encode())
    if sum(found(separator) for separator in SEPARATORS) > most_values:
        raise ValueError("more values than an answer can have")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested deeper than anything that is an answer") from None


def from_database(text: object, most_values: int) -> Any:
    """What a database answered as JSON. Raises Transient(DatabaseError)."""
    try:
        return parse(text if isinstance(text, str) else "", most_values)
    except ValueError:
        message = f"The database's answer is no JSON that can be read. {Reason.DatabaseError.next_step}"
        raise Transient(Reason.DatabaseError, message) from None
