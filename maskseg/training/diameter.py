"""How large the nuclei are that a network is trained on, for predictions on images of another magnification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskseg.core.rle import coco_to_runs_of_all
from maskseg.imaging.scaling import input_scale

if TYPE_CHECKING:
    from detectron2.config import CfgNode


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
