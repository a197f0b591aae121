"""Only what a person has looked at is scored: the rest of an image says nothing about a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.evaluation.matching import matches, overlaps


def counted(
    truth: NDArray[Any], prediction: NDArray[Any], region: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Label images without the nuclei of which half or more lies outside of a region.

    A predicted nucleus stays, wherever it lies, if it matches a true one that stays: true ones on its edge
    have their chance.

    Parameters
    ----------
    truth, prediction : integer arrays (H, W)
        Label images.
    region : bool array (H, W)
    """
    truth = _without(truth, _outside(truth, region))
    pairs = overlaps(truth, prediction)
    matched = pairs.pred_labels[pairs.pred_index[matches(pairs, 50)]]
    return truth, _without(prediction, np.setdiff1d(_outside(prediction, region), matched))


def _outside(labels: NDArray[Any], region: NDArray[np.bool_]) -> NDArray[Any]:
    """The labels that have half of their pixels or more outside."""
    found, index, areas = np.unique(labels, return_inverse=True, return_counts=True)
    inside = np.bincount(index.ravel()[region.ravel()], minlength=len(found))
    return found[2 * inside <= areas]


def _without(labels: NDArray[Any], left_out: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isin(labels, left_out), 0, labels).astype(labels.dtype)
