"""What can be wrong with the masks of one image: they cannot be read, share pixels, have holes or are in pieces."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.morphology import fill_holes


def readable_masks(
    annotations: Sequence[dict[str, Any]], shape: tuple[int, int]
) -> tuple[CropMasks, list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Masks of those annotations that can be read and are of the right size.

    Returns
    -------
    masks : CropMasks
    good : list of dict
        The annotation of each mask.
    unfit : list of dict
        Those of another size.
    bad : list of dict
        Those that cannot be read.
    """
    try:
        return CropMasks.from_rle([item["segmentation"] for item in annotations], shape), list(annotations), [], []
    except (InputError, KeyError, TypeError, ValueError):
        pass
    good, unfit, bad = [], [], []
    for item in annotations:
        try:
            height, width = item["segmentation"]["size"]
            rle.coco_to_runs(item["segmentation"])
            (good if (height, width) == tuple(shape) else unfit).append(item)
        except (InputError, KeyError, TypeError, ValueError):
            bad.append(item)
    return CropMasks.from_rle([item["segmentation"] for item in good], shape), good, unfit, bad


def shared_pixels(masks: CropMasks) -> tuple[dict[tuple[int, int], int], NDArray[np.bool_]]:
    """Pairs of masks that overlap, with the number of pixels they share; and all pixels that any mask has.

    Returns
    -------
    pairs : dict of (i, j), i < j, to int
    covered : bool array (H, W)
    """
    count = np.zeros(masks.shape, np.uint16)
    for (x0, y0, x1, y1), bitmap in zip(masks.boxes, masks.bitmaps, strict=True):
        count[y0:y1, x0:x1] += bitmap
    pairs: Counter[tuple[int, int]] = Counter()
    if count.max(initial=0) > 1:
        several = count > 1
        owners: dict[int, list[int]] = defaultdict(list)
        for index, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes, masks.bitmaps, strict=True)):
            y, x = np.nonzero(bitmap & several[y0:y1, x0:x1])
            for pixel in ((y + y0) * masks.shape[1] + x + x0).tolist():
                owners[pixel].append(index)
        for of_pixel in owners.values():
            pairs.update(combinations(of_pixel, 2))
    return dict(sorted(pairs.items())), count > 0


def open_holes(bitmap: NDArray[np.bool_], covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the holes of a mask that no mask has and that would join it.

    Parameters
    ----------
    bitmap : bool array (h, w)
    covered : bool array (h, w)
        What `shared_pixels` gives, in the box of the mask.
    """
    holes = fill_holes(bitmap) & ~bitmap & ~covered
    if holes.any():
        # A gap among nuclei that lie inside this one is none of its pixels.
        pieces, _ = piece_map(bitmap | holes)
        holes &= np.isin(pieces, np.unique(pieces[bitmap]))
    return holes


def piece_map(bitmap: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The 8-connected pieces of a mask: their numbers from 1 as a label image, and the area of each."""
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(bitmap.astype(np.uint8), connectivity=8)
    return pieces, statistics[1:count, cv2.CC_STAT_AREA].astype(np.int64)
