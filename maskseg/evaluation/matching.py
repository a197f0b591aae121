"""Which predicted nucleus overlaps which true one, from two label images.

The pixels are looked at once: every pixel carries a pair (true label, predicted label), and counting the
distinct pairs gives all intersections and, with the pairs that hold a zero, all areas. The cost is one pass
over the pixels and one sort of their runs of equal pairs, whatever the number of nuclei; there is no N x M
table of IoUs and no N x H x W stack of masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError

_LARGEST_LABEL = 2**32 - 1


@dataclass(frozen=True)
class Overlaps:
    """The overlapping pairs of nuclei of one image, K of them out of N true and M predicted nuclei.

    Attributes
    ----------
    truth_labels, pred_labels : uint64 arrays (N,), (M,)
        The labels that occur, rising, without the background 0.
    truth_areas, pred_areas : int64 arrays (N,), (M,)
        Pixels of each label.
    truth_index, pred_index : int64 arrays (K,)
        Positions in `truth_labels` and `pred_labels` of each pair that shares a pixel.
    intersection, union : int64 arrays (K,)
        Pixels of each pair.
    """

    truth_labels: np.ndarray
    pred_labels: np.ndarray
    truth_areas: np.ndarray
    pred_areas: np.ndarray
    truth_index: np.ndarray
    pred_index: np.ndarray
    intersection: np.ndarray
    union: np.ndarray

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU of each pair, float64 (K,); decide matches with `matches`, which needs no rounding."""
        return np.asarray(self.intersection / self.union, np.float64)


def overlaps(truth: np.ndarray, prediction: np.ndarray) -> Overlaps:
    """Count the pixels that each true and each predicted nucleus share.

    Parameters
    ----------
    truth, prediction : integer arrays (H, W)
        Label images, 0 for background; labels need not be consecutive and may be of any integer dtype.

    Returns
    -------
    Overlaps
        Pairs that share at least one pixel.

    Raises
    ------
    InputError
        The images differ in size, or hold fractions, negative labels or labels above 2**32 - 1.
    """
    truth, prediction = _checked(truth, "truth"), _checked(prediction, "prediction")
    if truth.shape != prediction.shape:
        raise InputError(
            f"the prediction is {prediction.shape[0]} x {prediction.shape[1]} pixels (height x width), "
            f"the truth {truth.shape[0]} x {truth.shape[1]}: score it at the size of the original image"
        )
    keys, counts = _count(truth.ravel(), prediction.ravel())
    foreground = keys != 0
    keys, counts = keys[foreground], counts[foreground]
    of_truth, of_pred = keys >> np.uint64(32), keys & np.uint64(_LARGEST_LABEL)

    truth_labels, truth_areas = _areas(of_truth, counts)
    pred_labels, pred_areas = _areas(of_pred, counts)
    shared = (of_truth != 0) & (of_pred != 0)
    truth_index = np.searchsorted(truth_labels, of_truth[shared])
    pred_index = np.searchsorted(pred_labels, of_pred[shared])
    intersection = counts[shared]
    union = truth_areas[truth_index] + pred_areas[pred_index] - intersection
    return Overlaps(truth_labels, pred_labels, truth_areas, pred_areas, truth_index, pred_index, intersection, union)


def matches(pairs: Overlaps, percent: int, inclusive: bool = False) -> np.ndarray:
    """Say which pairs match, that is, have an IoU strictly above `percent` / 100.

    Decided in integers, 100 * intersection > percent * union: an IoU of exactly 0.5 or 0.75 is common on
    small nuclei, and a rounded quotient would let it pass or fail by accident.

    From 50 on a match is unique without any assignment step. Of two nuclei that both overlapped a third by
    more than half of its union, each would hold more than half of the third's pixels, and labels of one image
    do not overlap. So the number of true positives is the number of matching pairs.

    Parameters
    ----------
    pairs : Overlaps
    percent : int
        50 to 100.
    inclusive : bool
        Count an IoU of exactly `percent` / 100 too, as StarDist and COCO do. Where a nucleus is cut into two equal
        halves, both have an IoU of 0.5, and the first of the pairs is the match.

    Returns
    -------
    bool array (K,)

    Raises
    ------
    ValueError
        Below 50 one nucleus may match several and counting pairs would be wrong.
    """
    if not 50 <= percent <= 100:
        raise ValueError(f"a match is unique from an IoU of 50 percent on, not at {percent}")
    if not inclusive:
        return 100 * pairs.intersection > percent * pairs.union
    matched = 100 * pairs.intersection >= percent * pairs.union
    for index in (pairs.truth_index, pairs.pred_index):
        chosen = np.flatnonzero(matched)
        again = np.ones(len(chosen), bool)
        again[np.unique(index[chosen], return_index=True)[1]] = False
        matched[chosen[again]] = False
    return matched


def _checked(labels: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise InputError(f"the {name} has the shape {labels.shape}: a label image is (height, width)")
    if labels.dtype.kind not in "biu":
        raise InputError(f"the {name} holds {labels.dtype} values: labels are whole numbers, 0 for background")
    if labels.size and (labels.min() < 0 or labels.max() > _LARGEST_LABEL):
        raise InputError(f"the {name} holds labels below 0 or above {_LARGEST_LABEL}: renumber them from 1")
    return labels


def _count(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs (true label in the upper 32 bits, predicted one in the lower) and the pixels of each.

    Neighbours of the same pair are joined first: a row of an image holds few runs, and only these are sorted.
    """
    if not truth.size:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    change = truth[1:] != truth[:-1]
    change |= prediction[1:] != prediction[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    lengths = np.diff(starts, append=truth.size)
    keys = (truth[starts].astype(np.uint64) << np.uint64(32)) | prediction[starts].astype(np.uint64)
    distinct, which = np.unique(keys, return_inverse=True)
    return distinct, _sums(which, lengths, len(distinct))


def _areas(labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels above 0 and their pixels, from the counted pairs."""
    labels, counts = labels[labels != 0], counts[labels != 0]
    distinct, which = np.unique(labels, return_inverse=True)
    return distinct, _sums(which, counts, len(distinct))


def _sums(which: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    # bincount adds in float64, which is exact up to 2**53 pixels.
    return np.bincount(which, weights=values, minlength=n).astype(np.int64)
