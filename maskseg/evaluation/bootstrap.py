"""How far a mean over images would move with other images of the same kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_DRAWS = 4000


def mean_interval(values: ArrayLike, seed: int = 1) -> tuple[float, float]:
    """95 % interval of a mean: percentiles of the means of samples drawn from the values with replacement.

    Parameters
    ----------
    values : float array (N,)
        One for each image; not empty.
    seed : int
    """
    values = np.asarray(values, np.float64)
    # How often each value is drawn, rather than the draws: fewer numbers, the same means.
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), _DRAWS)
    low, high = np.percentile(counts @ values / len(values), [2.5, 97.5])
    return float(low), float(high)
