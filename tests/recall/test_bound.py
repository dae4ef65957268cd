"""What is said of a mean holds: bounds are rarely too high, and they are good enough to decide with."""

from __future__ import annotations

import numpy as np
import pytest

from vectorops.recall.bound import lower_bound, surely_at_least, surely_below

SEEDS = 200
QUERIES = 256


def recalls(mean: float, seed: int, queries: int = QUERIES, k: int = 10) -> list[float]:
    """Recalls of queries that differ in difficulty, as those of an HNSW index do."""
    random = np.random.default_rng(seed)
    difficulty = random.beta(mean * 8, (1 - mean) * 8, queries)
    return [float(hits) / k for hits in random.binomial(k, difficulty)]


@pytest.mark.parametrize("mean", [0.5, 0.9, 0.95, 0.99])
def test_a_bound_above_the_truth_is_rarer_than_one_in_twenty(mean: float) -> None:
    above = sum(lower_bound(recalls(mean, seed), QUERIES) > mean for seed in range(SEEDS))
    assert above <= SEEDS // 20


def test_looking_again_after_every_few_queries_accepts_no_more_than_one_in_twenty_below_the_target() -> None:
    accepted = 0
    for seed in range(SEEDS):
        sample = recalls(0.9499, seed)
        accepted += any(surely_at_least(sample[:n], 0.95, QUERIES) for n in range(16, QUERIES + 1, 16))
    assert accepted <= SEEDS // 20


def test_a_clear_case_is_decided_by_few_queries() -> None:
    good = sum(surely_at_least(recalls(0.995, seed)[:128], 0.95, QUERIES) for seed in range(50))
    bad = sum(surely_below(recalls(0.80, seed)[:64], 0.95, QUERIES) for seed in range(50))
    assert good >= 45
    assert bad >= 45


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_extreme_samples_and_targets_are_no_division_by_zero(extreme: float) -> None:
    assert 0.0 <= lower_bound([extreme] * 64, 64) <= extreme
    assert surely_at_least([1.0] * 256, 0.97, 256)
    assert not surely_at_least([1.0] * 10, 1.0, 256)
    assert not surely_below([1.0] * 256, 1.0, 256)
    assert surely_below([0.0] * 64, 1.0, 64)


def test_nothing_is_said_of_an_empty_sample() -> None:
    assert lower_bound([], 256) == 0.0
    assert not surely_at_least([], 0.5, 256)
    assert not surely_below([], 0.5, 256)
