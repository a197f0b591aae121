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
    """Pairs of a box of `a`, (N, 4), and a box of `b`, (M, 4), that share an area: two index arrays int64 (P,).

    By the first, then by the left edge of the second. The time follows the pairs and not N x M: boxes of `b` of about
    one size lie in strips as high as they are, in each by their left edges.
    """
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    octave = np.ceil(np.log2((b[:, 2:] - b[:, :2]).max(axis=1).clip(1)))
    found = [_in_strips(a, b, np.flatnonzero(octave == size), 2.0**size) for size in np.unique(octave)]
    first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    low, high = np.maximum(a[first, :2], b[second, :2]), np.minimum(a[first, 2:], b[second, 2:])
    meet = (low < high).all(axis=1)
    first, second = first[meet], second[meet]
    place = np.empty(len(b), np.int64)
    place[np.argsort(b[:, 0], kind="stable")] = np.arange(len(b))
    order = np.argsort(first * len(b) + place[second])
    return first[order], second[order]


def _in_strips(
    a: NDArray[Any], b: NDArray[Any], chosen: NDArray[np.intp], side: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs that may share an area with the boxes `chosen` of `b`, none of which is wider or higher than `side`."""
    left, strip = b[chosen, 0].astype(np.float64), np.floor(b[chosen, 1] / side).astype(np.int64)
    begin, top, end = left.min(), strip.min(), strip.max()
    # Strip after strip; a pixel more on either side, as sums of floats are rounded.
    length = left.max() - begin + 2
    key = (strip - top) * length + (left - begin)
    order = np.argsort(key, kind="stable")
    highest = np.floor(a[:, 1] / side).astype(np.int64).clip(top + 1) - 1
    count = (np.floor(a[:, 3] / side).astype(np.int64).clip(None, end) + 1 - highest).clip(0)
    first, strips = _spread(count)
    offset = (strips + highest[first] - top) * length
    low = np.searchsorted(key[order], offset + (a[first, 0] - side - 1 - begin).clip(0, length - 1), "left")
    high = np.searchsorted(key[order], offset + (a[first, 2] + 1 - begin).clip(0, length - 1), "right")
    which, steps = _spread((high - low).clip(0))
    return first[which], chosen[order[low[which] + steps]]


def _spread(count: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers 0, 1 ... each as often as `count` says, and how many of it came before."""
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)


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
