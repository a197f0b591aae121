"""Masks of the regions of an Aperio XML file: pieces of one nucleus joined, holes cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, trim
from maskseg.core.outlines import rasterise
from maskseg.formats.costs import Costs

# What is added to vertices; see `maskseg.formats.aperio_xml`.
OFFSET = (-1.0, -1.0)
_Crop = tuple[tuple[int, int, int, int], NDArray[np.bool_]]
# The layer of a nucleus, and its number there or that of its one region.
_Key = tuple[str, object]
# Pixels that take as long as it takes to cut any hole out of a nucleus.
_LEAST = 1024


@dataclass(frozen=True)
class Region:
    """One outline.

    Attributes
    ----------
    layer : str
        Name of its ``Annotation``, or that of its attribute, or its Id where it has none.
    id : str
        Its Id, or its place in the layer, counted from 1.
    points : float64 array (V, 2)
        x, y as they are in the file.
    negative : bool
        A hole (``NegativeROA``).
    nucleus : str
        Value of its attribute `NUCLEUS`; empty where it has none.
    fault : str
        Why it is no outline; empty where it is one.
    """

    layer: str
    id: str
    points: NDArray[np.float64]
    negative: bool = False
    nucleus: str = ""
    fault: str = ""


@dataclass
class RegionMasks:
    """Masks of regions as they were drawn: they may overlap.

    Attributes
    ----------
    masks : CropMasks
        One for each nucleus, none of them empty.
    members : list of lists of int
        For each mask, the indices of the regions that it is made of: outlines, and holes cut out of it.
    lost : mapping of region index to str
        Why a region is in no mask.
    beyond : set of int
        Regions of which pixels lie outside the image.
    """

    masks: CropMasks
    members: list[list[int]] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    beyond: set[int] = field(default_factory=set)


def region_masks(
    regions: Sequence[Region], shape: tuple[int, int], offset: tuple[float, float] = OFFSET
) -> RegionMasks:
    """Masks of regions, holes cut out.

    A hole (``NegativeROA``) is cut out of every nucleus of its layer that it meets and that is larger than it; smaller
    nuclei inside it stay. One that has the attribute `NUCLEUS` is cut out of that nucleus only.

    Parameters
    ----------
    regions : sequence of Region
    shape : (int, int)
        Height and width of the image; what lies outside is cut off.
    offset : (float, float)
        Added to the x and y of all vertices; pixel centres then lie at whole numbers.
    """
    lost = {i: region.fault for i, region in enumerate(regions) if region.fault}
    costs = Costs(shape)
    crops: dict[int, _Crop] = {}
    beyond = set()
    for i, region in enumerate(regions):
        if i not in lost:
            try:
                crop, outside = _rasterise(region.points + offset, shape, costs)
            except InputError as error:
                lost[i] = str(error)
                continue
            if outside:
                beyond.add(i)
            if crop[1].any():
                crops[i] = crop
            else:
                lost[i] = "no pixel of the image inside it"
    groups: dict[_Key, list[int]] = {}
    for i in crops:
        if not regions[i].negative:
            groups.setdefault((regions[i].layer, regions[i].nucleus or i), []).append(i)
    unions: dict[_Key, _Crop] = {}
    for key, members in list(groups.items()):
        try:
            unions[key] = _union([crops[i] for i in members], costs)
        except InputError as error:
            lost.update(dict.fromkeys(groups.pop(key), str(error)))
    _cut_holes(regions, {i: crop for i, crop in crops.items() if regions[i].negative}, groups, unions, costs, lost)
    for key in [key for key, (_, bitmap) in unions.items() if not bitmap.any()]:
        lost.update(dict.fromkeys(groups.pop(key), "its holes leave no pixel"))
    for i in {i for members in groups.values() for i in members}:
        lost.pop(i, None)  # a hole, in a nucleus that is left
    trimmed = [trim(unions[key][1], *unions[key][0][:2]) for key in groups]
    masks = CropMasks(shape, np.array([box for box, _ in trimmed], np.int32), [bitmap for _, bitmap in trimmed])
    return RegionMasks(masks, list(groups.values()), lost, beyond)


def _cut_holes(
    regions: Sequence[Region],
    holes: dict[int, _Crop],
    groups: dict[_Key, list[int]],
    unions: dict[_Key, _Crop],
    costs: Costs,
    lost: dict[int, str],
) -> None:
    """Cut holes out of the nuclei that they meet, in place; one that is in none, or too costly, is lost."""
    keys = list(unions)
    place = {key: at for at, key in enumerate(keys)}
    number = {name: at for at, name in enumerate({region.layer for region in regions})}
    layers = np.array([number[layer] for layer, _ in keys], np.int64)
    boxes = np.array([unions[key][0] for key in keys], np.int64).reshape(-1, 4)
    areas = np.array([np.count_nonzero(unions[key][1]) for key in keys], np.int64)
    for i, (box, bitmap) in holes.items():
        hole = regions[i]
        lost[i] = "a hole (NegativeROA) in no larger region"
        sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        wanted = (sides > 0).all(axis=1)
        if hole.nucleus:
            wanted &= np.arange(len(keys)) == place.get((hole.layer, hole.nucleus), -1)
        else:
            wanted &= (layers == number[hole.layer]) & (areas > np.count_nonzero(bitmap))
        chosen = np.flatnonzero(wanted)
        try:
            costs.take_pixels(int(np.maximum(sides[chosen].prod(axis=1), _LEAST).sum()), single=False)
        except InputError as error:
            lost[i] = str(error)
            continue
        for key in (keys[at] for at in chosen):
            if _subtract(unions[key], box, bitmap):
                groups[key].append(i)


def _rasterise(points: NDArray[np.float64], shape: tuple[int, int], costs: Costs) -> tuple[_Crop, bool]:
    """Pixels of the image inside an outline, and whether there are some beyond the image."""
    height, width = shape
    # With a margin of one pixel, where every outline that leaves the image has pixels. In outlines.py the corners of
    # pixels are whole numbers, so their centres lie at one half.
    costs.take_rings([points + 1.5], (height + 2, width + 2))
    (x0, y0, x1, y1), bitmap = rasterise([[points + 1.5]], (height + 2, width + 2))
    if bitmap.size == 0:
        return ((0, 0, 0, 0), bitmap), False
    left, top, right, bottom = max(x0, 1), max(y0, 1), min(x1, width + 1), min(y1, height + 1)
    box, inside = trim(bitmap[top - y0 : bottom - y0, left - x0 : right - x0], left - 1, top - 1)
    return (box, inside), (left, top, right, bottom) != (x0, y0, x1, y1)


def _union(crops: list[_Crop], costs: Costs) -> _Crop:
    """The pixels of all crops in the box around them."""
    if len(crops) == 1:
        return crops[0]
    boxes = np.array([box for box, _ in crops])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    costs.take_pixels((x1 - x0) * (y1 - y0))
    bitmap = np.zeros((y1 - y0, x1 - x0), bool)
    for (left, top, right, bottom), part in crops:
        bitmap[top - y0 : bottom - y0, left - x0 : right - x0] |= part
    return (x0, y0, x1, y1), bitmap


def _subtract(crop: _Crop, box: tuple[int, int, int, int], hole: NDArray[np.bool_]) -> bool:
    """Clear, in place, the pixels of a crop that a hole has too; whether there were any."""
    (x0, y0, x1, y1), bitmap = crop
    left, top, right, bottom = max(x0, box[0]), max(y0, box[1]), min(x1, box[2]), min(y1, box[3])
    if left >= right or top >= bottom:
        return False
    part = bitmap[top - y0 : bottom - y0, left - x0 : right - x0]
    common = part & hole[top - box[1] : bottom - box[1], left - box[0] : right - box[0]]
    part[common] = False
    return bool(common.any())
