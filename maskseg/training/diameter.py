"""How large the nuclei and pixels are that a network is trained on, for images of another magnification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskseg.core.rle import coco_to_runs_of_all
from maskseg.imaging.scaling import input_scale

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# The size of pixels is that of a training if this share of the images say it, and the middle ones of them, all but this
# share at either end, differ by no more than this factor.
_SAID, _OUTER, _APART = 0.9, 0.1, 1.5


def nucleus_diameter(records: Sequence[Mapping[str, Any]], cfg: CfgNode) -> float:
    """Median over the images of the median diameter of their nuclei, in network pixels; 0 where there are none.

    The diameter is that of the disk of equal area; INPUT.AUG.SCALE, which magnifies and shrinks alike, is left out.

    Parameters
    ----------
    records : sequence of dict
        From `maskseg.data.dataset.dataset_dicts`.
    cfg : CfgNode
    """
    medians = []
    for record in records:
        shape = record["height"], record["width"]
        _, lengths, mask = coco_to_runs_of_all([item["segmentation"] for item in record["annotations"]], shape)
        if len(lengths):
            areas = np.bincount(mask, lengths)
            scale = input_scale(shape, cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK)
            medians.append(scale * np.median(np.sqrt(4 / np.pi * areas[areas > 0])))
    return round(float(np.median(medians)), 1) if medians else 0.0


def pixel_size(records: Sequence[Mapping[str, Any]], cfg: CfgNode) -> float:
    """Median side of a network pixel in micrometres; 0 where too few images say it, or they are too different.

    Parameters
    ----------
    records : sequence of dict
        From `maskseg.data.dataset.dataset_dicts`, some with ``microns_per_pixel``.
    cfg : CfgNode
    """
    sizes = [
        record["microns_per_pixel"]
        / input_scale((record["height"], record["width"]), cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK)
        for record in records
        if record.get("microns_per_pixel")
    ]
    if not sizes or len(sizes) < _SAID * len(records):
        return 0.0
    least, greatest = np.quantile(sizes, [_OUTER, 1 - _OUTER])
    return float(f"{np.median(sizes):.4g}") if greatest <= _APART * least else 0.0
