"""How many tokens a text may be, and how many one request may hold. Pure.

Nothing is tokenised here (`embedding_tokens` counts): a byte-level tokeniser never makes more tokens than a text has
UTF-8 bytes, so bytes bound tokens from above, and the provider's own usage teaches how many tokens a byte really is.
Where nothing better is known, budgets are admitted by the bound and reserved by what was learned; a text is cut by the
optimistic measure first and by the bound if the provider refuses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_INPUTS = 2_048  # texts in one request (OpenAI's API reference)
BYTES_PER_NUMBER = 32  # of an answer: a float64 printed with all its digits
BASE64_PER_NUMBER = 6  # the same as base64: four bytes for every three of a float32
BYTES_PER_TEXT = 512  # everything in an answer that is not a number, for each text
BYTES_BESIDE = 1 << 16  # and beside all of them
MAX_REQUEST_TOKENS = 300_000  # summed over one request (OpenAI's API reference)
MAX_TEXT_TOKENS = 8_191  # of one text: the context of OpenAI's embedding models
PROVIDER_ESTIMATE = 0.25  # tokens a byte: what OpenAI itself assumes when it checks the sum
SPECIAL_TOKENS = 8  # a text: start and end marks, and a prefix such as "passage: " that some servers add
LEARN_SHARE = 0.2  # of the newest answer in what is usual: follows a change of language within a few answers
LEARN_BYTES = 500  # a few words say little: marks and prefixes would count as if they were text
LEARN_MARGIN = 1.5  # the next texts may be of another language than those learned from
OPTIMISTIC_BYTES = int(MAX_TEXT_TOKENS / PROVIDER_ESTIMATE)  # 32 KB: a text of English that just fits
STRICT_BYTES = MAX_TEXT_TOKENS - SPECIAL_TOKENS  # a text that fits whatever it is made of
READ_CHARACTERS = 8 * MAX_TEXT_TOKENS  # of a text: English has four or five a token; what has more is mostly blanks


def answer_bytes(texts: int, dimensions: int, as_text: bool) -> int:
    """The most bytes that an answer with so many vectors has."""
    a_number = BYTES_PER_NUMBER if as_text else BASE64_PER_NUMBER
    return BYTES_BESIDE + texts * (BYTES_PER_TEXT + dimensions * a_number)


def most_texts(most_bytes: int, dimensions: int, as_text: bool) -> int:
    """How many texts have an answer of at most so many bytes; at least one."""
    one = answer_bytes(1, dimensions, as_text) - BYTES_BESIDE
    return max(1, min(MAX_INPUTS, (most_bytes - BYTES_BESIDE) // one))


def most_tokens(size: int, texts: int = 1) -> int:
    """The most tokens that `texts` texts of `size` UTF-8 bytes in all can be billed as."""
    return size + texts * SPECIAL_TOKENS


def cut(text: str, most_bytes: int) -> str:
    """The text, or as many whole characters of its beginning as fit into `most_bytes` of UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= most_bytes else encoded[:most_bytes].decode(errors="ignore")


@dataclass
class TokenRate:
    """What the provider's usage taught. Until it has, every byte counts as a token."""

    highest: float = 0.0  # tokens a byte, of the densest answer so far
    usual: float = 0.0  # tokens a byte, of the latest answers

    def learn(self, size: int, texts: int, tokens: int) -> None:
        """Take in one answer's usage."""
        if size >= LEARN_BYTES:
            self.highest = max(self.highest, max(0, tokens - texts) / size)
            newest = tokens / size
            self.usual = newest if not self.usual else (1 - LEARN_SHARE) * self.usual + LEARN_SHARE * newest

    def expected(self, size: int, texts: int) -> int:
        """What a request of that size is likely to be billed as; never more than the bound."""
        if not self.highest:
            return most_tokens(size, texts)
        return min(most_tokens(size, texts), math.ceil(size * self.highest * LEARN_MARGIN) + texts * 2)

    def counted(self, size: int) -> int:
        """What the provider counts against its limits."""
        return math.ceil(size * max(PROVIDER_ESTIMATE, self.usual))
