"""What is wrong with the masks of an image."""

from __future__ import annotations

import numpy as np

from maskseg.core.masks import CropMasks, trim
from maskseg.curate.mask_faults import open_holes, readable_masks


def crops(masks: np.ndarray) -> CropMasks:
    """Masks of a stack, bool (N, H, W)."""
    trimmed = [trim(mask) for mask in masks]
    return CropMasks(
        masks.shape[1:], np.array([box for box, _ in trimmed], np.int32), [bitmap for _, bitmap in trimmed]
    )


def test_a_hole_that_another_nucleus_fills_is_none():
    ring = np.ones((7, 7), bool)
    ring[2:5, 2:5] = False
    covered = ring.copy()
    assert open_holes(ring, covered).sum() == 9
    covered[2:5, 2:5] = True
    assert open_holes(ring, covered).sum() == 0
    # A gap in the nucleus inside is not a gap of the ring around it.
    covered[3, 3] = False
    assert open_holes(ring, covered).sum() == 0
    covered[2, 2] = False
    assert open_holes(ring, covered).sum() == 2


def test_masks_that_cannot_be_used_do_not_lose_the_others():
    rles = crops(np.ones((1, 7, 9), bool)).to_rle()
    other = crops(np.ones((1, 9, 7), bool)).to_rle()
    items = [
        {"id": 1, "segmentation": rles[0]},
        {"id": 2, "segmentation": other[0]},
        {"id": 3, "segmentation": {"size": [7, 9], "counts": "~"}},
        {"id": 4, "segmentation": {"counts": "~"}},
        {"id": 5, "segmentation": rles[0]},
    ]
    masks, good, unfit, bad = readable_masks(items, (7, 9))
    assert masks.areas.tolist() == [63, 63]
    assert [[item["id"] for item in part] for part in (good, unfit, bad)] == [[1, 5], [2], [3, 4]]
