"""What a backfill will cost, from a sample: the arithmetic, and how far it is off. Pure."""

from __future__ import annotations

import random

import pytest

from vectorops.kinds.embeddingbackfill.estimating import (
    MOST_TEXTS,
    SAMPLE_BYTES,
    SAMPLE_ROWS,
    UNCALIBRATED_PERCENT,
    Sampled,
    duration_seconds,
    estimate,
    lower,
    share_of,
)
from vectorops.kinds.embeddingbackfill.observation import Counts, Estimate, Rates


def counts(pending: int, size: int) -> Counts:
    return Counts(rows=pending, embedded=0, blank=0, failed=0, pending=pending, pending_bytes=size)


@pytest.mark.parametrize(
    ("pending", "size", "share"),
    [(1, 100, 1), (1000, 10**5, 1), (1999, 10**5, 1), (2000, 10**5, 2), (10**6, 10**8, 512), (2000, 64_000_000, 8)],
)
def test_the_share_brings_about_a_thousand_rows_and_never_many_bytes(pending: int, size: int, share: int) -> None:
    assert share_of(counts(pending, size)) == share
    assert pending / share <= max(2 * SAMPLE_ROWS, 1) and size / share <= 2 * SAMPLE_BYTES
    assert pending / share < MOST_TEXTS


def test_all_texts_counted_are_exact() -> None:
    sample = [Sampled(100, 1, 25), Sampled(200, 1, 61), Sampled(50, 1, 9)]
    assert estimate(counts(3, 350), sample, 1) == Estimate(3, 95, 0, longest=208)


def test_equal_texts_are_bought_once() -> None:
    sample = [Sampled(100, 9, 25), Sampled(100, 1, 25)]
    assert estimate(counts(10, 1000), sample, 1) == Estimate(2, 50, 0, longest=108)


def test_without_a_tokeniser_a_token_is_four_bytes_and_the_error_says_so() -> None:
    stated = Estimate(2, 100, UNCALIBRATED_PERCENT, longest=308)
    assert estimate(counts(2, 400), [Sampled(100, 1), Sampled(300, 1)], 1) == stated
    found = estimate(counts(2, 400), [Sampled(100, 1), Sampled(300, 1)], 1, rate=0.5)
    assert (found.tokens, found.error_percent) == (200, 15)


def test_a_share_that_held_nothing_falls_back_to_bytes() -> None:
    assert estimate(counts(3, 400), [], 2) == Estimate(3, 100, UNCALIBRATED_PERCENT, longest=408)


@pytest.mark.parametrize("seed", range(20))
def test_a_sample_of_a_shop_is_within_the_error_that_it_states_nearly_always(seed: int) -> None:
    """100,000 texts of uneven length, a fifth of them shared by several rows; nineteen of twenty seeds are nearer."""
    chance = random.Random(seed)
    shop = []
    for _ in range(100_000):
        size = int(chance.lognormvariate(5.5, 0.6))
        rows = chance.choice([1, 1, 1, 1, 5])
        shop.append(Sampled(size, rows, max(1, round(size * chance.gauss(0.24, 0.03)))))
    pending, size = sum(s.rows for s in shop), sum(s.rows * s.size for s in shop)
    share = share_of(counts(pending, size))
    found = estimate(counts(pending, size), [s for s in shop if chance.random() < 1 / share], share)
    true = sum(s.tokens or 0 for s in shop)
    assert abs(found.tokens / true - 1) < 1.5 * found.error_percent / 100
    assert found.error_percent <= 15


def test_the_lowest_limit_says_how_long_it_takes() -> None:
    found = Estimate(texts=100_000, tokens=10_000_000, error_percent=1)
    assert duration_seconds(100_000, found, Rates()) is None
    assert duration_seconds(100_000, found, Rates(tokens_per_minute=1_000_000)) == 600
    assert duration_seconds(100_000, found, Rates(requests_per_minute=3)) == 980  # of 2,048 texts each
    assert duration_seconds(100_000, found, Rates(requests_per_minute=3, batch_size=100)) == 20_000
    assert duration_seconds(100_000, found, Rates(tokens_per_minute=1_000_000, rows_per_second=100)) == 1000


def test_the_lower_of_two_limits_holds() -> None:
    assert (lower(None, None), lower(3, None), lower(3, 2)) == (None, 3, 2)
