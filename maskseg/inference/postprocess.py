"""What is done to predicted masks: each step a function CropMasks -> CropMasks on the pixels of the boxes only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks, trim
from maskseg.core.morphology import close, components, fill_holes
from maskseg.core.overlaps import overlaps
from maskseg.inference.settings import Fragments, PostprocessSettings


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
    pieces, areas = components(bitmap)
    if len(areas) <= 1:
        return bitmap
    if rule == "drop":
        return np.zeros_like(bitmap)
    return pieces == 1 + int(np.argmax(areas))


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
    order = np.array(kept, np.int64)
    return CropMasks(masks.shape, np.array(boxes, np.int32), bitmaps, masks.scores[order], masks.classes[order])
