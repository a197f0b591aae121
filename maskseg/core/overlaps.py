"""Which masks share pixels, found by their boxes and counted on the pixels that two boxes share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks


class Overlaps(NamedTuple):
    """Pairs of masks that share at least one pixel.

    Attributes
    ----------
    first, second : int64 arrays (P,)
        Index in the first and in the second set.
    intersection : int64 array (P,)
        Shared pixels.
    iou : float64 array (P,)
        Intersection over union.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    intersection: NDArray[np.int64]
    iou: NDArray[np.float64]


def overlaps(a: CropMasks, b: CropMasks) -> Overlaps:
    """All pairs of a mask of `a` and a mask of `b` that share pixels, never as an N x M table."""
    return _shared(a, b, *box_pairs(a.boxes, b.boxes))


def overlaps_within(masks: CropMasks) -> Overlaps:
    """All pairs i < j of masks of one set that share pixels, by i, then by j.

    Examples
    --------
    >>> row = np.ones((1, 4), bool)
    >>> overlaps_within(CropMasks((1, 9), [[0, 0, 4, 1], [3, 0, 7, 1]], [row, row])).intersection
    array([1])
    """
    first, second = box_pairs(masks.boxes, masks.boxes)
    once = first < second
    first, second = first[once], second[once]
    order = np.lexsort((second, first))
    return _shared(masks, masks, first[order], second[order])


def covered(masks: CropMasks) -> NDArray[np.bool_]:
    """Pixels that any mask has, bool (H, W)."""
    canvas = np.zeros(masks.shape, bool)
    for (x0, y0, x1, y1), bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True):
        canvas[y0:y1, x0:x1] |= bitmap
    return canvas


def box_pairs(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a box of `a`, (N, 4), and a box of `b`, (M, 4), that share an area: two index arrays int64 (P,)."""
    order = np.argsort(b[:, 0], kind="stable")
    left = b[order, 0]
    widest = (b[:, 2] - b[:, 0]).max(initial=0)
    begin = np.searchsorted(left, a[:, 0] - widest, side="left")
    count = np.maximum(np.searchsorted(left, a[:, 2], side="left") - begin, 0)
    first = np.repeat(np.arange(len(a)), count)
    second = order[np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - begin, count)]
    low, high = np.maximum(a[first, :2], b[second, :2]), np.minimum(a[first, 2:], b[second, 2:])
    meet = (low < high).all(axis=1)
    return first[meet], second[meet]


def _shared(a: CropMasks, b: CropMasks, first: NDArray[np.int64], second: NDArray[np.int64]) -> Overlaps:
    """Those of the pairs that share pixels, with how many."""
    low = np.maximum(a.boxes[first, :2], b.boxes[second, :2])
    high = np.minimum(a.boxes[first, 2:], b.boxes[second, 2:])
    shared = np.empty(len(first), np.int64)
    # Whole numbers of Python: NumPy's own are several times slower as indices.
    places = zip(a.boxes[first, :2].tolist(), b.boxes[second, :2].tolist(), low.tolist(), high.tolist(), strict=True)
    for k, (i, j, place) in enumerate(zip(first.tolist(), second.tolist(), places, strict=True)):
        (ax, ay), (bx, by), (x0, y0), (x1, y1) = place
        of_a = a.bitmaps[i][y0 - ay : y1 - ay, x0 - ax : x1 - ax]
        of_b = b.bitmaps[j][y0 - by : y1 - by, x0 - bx : x1 - bx]
        shared[k] = np.count_nonzero(of_a & of_b)
    hit = shared > 0
    first, second, shared = first[hit], second[hit], shared[hit]
    union = a.areas[first] + b.areas[second] - shared
    return Overlaps(first, second, shared, shared / np.maximum(union, 1))
