"""An embeddings answer from JSON to vectors that may be written, or an error that says why not.

Checked: as many vectors as texts, every index once, the column's dimension, numbers only, no zero vector (its cosine
to anything is undefined). Vectors leave in pgvector's binary format: int16 dimensions, int16 zero, then big-endian
float32. Refused: guessing which text a vector without an index belongs to.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vectorops.clients.embedding_errors import Unanswered, UnusableVectors
from vectorops.errors import Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Answer:
    """What one request brought. A vector is None where the provider sent no numbers or zeros for that text."""

    vectors: tuple[bytes | None, ...]  # in the order of the texts
    tokens: int | None  # as billed; None when the provider does not say


def read_answer(body: bytes, texts: int, dimensions: int) -> Answer:
    """Read and check; megabytes, so not on the event loop. Raises Unanswered (try again) or UnusableVectors."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise _invalid("no JSON") from None  # the exception holds the answer
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != texts:
        found = len(data) if isinstance(data, list) else "no"
        raise _invalid(f"{found} vectors for {texts} texts")
    by_index = {str(entry.get("index")): entry.get("embedding") for entry in data if isinstance(entry, dict)}
    if by_index.keys() != {str(index) for index in range(texts)}:
        raise _invalid("indexes that do not number the texts")
    vectors = tuple(_vector(by_index[str(index)], dimensions) for index in range(texts))
    return Answer(vectors, _tokens(answer))


def _vector(value: object, dimensions: int) -> bytes | None:
    import numpy as np

    numbers = _numbers(value)
    if len(numbers) != dimensions:
        message = f"the model answers with {len(numbers)} dimensions, spec.embeddings.dimensions is {dimensions}"
        raise UnusableVectors(Reason.ProviderRejected, message)
    if not np.isfinite(numbers).all() or not numbers.any():
        return None
    return struct.pack(">hh", dimensions, 0) + numbers.astype(">f4").tobytes()


def _numbers(value: object) -> npt.NDArray[np.float32]:
    import numpy as np

    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        if isinstance(value, list):
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and that is told as unusable
                return np.asarray(value, dtype=np.float32).reshape(len(value))
    except (binascii.Error, ValueError, TypeError):
        pass  # told below, without what the library says: it may quote the answer
    raise _invalid("an embedding that is neither base64 nor a list of numbers")


def _tokens(answer: dict[str, Any]) -> int | None:
    usage = answer.get("usage")
    for name in ("total_tokens", "prompt_tokens"):
        value = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _invalid(what: str) -> Unanswered:
    return Unanswered(Reason.InvalidAnswer, f"the server behind the base URL answered with {what}")
