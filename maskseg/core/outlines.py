"""Outlines of masks along the edges of their pixels, and back: exact in both directions.

Pixel (0, 0) covers [0, 1] x [0, 1], so the corners of pixels are whole numbers and the centre of a pixel lies at
its column and row plus one half. A *ring* is an array (V, 2) of x, y that closes by itself (its first point is not
repeated); a *polygon* is a list of rings, the outer one and then its holes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskseg.core.masks import trim
from maskseg.core.morphology import components

Ring = NDArray[Any]
Polygon = list[Ring]


def outlines(bitmap: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """Polygons that cover the set pixels of a bitmap and nothing else.

    One polygon for each piece that 4-neighbours join: pixels that touch at a corner only are two polygons. No ring
    meets itself; where a piece does, at a corner between two of its pixels, it is an outer ring and a hole that
    share the point. This makes them valid in the sense of the OGC Simple Features.

    Parameters
    ----------
    bitmap : bool array (h, w)
    origin : (int, int)
        x, y of the bitmap's top left corner, added to all points.

    Returns
    -------
    list of polygons
        Rings are int32 arrays (V, 2) with vertices at turns only; outer rings run clockwise on the screen (y down),
        holes the other way. Polygons in the order of their topmost, then leftmost, corner. Empty without a pixel.
    """
    height, width = bitmap.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = bitmap
    # Bits of the four pixels around each corner: 1 and 2 above it, 4 and 8 below.
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    y, x = np.nonzero(_TURNS[around])
    kind = around[y, x]
    saddle = (kind == _FALLING) | (kind == _RISING)
    # A point between two diagonal pixels is two turns: the first ends the edge on its left, the second begins the
    # edge on its right. So along every line of corners the turns pair up into edges.
    times = saddle + 1
    points = np.repeat(np.stack([x, y], axis=1).astype(np.int32), times, axis=0)
    kind = np.repeat(kind, times)
    first = np.zeros(len(kind), bool)
    first[np.cumsum(times) - times] = True
    # Which of the two also ends the edge above decides that the diagonal pixels are not joined.
    upper = np.where(kind == _RISING, first, ~first)
    down = np.lexsort((upper, points[:, 1], points[:, 0]))
    below = np.empty(len(points), np.int64)
    below[down[0::2]], below[down[1::2]] = down[1::2], down[0::2]

    cycles = _cycles(below.tolist())
    if saddle.any():
        same = (np.cumsum(first) - 1).tolist()
        cycles = [part for cycle in cycles for part in _simple(cycle, same)]
    return _polygons(cycles, points, padded, origin)


# The two ways in which pixels touch at a corner only, and whether the outline turns at a corner, for all 16 codes.
_FALLING, _RISING = 0b1001, 0b0110
_TURNS = np.ones(16, bool)
_TURNS[[0b0000, 0b0011, 0b1100, 0b0101, 0b1010, 0b1111]] = False


def _cycles(below: list[int]) -> list[list[int]]:
    """Closed walks over turns that are numbered along the lines: right or left (i and i ^ 1), then up or down."""
    seen = bytearray(len(below))
    cycles = []
    for start in range(0, len(below), 2):
        if not seen[start]:
            cycle: list[int] = []
            at = start
            while not seen[at]:
                seen[at] = seen[at ^ 1] = 1
                cycle += (at, at ^ 1)
                at = below[at ^ 1]
            cycles.append(cycle)
    return cycles


def _simple(cycle: list[int], same: list[int]) -> list[list[int]]:
    """A closed walk divided where it comes back to a point; turns at one point have one number in `same`."""
    parts: list[list[int]] = []
    walk: list[int] = []
    place: dict[int, int] = {}
    for turn in cycle:
        at = place.get(same[turn])
        if at is not None:
            loop = walk[at:]
            parts.append(loop)
            for other in loop[1:]:
                del place[same[other]]
            del walk[at + 1 :]
        else:
            place[same[turn]] = len(walk)
            walk.append(turn)
    return [*parts, walk]


def _polygons(
    cycles: list[list[int]], points: NDArray[np.int32], padded: NDArray[np.uint8], origin: tuple[int, int]
) -> list[Polygon]:
    """Outer rings with their holes, all running as they should."""
    shift = np.array(origin, np.int32)
    outer: list[tuple[int, int]] = []
    polygons: list[Polygon] = []
    holes: list[tuple[int, int, Ring]] = []
    # Turns are numbered row by row, so the least one is a ring's topmost, leftmost corner.
    for corner, cycle in sorted((min(cycle), cycle) for cycle in cycles):
        x, y = points[corner].tolist()
        at = cycle.index(corner)
        ring = points[cycle[at:] + cycle[:at]]
        # A top edge lies right of that corner: the ring encloses what is below the edge.
        is_outer = bool(padded[y + 1, x + 1])
        if (ring[1, 1] == y) != is_outer:
            ring[1:] = ring[:0:-1].copy()
        ring += shift
        if is_outer:
            outer.append((x, y))
            polygons.append([ring])
        else:
            holes.append((x, y, ring))
    if holes:
        piece, _ = components(padded, connectivity=4)
        polygon_of = {piece[y + 1, x + 1]: polygon for (x, y), polygon in zip(outer, polygons, strict=True)}
        for x, y, ring in holes:
            polygon_of[piece[y, x + 1]].append(ring)
    return polygons


def fill(polygons: Sequence[Sequence[ArrayLike]], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie in any of the polygons: inside the outer ring and in none of the holes.

    What a ring winds around is inside it (the non-zero rule), whatever its direction, also where it crosses itself:
    a hand that overshoots the start of its line leaves no hole there. A centre on a left or top edge is inside, one
    on a right or bottom edge is outside, so polygons that share an edge share no pixel and leave none between them.

    Parameters
    ----------
    polygons : sequence of polygons
        Points x, y may be any finite numbers, also outside the box; a ring of fewer than three points is empty.
    box : 4 ints
        x0, y0, x1, y1, end exclusive: the pixels that are wanted.

    Returns
    -------
    bool array (y1 - y0, x1 - x0)
        ``fill(outlines(bitmap), (0, 0, w, h))`` is the bitmap.
    """
    x0, y0, x1, y1 = box
    inside = np.zeros((y1 - y0, x1 - x0), bool)
    for rings in polygons:
        # Centres to whole numbers.
        outer, *holes = (np.asarray(ring, np.float64).reshape(-1, 2) - 0.5 for ring in rings)
        left, top, right, bottom = around = _around(outer, box)
        if left >= right or top >= bottom:
            continue
        part = _fill_ring(outer, around)
        for hole in holes:
            # In its own box: a region may have thousands of small holes.
            x, y, end, low = within = _around(hole, around)
            if x < end and y < low:
                part[y - top : low - top, x - left : end - left] &= ~_fill_ring(hole, within)
        inside[top - y0 : bottom - y0, left - x0 : right - x0] |= part
    return inside


def _around(ring: NDArray[np.float64], box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The part of a box that a ring may have pixels in, whose centres lie at whole numbers."""
    if not len(ring):
        return (*box[:2], *box[:2])
    x0, y0, x1, y1 = box
    # As numbers of Python: for one point NumPy takes ten times as long.
    (left, top), (right, bottom) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
    return (
        min(max(math.ceil(left), x0), x1),
        min(max(math.ceil(top), y0), y1),
        min(max(math.ceil(right), x0), x1),
        min(max(math.ceil(bottom), y0), y1),
    )


def rasterise(
    polygons: Sequence[Sequence[ArrayLike]], shape: tuple[int, int]
) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    """What `fill` sets in an image of `shape` (height, width): its smallest box and the bitmap inside it.

    The box is without area, and the bitmap empty, where there is no pixel, as everywhere in `CropMasks`.
    """
    points = np.concatenate([np.asarray(ring, np.float64).reshape(-1, 2) for rings in polygons for ring in rings])
    if len(points) == 0:
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    x0, y0 = np.clip(np.floor(points.min(axis=0)), 0, shape[::-1]).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(points.max(axis=0)), 0, shape[::-1]).astype(int).tolist()
    return trim(fill(polygons, (x0, y0, x1, y1)), x0, y0)


def _fill_ring(ring: NDArray[np.float64], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Pixels of a box whose centres, at whole numbers, lie in a ring."""
    x0, y0, x1, y1 = box
    height, width = y1 - y0, x1 - x0
    a, b = ring.copy(), np.roll(ring, -1, axis=0)
    # Every edge is made to run downwards, so that it cuts a row at the same place in both directions.
    upwards = a[:, 1] > b[:, 1]
    a[upwards], b[upwards] = b[upwards], a[upwards]
    first = np.clip(np.ceil(a[:, 1]), y0, y1).astype(np.int64)
    rows_of = np.clip(np.ceil(b[:, 1]), y0, y1).astype(np.int64) - first
    edge = np.repeat(np.arange(len(a)), rows_of)
    row = np.arange(len(edge)) - (np.cumsum(rows_of) - rows_of - first)[edge]
    a, b = a[edge], b[edge]
    cut = a[:, 0] + (row - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    column = np.clip(np.ceil(cut), x0, x1).astype(np.int64)
    # A pixel is wound around once more, or once less, for every cut on its left. Only the cuts are counted, and not the
    # pixels, each of which would take eight bytes: every row ends wound around by nothing, and so do all before it.
    place = (row - y0) * (width + 1) + column - x0
    order = np.argsort(place, kind="stable")
    place, wound = place[order], np.cumsum(np.where(upwards, 1, -1)[edge][order]) != 0
    last = np.append(place[1:] != place[:-1], True)[: len(place)]
    place, wound = place[last], wound[last]
    turns = np.zeros(height * (width + 1), np.uint8)
    turns[place[wound != np.append(False, wound[:-1])]] = 1
    return np.bitwise_xor.accumulate(turns).view(bool).reshape(height, width + 1)[:, :width]
