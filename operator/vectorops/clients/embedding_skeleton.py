"""JSON of an embeddings answer without its base64: every long string under a key "embedding" is lifted out unparsed.

What is left is a few dozen bytes a vector and goes to the JSON parser as it is, so structure and indexes are judged by
it alone. Anything unusual (an escape in such a string, one that ends up outside the entries of `data`) is parsed the
plain way, from the whole body. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

KEY = b'"embedding"'
VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')
NEAR = 1_024  # bytes in which the next key usually is; in a longer text Python prepares a table before it searches
SHORT = 256  # characters of base64, 48 numbers: shorter ones are parsed with the rest, they cost nothing


@dataclass(frozen=True)
class Lifted:
    """Base64 as it stands in the body."""

    text: memoryview


def parse(body: bytes | bytearray) -> Any:
    """As json.loads(body), but that `embedding` of entries of `data` may be Lifted. Raises ValueError for no JSON."""
    lifted: dict[str, memoryview] = {}
    skeleton = b"".join(_skeleton(memoryview(body), body, lifted))
    if lifted:
        answer = json.loads(skeleton)
        if _put_back(answer, lifted) == len(lifted):
            return answer
    return json.loads(body)


def _skeleton(view: memoryview, body: bytes | bytearray, lifted: dict[str, memoryview]) -> Iterator[memoryview | bytes]:
    """The body with a name in the place of each lifted string, one that no server can have put there."""
    secret = token_hex(8)
    kept = at = 0
    while (found := _find(body, at)) >= 0:
        at = found + len(KEY)
        value = VALUE.match(body, at)
        if value is None:
            continue
        begin = value.end()
        end = body.find(b'"', begin)
        if end - begin < SHORT or body.find(b"\\", begin, end) >= 0:  # an escape is the parser's business
            at = begin
            continue
        name = f"{secret}{len(lifted)}"
        yield view[kept:begin]
        yield name.encode()
        lifted[name] = view[begin:end]
        kept = end
        at = end + 1
    yield view[kept:]


def _find(body: bytes | bytearray, at: int) -> int:
    found = body.find(KEY, at, at + NEAR)
    return found if found >= 0 else body.find(KEY, at + NEAR - len(KEY))


def _put_back(answer: Any, lifted: dict[str, memoryview]) -> int:
    """Each lifted string into its entry of `data`; how many found one."""
    data = answer.get("data") if isinstance(answer, dict) else None
    found = 0
    for entry in data if isinstance(data, list) else ():
        name = entry.get("embedding") if isinstance(entry, dict) else None
        if isinstance(name, str) and name in lifted:
            entry["embedding"] = Lifted(lifted[name])
            found += 1
    return found
