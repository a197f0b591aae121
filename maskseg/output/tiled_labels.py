"""Label images larger than memory: a tiled BigTIFF written as the nuclei come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.files import write_whole
from maskseg.masks import CropMasks

# Side of the tiles in the file.
TILE = 256


def write_tiled_labels(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    settled: Iterable[tuple[CropMasks, int]],
    at_most: int,
) -> None:
    """Write a label image as a compressed, tiled BigTIFF, whole or not at all.

    Nuclei are numbered in the order in which they come. One band of 256 rows is held, and the nuclei that come
    before their rows are done.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    shape : (int, int)
        Height and width.
    settled : iterable of (CropMasks, int)
        Nuclei without overlap, and the row above which no later one has a pixel.
    at_most : int
        How many nuclei there can be: stored as uint16, which every viewer opens, and as int32 from 65,536 on.
    """
    dtype = np.dtype(np.uint16 if at_most <= np.iinfo(np.uint16).max else np.int32)
    with write_whole(path) as file:
        tifffile.imwrite(
            # A temporary file has a number for a name, which tifffile does not expect.
            tifffile.FileHandle(file, mode="wb", name=Path(path).name, size=0),
            _tiles(shape, settled, dtype),
            shape=shape,
            dtype=dtype,
            tile=(TILE, TILE),
            bigtiff=True,
            compression="zlib",
            photometric="minisblack",
        )


def _tiles(
    shape: tuple[int, int], settled: Iterable[tuple[CropMasks, int]], dtype: np.dtype
) -> Iterator[NDArray[np.integer]]:
    """The tiles of the file, row by row; all of `settled` is taken."""
    height, width = shape
    coming, rows, count = iter(settled), 0, 0
    waiting: list[tuple[tuple[int, int, int, int], NDArray[np.bool_], int]] = []
    for top in range(0, height, TILE):
        bottom = top + TILE
        while rows < min(bottom, height):
            masks, rows = next(coming)
            for box, bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True):
                count += 1
                waiting.append((tuple(box), bitmap, count))
        band = np.zeros((TILE, -(-width // TILE) * TILE), dtype)
        for (x0, y0, x1, y1), bitmap, label in waiting:
            low, high = max(y0, top), min(y1, bottom)
            if low < high:
                band[low - top : high - top, x0:x1][bitmap[low - y0 : high - y0]] = label
        waiting = [item for item in waiting if item[0][3] > bottom]
        for left in range(0, width, TILE):
            yield band[:, left : left + TILE]
