"""What a sample of recalls lets one say of the mean: bounds that hold however often they are looked at. Pure.

A recall of one query is a number in 0..1 whose distribution nobody knows, most of it at 1 with a long tail. Bounds that
assume a normal distribution say too much of such samples, and looking again after every few queries makes it worse.
So a test by betting is used (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
2024): a gambler who bets against "the mean is at most m" multiplies his capital by 1 + stake * (x - m) at each query;
if that is true he becomes twenty times as rich with a probability of at most 5 %, at any time (Ville). Hence the sample
may grow until the answer is clear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA = 0.05
"""Probability of saying too much: what a person would call 95 percent sure."""

MOST_STAKE = 0.9
"""Of what can be staked without risk of ruin: at 1 a single recall of 0 would end the game."""

PRIOR_MEAN, PRIOR_VARIANCE = 0.95, 0.01
"""What recalls of usable indexes look like: only the first stakes depend on it, never whether the bound holds."""

RESOLUTION = 1000
"""Bounds are found to a tenth of a percent."""


def surely_at_least(recalls: Sequence[float], target: float, most: int, alpha: float = ALPHA) -> bool:
    """Whether the mean is at least `target` (0..1). `most`: how large the sample may grow; stakes are sized for it."""
    return bool(recalls) and _richest(recalls, [target - 1e-9], most, alpha)[0] >= math.log(1 / alpha)


def surely_below(recalls: Sequence[float], target: float, most: int, alpha: float = ALPHA) -> bool:
    """Whether the mean is below `target` (0..1)."""
    mirrored = [1 - recall for recall in recalls]
    return bool(recalls) and _richest(mirrored, [1 - target], most, alpha)[0] >= math.log(1 / alpha)


def lower_bound(recalls: Sequence[float], most: int, alpha: float = ALPHA) -> float:
    """The largest mean (0..1) that can be ruled out from below; 0 for an empty sample."""
    if not recalls:
        return 0.0
    means = [step / RESOLUTION for step in range(RESOLUTION)]
    richest = _richest(recalls, means, most, alpha)
    wanted = math.log(1 / alpha)
    return max((mean for mean, capital in zip(means, richest, strict=True) if capital >= wanted), default=0.0)


def upper_bound(recalls: Sequence[float], most: int, alpha: float = ALPHA) -> float:
    """The smallest mean (0..1) that can be ruled out from above; 1 for an empty sample."""
    return 1.0 - lower_bound([1 - recall for recall in recalls], most, alpha)


def _richest(values: Sequence[float], means: Sequence[float], most: int, alpha: float) -> NDArray[np.float64]:
    """The logarithm of the largest capital that the gambler ever had, for each supposed mean."""
    import numpy as np

    x = np.asarray(values, dtype=np.float64)
    m = np.clip(np.asarray(means, dtype=np.float64), 1e-9, 1 - 1e-9)
    stakes = np.minimum(_stakes(x, max(most, len(x)), alpha)[:, None], MOST_STAKE / m[None, :])
    capital = np.cumsum(np.log1p(stakes * (x[:, None] - m[None, :])), axis=0)
    return np.asarray(capital.max(axis=0), dtype=np.float64)


def _stakes(x: NDArray[np.float64], most: int, alpha: float) -> NDArray[np.float64]:
    """The stake at each query, from the queries before it only: that is what makes the bound hold at any time."""
    import numpy as np

    count = np.arange(1, len(x) + 1)
    mean = (PRIOR_MEAN + np.cumsum(x)) / (count + 1)
    spread = (PRIOR_VARIANCE + np.cumsum((x - mean) ** 2)) / (count + 1)
    before = np.concatenate(([PRIOR_VARIANCE], spread[:-1]))
    return np.asarray(np.sqrt(2 * math.log(1 / alpha) / (before * most)), dtype=np.float64)
