"""An embeddings answer from JSON to vectors that may be written, or an error that says why not.

Checked: as many vectors as texts, every index once, the column's dimension, numbers only, no zero vector (its cosine
to anything is undefined). Vectors leave in pgvector's binary format: int16 dimensions, int16 zero, then big-endian
float32. Nearly all of an answer are its vectors, which a JSON parser would copy twice, or make much larger lists of:
`embedding_skeleton` lifts them out, and they are decoded, checked and packed some dozen at a time. Refused: guessing
which text a vector without an index belongs to.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vectorops.clients.embedding_errors import Unanswered, UnusableVectors
from vectorops.clients.embedding_skeleton import Lifted, parse
from vectorops.errors import Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HEADER = struct.Struct(">HH")  # pgvector's vector_send: dimensions, unused
BLOCK = 64  # vectors at a time: 400 KB of 1,536 dimensions stay in a core's cache through all steps

MOST_TOKENS = 1_000_000_000
"""Of one request, whose body has some megabytes; what is beyond is no bill, and fits into no account."""


@dataclass(frozen=True)
class Answer:
    """What one request brought. A vector is None where the provider sent no numbers or zeros for that text."""

    vectors: tuple[bytes | None, ...]  # in the order of the texts
    tokens: int | None  # as billed; None when the provider does not say
    as_text: bool = False  # numbers came as decimals, five times the bytes of base64


def read_answer(body: bytes | bytearray, texts: int, dimensions: int) -> Answer:
    """Read and check; megabytes, so not on the event loop. Raises Unanswered (try again) or UnusableVectors."""
    try:
        answer = parse(body, texts)
    except ValueError:
        raise _invalid("no JSON") from None  # the exception holds the answer
    return check_answer(answer, texts, dimensions)


def check_answer(answer: Any, texts: int, dimensions: int) -> Answer:
    """The same of an answer that is JSON no more, such as one in a batch's results."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != texts:
        found = len(data) if isinstance(data, list) else "no"
        raise _invalid(f"{found} vectors for {texts} texts")
    by_index = {str(entry.get("index")): entry.get("embedding") for entry in data if isinstance(entry, dict)}
    if by_index.keys() != {str(index) for index in range(texts)}:
        raise _invalid("indexes that do not number the texts")
    values = [by_index[str(index)] for index in range(texts)]
    vectors: list[bytes | None] = []
    for begin in range(0, texts, BLOCK):
        vectors += _block(values[begin : begin + BLOCK], dimensions)
    as_text = any(value.is_list if isinstance(value, Lifted) else isinstance(value, list) for value in values)
    return Answer(tuple(vectors), _tokens(answer), as_text)


def _block(values: Sequence[object], dimensions: int) -> list[bytes | None]:
    """Some vectors, decoded into one array in the format they leave in, and checked there."""
    import numpy as np

    frames = np.empty((len(values), HEADER.size + 4 * dimensions), dtype=np.uint8)
    frames[:, : HEADER.size] = np.frombuffer(HEADER.pack(dimensions, 0), dtype=np.uint8)
    numbers = frames[:, HEADER.size :].view("<f4")
    for row, value in enumerate(values):
        one = _numbers(value, dimensions)
        if len(one) != dimensions:
            raise _mismatch(len(one), dimensions)
        numbers[row] = one
    usable = _usable(numbers)
    numbers.byteswap(inplace=True)
    return [frame.tobytes() if good else None for frame, good in zip(frames, usable, strict=True)]


def _usable(numbers: npt.NDArray[np.float32]) -> list[bool]:
    """Which of these hold numbers only, and not zeros only."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", numbers, numbers)  # one pass; it is infinite or zero for doubtful ones only
    usable: npt.NDArray[np.bool_] = np.isfinite(squares) & (squares > 0)
    for row in np.flatnonzero(~usable):  # very large and very small numbers are numbers
        usable[row] = bool(np.isfinite(numbers[row]).all() and numbers[row].any())
    return list(usable)


def _numbers(value: object, dimensions: int) -> npt.NDArray[np.float32]:
    import numpy as np

    try:
        if isinstance(value, Lifted):
            value = _read(value, dimensions)
        if isinstance(value, bytes):
            return np.frombuffer(value, dtype="<f4")
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        if isinstance(value, list):
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and that is told as unusable
                return np.asarray(value, dtype=np.float32).reshape(len(value))
    except (binascii.Error, ValueError, TypeError):
        pass  # told below, without what the library says: it may quote the answer
    raise _invalid("an embedding that is neither base64 nor a list of numbers")


def _read(lifted: Lifted, dimensions: int) -> object:
    """Decoded base64, a string with escapes, or a list of as many values as the column has dimensions."""
    source = bytes(lifted.source)
    if lifted.is_list:
        if (count := source.count(b",") + 1) != dimensions:
            raise _mismatch(count, dimensions)  # before a list of any length is made of it
        return lifted.read()
    return lifted.read() if b"\\" in source else _decode(lifted.source[1:-1])


def _mismatch(found: int, dimensions: int) -> UnusableVectors:
    message = f"the model answers with {found} dimensions, spec.embeddings.dimensions is {dimensions}"
    return UnusableVectors(Reason.ProviderRejected, message)


def _decode(text: memoryview) -> bytes:
    import pybase64

    return pybase64.b64decode(text, validate=True)


def _tokens(answer: dict[str, Any]) -> int | None:
    usage = answer.get("usage")
    for name in ("total_tokens", "prompt_tokens"):
        value = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS:
            return value
    return None


def _invalid(what: str) -> Unanswered:
    return Unanswered(Reason.InvalidAnswer, f"the server behind the base URL answered with {what}")
