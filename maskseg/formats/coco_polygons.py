"""COCO's polygons to run lengths by pycocotools, which takes memory and time for each step along their edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.formats.costs import Costs

# pycocotools walks along each edge, so a vertex may not lie arbitrarily far outside.
_FARTHEST = 10  # times the longer side of the image
# Polygons that are united at a time.
_UNITED = 8


def polygon_runs(polygons: list[Any], shape: tuple[int, int], costs: Costs) -> rle.Runs:
    """Runs of what lies in any of the polygons, without those of fewer than three points where there are others.

    Parameters
    ----------
    polygons : list
        Each ``[x, y, x, y, ...]`` in pixels.
    shape : (int, int)
        Height and width of the image.
    costs : Costs
        Of the image so far.

    Returns
    -------
    tuple of arrays
        As `maskseg.core.rle.coco_to_runs` gives them.

    Raises
    ------
    InputError
        If a polygon is none, or they cost too much.
    """
    # A point or a line beside a polygon has no pixels.
    polygons = [polygon for polygon in polygons if not (isinstance(polygon, list) and len(polygon) < 6)] or polygons
    for polygon in polygons:
        _check_polygon(polygon, _FARTHEST * max(shape))
    costs.written(sum(map(len, polygons)))
    costs.take_length(sum(map(_length, polygons)))
    return rle.coco_to_runs(_merged(coco_mask.frPyObjects(polygons, *shape)))


def _check_polygon(polygon: Any, limit: float) -> None:
    if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
        raise InputError("a polygon that is not three points or more, x, y, x, y, ...; draw it again")
    # A whole number may be too long for a float; compared it can be.
    if not all(isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) for value in polygon):
        raise InputError("a polygon with coordinates that are no numbers; draw it again")
    if max(map(abs, polygon)) > limit:
        raise InputError(f"a polygon with coordinates of more than {limit} pixels; draw it again")


def _length(polygon: list[float]) -> float:
    """How many steps pycocotools goes along the edges, inside the image or not, for each of which it takes memory."""
    points = np.array(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()) + len(points)


def _merged(rles: list[dict[str, Any]]) -> Any:
    """The union of run lengths; few at a time, as each union goes through all that was united before."""
    while len(rles) > _UNITED:
        rles = [coco_mask.merge(rles[at : at + _UNITED]) for at in range(0, len(rles), _UNITED)]
    return coco_mask.merge(rles)
