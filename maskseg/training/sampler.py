"""Which image comes when: drawn from the seed alone, so that a resumed run goes on as the unbroken one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from maskseg.core.errors import InputError


def modality_weights(modalities: list[str], exponent: float) -> NDArray[np.float64]:
    """Weight of each image, (images of its modality) ** -exponent, with mean 1. float64 (N,)."""
    counts = Counter(modalities)
    weights = np.array([counts[modality] ** -exponent for modality in modalities], np.float64)
    return weights / weights.mean()


def with_shares(weights: NDArray[np.float64], sets: Sequence[int], shares: Sequence[float]) -> NDArray[np.float64]:
    """Weights changed by a factor for each data set, so that it gets its share of the draws.

    Parameters
    ----------
    weights : float array (N,)
        Within a data set they stay in proportion.
    sets : sequence of int (N,)
        Number of the data set that an image is from.
    shares : sequence of float
        One a data set, in any unit; 0 leaves it out.

    Returns
    -------
    float64 array (N,)
        With mean 1.

    Raises
    ------
    InputError
        If there is not one share for each data set, or one cannot be had.
    """
    given = np.asarray(shares, np.float64)
    sums = np.bincount(sets, weights, minlength=len(given))
    if len(given) != len(sums) or not (given >= 0).all() or not given.any() or given[sums == 0].any():
        raise InputError(
            f"DATASETS.TRAIN_SHARES is {tuple(shares)}; give a share of 0 or more for each data set of DATASETS.TRAIN"
        )
    weights = weights * (given / np.where(sums > 0, sums, 1))[np.asarray(sets)]
    return weights / weights.mean()


class EpochSampler(Sampler[tuple[int, int]]):
    """Endless (position, index) pairs; an epoch is N draws, or a random share of them.

    With equal weights an epoch is a permutation. Otherwise image i comes floor(w_i) or ceil(w_i) times an epoch,
    w_i times in the mean: fewer repeats by chance than drawing with replacement.

    Parameters
    ----------
    weights : float array (N,)
        Mean 1.
    seed : int
    rank, world_size : int
        This process takes every world_size-th draw.
    share : (float, float)
        Each epoch is a share of the N draws, uniform between these two and one image at least.
    """

    def __init__(
        self,
        weights: NDArray[np.float64],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        share: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.weights = weights
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.share = share
        # Set before iterating: the number of draws, over all processes, that a resumed run has behind it.
        self.start = 0

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Indices of one epoch, int64 (N,) or fewer."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.weights))
        # Systematic sampling: N equally spaced pointers over the shuffled weights.
        edges = np.cumsum(self.weights[order])
        pointers = (np.arange(len(order)) + rng.random()) * (edges[-1] / len(order))
        chosen = order[np.minimum(np.searchsorted(edges, pointers, side="right"), len(order) - 1)]
        return rng.permutation(chosen)[: max(1, round(rng.uniform(*self.share) * len(order)))]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        number, begin, indices = -1, 0, np.empty(0, np.int64)
        for position in itertools.count(self.start + self.rank, self.world_size):
            # How long the epochs before are is known from the seed alone, also where a resumed run begins.
            while position - begin >= len(indices):
                begin, number = begin + len(indices), number + 1
                indices = self.epoch(number)
            yield position, int(indices[position - begin])
