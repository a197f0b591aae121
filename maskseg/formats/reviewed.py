"""What a person has looked at: an image, or regions of it, marked by annotations that are called "reviewed".

The record of an image in a data set has it as ``reviewed``, run lengths of the region; without it all of the image
counts. What lies elsewhere is neither a nucleus nor background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.reader import Nuclei

# The name of such an annotation, and the field of an image record.
REVIEWED = "reviewed"


def is_mark(name: str) -> bool:
    """Whether an annotation or class of that name marks what was reviewed, also as QuPath writes regions: Reviewed*."""
    return name.strip().rstrip("*").strip().lower() == REVIEWED


def separate_reviewed(nuclei: Nuclei) -> tuple[Nuclei, NDArray[np.bool_] | None]:
    """The nuclei without the annotations that mark what was reviewed, and the region of these.

    Returns
    -------
    Nuclei
    region : bool array (H, W) or None
        None where nothing is marked.
    """
    region = region_of(nuclei.fields, nuclei.masks.shape)
    marked = [is_mark(name) for name in nuclei.classes or ()]
    if not any(marked):
        return nuclei, region
    if region is None:
        region = np.zeros(nuclei.masks.shape, bool)
    for index in np.flatnonzero(marked):
        x0, y0, x1, y1 = nuclei.masks.boxes[index]
        region[y0:y1, x0:x1] |= nuclei.masks.bitmaps[index]
    own = np.flatnonzero(~np.array(marked, bool))
    names = [name for name, mark in zip(nuclei.class_names(), marked, strict=True) if not mark]
    return replace(nuclei, masks=nuclei.masks[own], classes=names if any(names) else None), region


def region_of(record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The region of an image record, bool (H, W); None where it says nothing.

    Raises
    ------
    InputError
        If its run lengths are malformed or of another size.
    """
    known = record.get(REVIEWED)
    if known is True:
        return np.ones(shape, bool)
    if not isinstance(known, Mapping):
        return None
    if known.get("size") != list(shape):
        raise InputError(f"a reviewed region of size {str(known.get('size'))[:40]} on an image of {list(shape)}")
    try:
        (x0, y0, x1, y1), bitmap = rle.runs_to_crop(*rle.coco_to_runs(known), shape)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("a reviewed region that is no run lengths") from error
    region = np.zeros(shape, bool)
    region[y0:y1, x0:x1] = bitmap
    return region


def as_field(region: NDArray[np.bool_]) -> dict[str, Any]:
    """A region, bool (H, W), as the field of an image record."""
    height, width = region.shape
    return rle.runs_to_coco(*rle.crop_to_runs(region, (0, 0, width, height), region.shape), region.shape)


def within(masks: CropMasks, region: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The nuclei that lie in a region, by more than half of their pixels.

    Returns
    -------
    kept : int array (K,)
    region : bool array (H, W)
        Without the pixels of the nuclei that reach into it from outside: nobody has said that they are right.
    """
    inside = shares(masks, region) > 0.5
    left = region.copy()
    for index in np.flatnonzero(~inside):
        x0, y0, x1, y1 = masks.boxes[index]
        left[y0:y1, x0:x1] &= ~masks.bitmaps[index]
    for index in np.flatnonzero(inside):
        x0, y0, x1, y1 = masks.boxes[index]
        left[y0:y1, x0:x1] |= masks.bitmaps[index]
    return np.flatnonzero(inside), left


def shares(masks: CropMasks, region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the pixels of each mask that lies in a region, float64 (N,)."""
    inside = [
        int(np.count_nonzero(bitmap & region[y0:y1, x0:x1])) / max(int(np.count_nonzero(bitmap)), 1)
        for bitmap, (x0, y0, x1, y1) in zip(masks.bitmaps, masks.boxes.tolist(), strict=True)
    ]
    return np.array(inside, np.float64)
