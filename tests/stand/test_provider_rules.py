"""The mock provider's arithmetic: vectors, tokens and buckets. Pure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stand.provider import tokens_of, vector_for
from stand.provider.limits import Bucket, Limits, duration


def test_a_vector_is_a_function_of_its_text() -> None:
    """Unit length, the same every time, another for another text."""
    vector = vector_for("a knife", 1536)
    assert vector.shape == (1536,) and vector.dtype == np.float32
    assert math.isclose(float(np.linalg.norm(vector)), 1, abs_tol=1e-5)
    assert np.array_equal(vector, vector_for("a knife", 1536))
    assert abs(float(vector @ vector_for("a fork", 1536))) < 0.2


@pytest.mark.parametrize(("text", "tokens"), [("a", 1), ("abcd", 1), ("abcde", 2), ("Löffel", 2), ("", 0)])
def test_tokens_are_a_quarter_of_the_bytes_rounded_up(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


def test_a_bucket_fills_with_time_and_never_over_its_edge() -> None:
    limits = Limits({"requests": Bucket.full(60, burst_seconds=2, now=0)})
    assert limits.take(1, now=0) is None and limits.take(1, now=0) is None
    refused = limits.take(1, now=0.25)
    assert refused is not None and refused.wait_seconds == pytest.approx(0.75)
    assert limits.take(1, now=1.01) is None
    limits.buckets["requests"].refill(1000)
    assert limits.buckets["requests"].level == 2


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0ms"), (0.12, "120ms"), (7.66, "7.66s"), (179.56, "2m59.56s"), (60, "1m0s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
