"""JSON of an embeddings answer without its vectors: every long value under a key "embedding" is lifted out unparsed.

What is left is a few dozen bytes a vector and goes to the JSON parser as it is, so structure and indexes are judged by
it alone. Anything unusual (a value that ends up outside the entries of `data`) is parsed the plain way, from the whole
body. Refused, as no JSON: what is left being larger than an answer's frame, an unusual body of megabytes. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from vectorops.clients.foreign import jsontext

KEY = b'"embedding"'
VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*(["\[])')
LIST_ENDS = re.compile(rb'["\[{\]]')  # or it is none of numbers; before the next key in any case, so this stays linear
NEAR = 1_024  # bytes in which the next key usually is; in a longer text Python prepares a table before it searches
SHORT = 256  # characters, 48 numbers of base64: shorter values are parsed with the rest, they cost nothing
PLAIN_BYTES = 4 << 20  # of an unusual body: its text may take four times that
PLAIN_VALUES = 200_000  # in it: 2,048 vectors of 48 numbers, and their frame
FRAME_BYTES, FRAME_VALUES = 1_024, 64  # of what is left, for each text: usual servers send 60 bytes in 7 values
KEYS, KEYS_BESIDE = 4, 64  # `"embedding"` comes twice in an entry: as what it is, and as its value's key
BESIDE_BYTES, BESIDE_VALUES = 1 << 18, 1_000  # and beside all of them


@dataclass(frozen=True)
class Lifted:
    """A string or a list of numbers as it stands in the body, with its quotes or brackets."""

    source: memoryview

    @property
    def is_list(self) -> bool:
        """Whether it is a list of numbers."""
        return self.source[0] == ord("[")

    def read(self) -> Any:
        """As JSON. Raises ValueError."""
        return json.loads(bytes(self.source))


def parse(body: bytes | bytearray, texts: int = 1) -> Any:
    """As json.loads(body), but that `embedding` of entries of `data` may be Lifted. Raises ValueError for no JSON."""
    lifted: dict[str, memoryview] = {}
    skeleton = b"".join(_skeleton(memoryview(body), body, lifted, KEYS_BESIDE + KEYS * texts))
    if lifted and len(skeleton) <= BESIDE_BYTES + FRAME_BYTES * texts:
        answer = jsontext.parse(skeleton, BESIDE_VALUES + FRAME_VALUES * texts)
        if _put_back(answer, lifted) == len(lifted):
            return answer
    if len(body) > PLAIN_BYTES:
        raise ValueError("larger than anything unusual that is an answer")
    return jsontext.parse(body, PLAIN_VALUES)


def _skeleton(
    view: memoryview, body: bytes | bytearray, lifted: dict[str, memoryview], most: int
) -> Iterator[memoryview | bytes]:
    """The body with a name in the place of each lifted value, one that no server can have put there.

    `most` keys are looked at: a body of nothing but keys would be looked at for seconds.
    """
    secret = token_hex(8)
    kept = at = 0
    while (found := _find(body, at)) >= 0 and most:
        most -= 1
        at = found + len(KEY)
        value = VALUE.match(body, at)
        if value is None:
            continue
        begin = value.start(1)
        end = _end(body, begin)
        if end - begin < SHORT:
            at = begin + 1
            continue
        name = f"{secret}{len(lifted)}"
        yield view[kept:begin]
        yield f'"{name}"'.encode()
        lifted[name] = view[begin:end]
        kept = at = end
    yield view[kept:]


def _end(body: bytes | bytearray, begin: int) -> int:
    """Behind the value that begins there; before it where it is no simple one: that is the parser's business."""
    if body[begin] == ord('"'):
        end = body.find(b'"', begin + 1)
        return -1 if body[end - 1] == ord("\\") else end + 1
    found = LIST_ENDS.search(body, begin + 1)
    return -1 if found is None or found.group() != b"]" else found.end()


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
