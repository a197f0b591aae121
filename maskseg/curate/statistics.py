"""What a data set looks like in numbers, and how well anchors cover its nuclei."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.masks import CropMasks

UNKNOWN = "unknown modality"
# An anchor with at least this IoU counts as one that fits.
FITS = 0.5
# Boxes that a suggestion is chosen on, spread evenly over the data set: enough for shares to within 1 %.
_SAMPLE = 4000
# Smallest anchors and steps from one level to the next that are tried.
_SMALLEST = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64)
_STEPS = (1.4, 1.6, 1.8, 2.0, 2.2)


@dataclass(frozen=True)
class Statistics:
    """Numbers of a data set.

    Attributes
    ----------
    names : list of str
        Image ids.
    shapes : int64 array (I, 2)
        Height and width of each image in pixels.
    modality : list of str, I of them
        `UNKNOWN` where not given.
    boxes : float64 array (N, 4)
        x0, y0, x1, y1 of each nucleus in pixels of its image, end exclusive.
    areas : int64 array (N,)
        Pixels.
    image : int64 array (N,)
        Index of the image of each nucleus.
    """

    names: list[str]
    shapes: NDArray[np.int64]
    modality: list[str]
    boxes: NDArray[np.float64]
    areas: NDArray[np.int64]
    image: NDArray[np.int64]

    @property
    def nuclei(self) -> NDArray[np.int64]:
        """Number of nuclei of each image, int64 (I,)."""
        return np.bincount(self.image, minlength=len(self.names))

    @property
    def modalities(self) -> list[str]:
        """Modalities, the one with the most images first."""
        return sorted(set(self.modality), key=lambda name: (-self.modality.count(name), name))

    def images_of(self, modality: str) -> NDArray[np.int64]:
        """Indices of the images of a modality."""
        return np.flatnonzero([name == modality for name in self.modality])

    def nuclei_of(self, modality: str) -> NDArray[np.bool_]:
        """Which nuclei are of a modality, bool (N,)."""
        return np.array([name == modality for name in self.modality], bool)[self.image]


class Anchors(NamedTuple):
    """Anchors of a region proposal network, in network pixels.

    Attributes
    ----------
    sizes : list of list of float
        Square roots of the anchors' areas at each level.
    ratios : list of list of float
        Height over width at each level.
    strides : list of int
        Distance of the anchors' centres at each level.
    offset : float
        Place of the first centre as a share of the stride.
    """

    sizes: list[list[float]]
    ratios: list[list[float]]
    strides: list[int]
    offset: float = 0.0


def collect(records: Sequence[Mapping[str, Any]]) -> Statistics:
    """Numbers of the records of `maskseg.data.dataset.dataset_dicts`, from their masks; no image is read.

    Raises
    ------
    InputError
        If a mask is malformed or not of the size of its image.
    """
    boxes, areas = [], []
    for record in records:
        rles = [item["segmentation"] for item in record["annotations"]]
        try:
            masks = CropMasks.from_rle(rles, (record["height"], record["width"]))
        except InputError as error:
            raise InputError(f"{located(record['file_name'], error)}; see maskseg check") from error
        boxes.append(masks.boxes)
        areas.append(masks.areas)
    return Statistics(
        [record["image_id"] for record in records],
        np.array([(record["height"], record["width"]) for record in records], np.int64).reshape(-1, 2),
        [record["modality"] or UNKNOWN for record in records],
        np.concatenate([np.zeros((0, 4)), *boxes]),
        np.concatenate([np.zeros(0, np.int64), *areas]),
        np.repeat(np.arange(len(records)), [len(area) for area in areas]),
    )


def network_boxes(statistics: Statistics, scales: Sequence[float]) -> NDArray[np.float64]:
    """Boxes in network pixels, (N, 4); `scales` are the magnifications of the images."""
    return statistics.boxes * np.asarray(scales, np.float64)[statistics.image][:, None]


def best_iou(boxes: NDArray[np.float64], anchors: Anchors) -> NDArray[np.float64]:
    """IoU of each box with its best anchor, float64 (N,).

    The anchors stand where the network has them: on the grid of their level, so a small nucleus between the centres
    of a coarse level is badly covered however well the size fits. Of anchors of one shape the nearest is the best.

    Parameters
    ----------
    boxes : float64 array (N, 4)
        x0, y0, x1, y1 in network pixels.
    anchors : Anchors
    """
    best = np.zeros(len(boxes))
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    area = extent.prod(axis=1)
    for sizes, ratios, stride in zip(anchors.sizes, anchors.ratios, anchors.strides, strict=True):
        place = centre / stride - anchors.offset
        away = np.abs(place - np.rint(place)) * stride
        for size, ratio in product(sizes, ratios):
            shape = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)])
            shared = np.minimum(np.minimum(shape, extent), np.maximum((shape + extent) / 2 - away, 0)).prod(axis=1)
            best = np.maximum(best, shared / np.maximum(shape.prod() + area - shared, 1e-9))
    return best


def suggest_anchors(boxes: NDArray[np.float64], anchors: Anchors) -> Anchors:
    """Anchors of one size a level that cover the boxes best, with the given levels and ratios.

    Tried are geometric rows of sizes: the smallest from 4 to 64 pixels, each level 1.4 to 2.2 times the one before.
    The one with the highest share of boxes whose best anchor reaches an IoU of 0.5 is taken, of equal shares the one
    with the highest mean IoU.

    Parameters
    ----------
    boxes : float64 array (N, 4)
        In network pixels; of more than 4,000 an even sample is used.
    anchors : Anchors
        Whose levels, ratios and offset are kept.
    """
    chosen = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _SAMPLE)).astype(np.int64)]
    tried = []
    for smallest, step in product(_SMALLEST, _STEPS):
        row = [[float(round(smallest * step**level))] for level in range(len(anchors.strides))]
        candidate = anchors._replace(sizes=row)
        iou = best_iou(chosen, candidate)
        tried.append(((iou >= FITS).mean(), iou.mean(), candidate))
    return max(tried, key=lambda item: item[:2])[2]


def typical_images(statistics: Statistics, modality: str, count: int = 3) -> list[int]:
    """Images of a modality from the one with the fewest to the one with the most nuclei, by even ranks."""
    images = statistics.images_of(modality)
    order = images[np.argsort(statistics.nuclei[images], kind="stable")]
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return [int(index) for index in order[places]]
