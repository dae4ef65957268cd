"""What the vector of a text is, and how many tokens it is billed.

Both are pure functions of the text, so that a test can look at a filled table and say of every row whether its
vector is the right one and of the whole run what it must have cost.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


def vector_for(text: str, dimensions: int) -> Vector:
    """The unit vector of a text: a random direction seeded by SHA-256 of its UTF-8 bytes."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    direction = np.random.default_rng(seed).standard_normal(dimensions)
    return (direction / np.linalg.norm(direction)).astype(np.float32)


def tokens_of(text: str) -> int:
    """The tokens a text is billed: its UTF-8 bytes divided by four, rounded up (for English near the truth)."""
    return math.ceil(len(text.encode()) / 4)
