"""Which true nuclei were not found rightly, which predicted ones are wrong, and in what way.

The kinds are those of the nucleus literature [1]_ (missed, extra, merged, split), made exclusive, with one more for
nuclei that are found but whose outline is not good enough for the IoU asked for.

References
----------
.. [1] Caicedo et al., Evaluation of deep learning strategies for nucleus segmentation in fluorescence images,
   Cytometry A 95 (2019) 952-965.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from maskseg.evaluation.matching import Overlaps, matches

# A true nucleus and a predicted one that share no more than this percentage of their union have not met.
_TOUCH = 10


class ErrorType(IntEnum):
    """What became of a nucleus."""

    right = 0
    inexact = 1  # it met a nucleus of the other side, at an IoU too low to count
    merged = 2
    split = 3
    missed = 4  # true nuclei only
    extra = 5  # predicted nuclei only


@dataclass(frozen=True)
class ErrorTypes:
    """The error type of every nucleus of an image, in the order of the labels of `Overlaps`.

    Attributes
    ----------
    truth : int8 array (N,)
        merged: not right, and mainly (by more than half) in a predicted nucleus that holds another one mainly, too;
        split: not right, and two predicted nuclei or more lie mainly in it.
    pred : int8 array (M,)
        merged: not right, and holds two true nuclei or more mainly; split: not right, and one of several that lie
        mainly in one true nucleus.
    """

    truth: NDArray[np.int8]
    pred: NDArray[np.int8]


def error_types(pairs: Overlaps, percent: int) -> ErrorTypes:
    """Sort the nuclei of an image by what became of them at an IoU threshold.

    Parameters
    ----------
    pairs : Overlaps
    percent : int
        A match is an IoU above this, 50 or more.
    """
    true_at, pred_at = pairs.truth_index, pairs.pred_index
    in_pred = 2 * pairs.intersection > pairs.truth_areas[true_at]
    in_truth = 2 * pairs.intersection > pairs.pred_areas[pred_at]
    met = 100 * pairs.intersection > _TOUCH * pairs.union
    right = matches(pairs, percent)
    n_truth, n_pred = len(pairs.truth_areas), len(pairs.pred_areas)
    holds_several = np.bincount(pred_at[in_pred], minlength=n_pred) > 1
    in_several = np.bincount(true_at[in_truth], minlength=n_truth) > 1

    truth = np.full(n_truth, ErrorType.missed, np.int8)
    truth[true_at[met]] = ErrorType.inexact
    truth[in_several] = ErrorType.split
    truth[true_at[in_pred & holds_several[pred_at]]] = ErrorType.merged
    truth[true_at[right]] = ErrorType.right
    pred = np.full(n_pred, ErrorType.extra, np.int8)
    pred[pred_at[met]] = ErrorType.inexact
    pred[pred_at[in_truth & in_several[true_at]]] = ErrorType.split
    pred[holds_several] = ErrorType.merged
    pred[pred_at[right]] = ErrorType.right
    return ErrorTypes(truth, pred)
