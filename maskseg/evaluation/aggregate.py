"""How well the nuclei of an image are covered, all of them together: Dice of the union, AJI, AJI+, panoptic quality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from maskseg.evaluation.matching import Overlaps, matches


def dice(pairs: Overlaps) -> float:
    """Dice coefficient of the pixels of all true and all predicted nuclei; 1 where there are none on both sides."""
    whole = pairs.truth_areas.sum() + pairs.pred_areas.sum()
    return float(2 * pairs.intersection.sum() / whole) if whole else 1.0


def aji(pairs: Overlaps) -> float:
    """Aggregated Jaccard index.

    Every true nucleus takes the predicted one of the highest IoU, of equals the first, which may be taken more than
    once. The index is the sum of the intersections over the sum of the unions and of the areas of the predicted
    nuclei that were not matched [1]_. 1 where there are no nuclei on both sides.

    References
    ----------
    .. [1] Kumar et al., A dataset and a technique for generalized nuclear segmentation for computational pathology,
       IEEE Transactions on Medical Imaging 36 (2017) 1550-1560, algorithm 1.
    """
    order = np.lexsort((pairs.pred_index, -pairs.iou, pairs.truth_index))
    _, first = np.unique(pairs.truth_index[order], return_index=True)
    return _jaccard(pairs, order[first])


def aji_plus(pairs: Overlaps) -> float:
    """AJI with pairs one to one: those of the highest sum of IoUs; what is left over adds to the union [1]_.

    References
    ----------
    .. [1] Graham et al., Hover-Net: simultaneous segmentation and classification of nuclei in multi-tissue histology
       images, Medical Image Analysis 58 (2019) 101563; the code is ``get_fast_aji_plus``.
    """
    return _jaccard(pairs, assign(pairs))


def assign(pairs: Overlaps) -> NDArray[np.intp]:
    """The pairs, as positions among the K, of the one-to-one assignment with the highest sum of IoUs."""
    count, rows = len(pairs.truth_areas), pairs.truth_index
    if not len(rows):
        return np.zeros(0, np.intp)
    # A column of its own lets each true nucleus stay alone; 1 more everywhere, since 0 would stand for no edge.
    alone = np.arange(count)
    # SciPy before 1.15 matches with places of 32 bits only.
    places = np.concatenate([rows, alone]), np.concatenate([pairs.pred_index, len(pairs.pred_areas) + alone])
    gains = np.concatenate([1 + pairs.iou, np.ones(count)])
    shape = (count, len(pairs.pred_areas) + count)
    table = csr_array((gains, tuple(place.astype(np.int32) for place in places)), shape=shape)
    truth, chosen = min_weight_full_bipartite_matching(table, maximize=True)
    taken = np.full(count, -1)
    taken[truth] = chosen
    return np.flatnonzero(taken[rows] == pairs.pred_index)


def panoptic_quality(pairs: Overlaps) -> float:
    """Sum of the IoUs above 0.5 over TP + FP / 2 + FN / 2; 1 where there are no nuclei on both sides [1]_.

    It is the product of the mean IoU of the matched nuclei (SQ) and F1 at 0.5 (RQ).

    References
    ----------
    .. [1] Kirillov et al., Panoptic segmentation, CVPR 2019.
    """
    whole = len(pairs.truth_areas) + len(pairs.pred_areas)
    return float(2 * pairs.iou[matches(pairs, 50)].sum() / whole) if whole else 1.0


def _jaccard(pairs: Overlaps, chosen: NDArray[np.intp]) -> float:
    truth_left = np.ones(len(pairs.truth_areas), bool)
    pred_left = np.ones(len(pairs.pred_areas), bool)
    truth_left[pairs.truth_index[chosen]] = False
    pred_left[pairs.pred_index[chosen]] = False
    whole = pairs.union[chosen].sum() + pairs.truth_areas[truth_left].sum() + pairs.pred_areas[pred_left].sum()
    return float(pairs.intersection[chosen].sum() / whole) if whole else 1.0
