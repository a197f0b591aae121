"""Cells around nuclei: each nucleus grown by a distance, up to where a pixel is nearer to another one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from maskseg.core.masks import CropMasks
from maskseg.core.overlaps import box_pairs

Box = tuple[int, int, int, int]


class Cell(NamedTuple):
    """A nucleus and what it grew to, in one box.

    Attributes
    ----------
    number : int
        Of the nucleus, in the order in which nuclei were added.
    box : (int, int, int, int)
        x0, y0, x1, y1 in pixels, end exclusive.
    nucleus, cell : bool arrays (h, w)
        The pixels of the nucleus, and those of the cell, of which the nucleus is a part.
    score : float
        Of the nucleus.
    neighbours : int
        Other nuclei at most twice the distance away, from edge to edge: those that the cell can touch.
    """

    number: int
    box: Box
    nucleus: NDArray[np.bool_]
    cell: NDArray[np.bool_]
    score: float
    neighbours: int

    @property
    def ring(self) -> NDArray[np.bool_]:
        """The cell without its nucleus, bool (h, w)."""
        return np.asarray(self.cell & ~self.nucleus)


def grow(masks: CropMasks, distance: float) -> CropMasks:
    """The cells of all nuclei of an image.

    Cells do not overlap, but where the nuclei themselves do. They are those of `skimage.segmentation.expand_labels`,
    a box at a time; a pixel that is equally near to several nuclei goes to the first of them.

    Parameters
    ----------
    masks : CropMasks
    distance : float
        In pixels, from pixel centre to pixel centre.

    Returns
    -------
    CropMasks
        One for each nucleus, in the same order.

    Examples
    --------
    >>> nucleus = np.ones((1, 1), bool)
    >>> grow(CropMasks((5, 8), [[1, 2, 2, 3], [4, 2, 5, 3]], [nucleus, nucleus]), 2).to_labels()
    array([[0, 1, 0, 0, 2, 0, 0, 0],
           [1, 1, 1, 2, 2, 2, 0, 0],
           [1, 1, 1, 2, 2, 2, 2, 0],
           [1, 1, 1, 2, 2, 2, 0, 0],
           [0, 1, 0, 0, 2, 0, 0, 0]], dtype=int32)
    """
    growing = Growing(masks.shape, distance)
    cells = sorted([*growing.add(masks, 0), *growing.close()])
    boxes = np.array([cell.box for cell in cells], np.int32).reshape(-1, 4)
    return CropMasks(masks.shape, boxes, [cell.cell for cell in cells], masks.scores, masks.classes)


class Growing:
    """The cells of nuclei that come a few at a time, as the tiles of a slide are done.

    A nucleus is held until all that lie within twice the distance of it are known; what is held follows the nuclei of
    a row of tiles.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    distance : float
        See `grow`.
    """

    def __init__(self, shape: tuple[int, int], distance: float) -> None:
        if not 0 < distance < math.inf:
            raise ValueError(f"a distance is above 0 and not {distance}")
        self._distance, self._reach = distance, math.ceil(2 * distance)
        self._held = CropMasks.empty(shape)
        self._index = np.zeros(0, np.int64)
        self._open = np.zeros(0, bool)
        self._count = 0

    def add(self, masks: CropMasks, settled: int) -> Iterator[Cell]:
        """Take some nuclei, and give the cells that are known by now.

        Parameters
        ----------
        masks : CropMasks
            In pixels of the whole image.
        settled : int
            No nucleus that comes later has a pixel above this row.
        """
        held = self._held
        self._held = CropMasks(
            held.shape,
            np.concatenate([held.boxes, masks.boxes]),
            [*held.bitmaps, *masks.bitmaps],
            np.concatenate([held.scores, masks.scores]),
            np.concatenate([held.classes, masks.classes]),
        )
        self._index = np.concatenate([self._index, self._count + np.arange(len(masks))])
        self._open = np.concatenate([self._open, np.ones(len(masks), bool)])
        self._count += len(masks)
        yield from self._settle(settled)

    def close(self) -> Iterator[Cell]:
        """The cells that are left, once all nuclei are added."""
        yield from self._settle(self._held.shape[0] + self._reach)

    def _settle(self, rows: int) -> Iterator[Cell]:
        held = self._held
        done = np.flatnonzero(self._open & (held.boxes[:, 3] + self._reach <= rows))
        yield from self._cells(done)
        self._open[done] = False
        # What is done is still near to what is not, or is to come.
        top = min(rows, int(held.boxes[self._open, 1].min(initial=rows)))
        kept = np.flatnonzero(self._open | (held.boxes[:, 3] + self._reach > top))
        self._held, self._index, self._open = held[kept], self._index[kept], self._open[kept]

    def _cells(self, chosen: NDArray[np.int64]) -> Iterator[Cell]:
        held, (height, width), reach = self._held, self._held.shape, self._reach
        windows = held.boxes[chosen] + np.array([-reach, -reach, reach, reach], np.int32)
        windows = windows.clip(0, np.array([width, height, width, height], np.int32))
        first, second = box_pairs(windows, held.boxes)
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        ends = np.searchsorted(first, np.arange(len(chosen) + 1))
        for k, (i, window) in enumerate(zip(chosen.tolist(), windows.tolist(), strict=True)):
            yield self._cell(i, tuple(window), np.sort(second[ends[k] : ends[k + 1]]).tolist())

    def _cell(self, i: int, window: Box, near: list[int]) -> Cell:
        """The cell of one nucleus, of those that reach into the window of twice the distance around its box."""
        held, distance = self._held, self._distance
        nucleus = _painted(held, [i], window)
        if not nucleus.any():
            return Cell(int(self._index[i]), window, nucleus, nucleus, float(held.scores[i]), 0)
        own = distance_transform_edt(~nucleus)
        # An earlier nucleus has what is equally near, a later one has not.
        before, after = ([j for j in near if (j < i if earlier else j > i)] for earlier in (True, False))
        cell = own <= distance
        for others, beats in ((before, np.less_equal), (after, np.less)):
            if (pixels := _painted(held, others, window)).any():
                cell &= ~beats(distance_transform_edt(~pixels), own)
        x0, y0, _, _ = window
        # Cut to the distance: what is beyond only says where others are.
        left, top, right, bottom = self._smaller(i)
        inside = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
        neighbours = sum(_within(held, j, window, own, 2 * distance) for j in near if j != i)
        cell = (cell | nucleus)[inside]
        return Cell(
            int(self._index[i]),
            (left, top, right, bottom),
            nucleus[inside],
            cell,
            float(held.scores[i]),
            neighbours,
        )

    def _smaller(self, i: int) -> Box:
        """The box of a nucleus with the distance around it, inside the image."""
        (height, width), far = self._held.shape, math.ceil(self._distance)
        x0, y0, x1, y1 = self._held.boxes[i].tolist()
        return max(0, x0 - far), max(0, y0 - far), min(width, x1 + far), min(height, y1 + far)


def _parts(masks: CropMasks, j: int, window: Box) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Where a mask lies in a window that it reaches into, and its pixels there."""
    (x0, y0, x1, y1), (left, top, right, bottom) = masks.boxes[j].tolist(), window
    a, b, c, d = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    return (slice(b - top, d - top), slice(a - left, c - left)), masks.bitmaps[j][b - y0 : d - y0, a - x0 : c - x0]


def _painted(masks: CropMasks, some: list[int], window: Box) -> NDArray[np.bool_]:
    """The pixels that any of some masks has in a window, bool (h, w)."""
    canvas = np.zeros((window[3] - window[1], window[2] - window[0]), bool)
    for j in some:
        place, bitmap = _parts(masks, j, window)
        canvas[place] |= bitmap
    return canvas


def _within(masks: CropMasks, j: int, window: Box, far: NDArray[np.float64], distance: float) -> bool:
    """Whether a mask has a pixel that is at most so far away."""
    place, bitmap = _parts(masks, j, window)
    return bool((far[place][bitmap] <= distance).any())
