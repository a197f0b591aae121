"""What is done to predicted masks: each step a function CropMasks -> CropMasks on the pixels of the boxes only."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks, trim
from maskseg.core.morphology import close, fill_holes
from maskseg.inference.settings import Fragments, PostprocessSettings


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
    """All pairs of a mask of `a` and a mask of `b` that share pixels, found by their boxes, never as an N x M table."""
    first, second = box_pairs(a.boxes, b.boxes)
    low = np.maximum(a.boxes[first, :2], b.boxes[second, :2])
    high = np.minimum(a.boxes[first, 2:], b.boxes[second, 2:])
    shared = np.empty(len(first), np.int64)
    for k, (i, j, (x0, y0), (x1, y1)) in enumerate(zip(first, second, low, high, strict=True)):
        shared[k] = np.count_nonzero(_part(a, i, x0, y0, x1, y1) & _part(b, j, x0, y0, x1, y1))
    hit = shared > 0
    first, second, shared = first[hit], second[hit], shared[hit]
    union = a.areas[first] + b.areas[second] - shared
    return Overlaps(first, second, shared, shared / np.maximum(union, 1))


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


def _part(masks: CropMasks, index: int, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    left, top = masks.boxes[index, :2]
    return masks.bitmaps[index][y0 - top : y1 - top, x0 - left : x1 - left]


def partners(masks: CropMasks, other: CropMasks, min_iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The masks that have a partner in `other` of more mask IoU than `min_iou`, and the best partner of each."""
    pairs = overlaps(masks, other)
    # By mask, then by falling IoU: the first of each mask is its best partner.
    order = np.lexsort((pairs.second, -pairs.iou, pairs.first))
    kept, at = np.unique(pairs.first[order], return_index=True)
    best = order[at]
    good = pairs.iou[best] > min_iou
    return kept[good], pairs.second[best[good]]


def without_fragments(bitmap: NDArray[np.bool_], rule: Fragments) -> NDArray[np.bool_]:
    """A mask in several 8-connected pieces: ``drop`` empties it, ``keep_largest`` keeps its largest piece."""
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(bitmap.astype(np.uint8), connectivity=8)
    if count <= 2:
        return bitmap
    if rule == "drop":
        return np.zeros_like(bitmap)
    return pieces == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))


def fill_and_close(bitmap: NDArray[np.bool_], settings: PostprocessSettings) -> NDArray[np.bool_]:
    """A mask filled and closed, as far as the settings say so."""
    if settings.fill_holes:
        bitmap = fill_holes(bitmap)
    return close(bitmap) if settings.close else bitmap


def clean(masks: CropMasks, settings: PostprocessSettings | None = None) -> CropMasks:
    """Final masks, without overlap, by falling score.

    By falling score each mask is filled, closed, loses the pixels that masks before it have, then its fragments
    (`without_fragments`), and is dropped when fewer than ``min_area`` pixels are left. A dropped mask takes no pixels.

    Parameters
    ----------
    masks : CropMasks
    settings : PostprocessSettings, optional
        ``fill_holes``, ``close``, ``fragments`` and ``min_area``; those of the published method where not given.

    Returns
    -------
    CropMasks
        By falling score; no two masks share a pixel.

    Examples
    --------
    >>> square = np.ones((6, 6), bool)
    >>> two = CropMasks((10, 10), [[0, 0, 6, 6], [3, 0, 9, 6]], [square, square], [0.8, 0.9])
    >>> clean(two).areas
    array([36, 18])
    """
    settings = settings or PostprocessSettings()
    taken = np.zeros(masks.shape, bool)
    boxes, bitmaps, kept = [], [], []
    for i in np.argsort(-masks.scores, kind="stable"):
        bitmap, box = masks.bitmaps[i], masks.boxes[i]
        if bitmap.size == 0:
            continue
        bitmap = fill_and_close(bitmap, settings)
        x0, y0, x1, y1 = box
        place = taken[y0:y1, x0:x1]
        bitmap = without_fragments(bitmap & ~place, settings.fragments)
        if np.count_nonzero(bitmap) < max(settings.min_area, 1):
            continue
        place |= bitmap
        small, bitmap = trim(bitmap, int(x0), int(y0))
        boxes.append(small)
        bitmaps.append(bitmap)
        kept.append(i)
    return CropMasks(masks.shape, np.array(boxes, np.int32), bitmaps, masks.scores[np.array(kept, np.int64)])
