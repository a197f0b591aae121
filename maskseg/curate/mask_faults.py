"""What can be wrong with the masks of one image: they cannot be read, or have holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.morphology import components, fill_holes

# What damaged run lengths raise, a count beyond 64 bits among them.
_UNREADABLE = (InputError, AttributeError, KeyError, OverflowError, TypeError, ValueError)


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
    except _UNREADABLE:
        pass
    good: list[dict[str, Any]] = []
    unfit: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for item in annotations:
        try:
            height, width = item["segmentation"]["size"]
            rle.coco_to_runs(item["segmentation"])
            (good if (height, width) == tuple(shape) else unfit).append(item)
        except _UNREADABLE:
            bad.append(item)
    return CropMasks.from_rle([item["segmentation"] for item in good], shape), good, unfit, bad


def open_holes(bitmap: NDArray[np.bool_], covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the holes of a mask that no mask has and that would join it.

    Parameters
    ----------
    bitmap : bool array (h, w)
    covered : bool array (h, w)
        `maskseg.core.overlaps.covered` in the box of the mask.
    """
    holes = fill_holes(bitmap) & ~bitmap & ~covered
    if holes.any():
        # A gap among nuclei that lie inside this one is none of its pixels.
        pieces, _ = components(bitmap | holes)
        holes &= np.isin(pieces, np.unique(pieces[bitmap]))
    return holes
