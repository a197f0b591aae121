"""How far a mean over images would move with other images of the same kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_DRAWS = 4000


def mean_interval(values: ArrayLike, seed: int = 1, groups: Sequence[str] | None = None) -> tuple[float, float]:
    """95 % interval of a mean: percentiles of the means of samples drawn from the values with replacement.

    Parameters
    ----------
    values : float array (N,)
        One for each image; not empty.
    seed : int
    groups : sequence of N str, optional
        Images of one acquisition resemble each other; with their groups, whole groups are drawn, and the interval is
        that of images from other acquisitions. An image whose group is empty is a group of its own.
    """
    values = np.asarray(values, np.float64)
    if groups is None:
        sums, sizes = values, np.ones(len(values), np.int64)
    else:
        names = [group or (number,) for number, group in enumerate(groups)]
        places: dict[object, int] = {}
        member = [places.setdefault(name, len(places)) for name in names]
        sums, sizes = np.bincount(member, values), np.bincount(member)
    # How often each is drawn, rather than the draws: fewer numbers, the same means.
    counts = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _DRAWS)
    low, high = np.percentile(counts @ sums / (counts @ sizes), [2.5, 97.5])
    return float(low), float(high)
