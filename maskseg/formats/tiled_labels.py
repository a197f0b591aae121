"""Label images larger than memory: a tiled TIFF written as the nuclei come."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks

# Side of the tiles in the file.
TILE = 256
# Bytes of labels that a classic TIFF, which every program opens, has room for even if nothing can be compressed.
_CLASSIC = (1 << 32) - (1 << 26)


def label_rows(
    shape: tuple[int, int], settled: Iterable[tuple[CropMasks, int]], at_most: int
) -> tuple[np.dtype, Iterator[NDArray[np.integer]]]:
    """A label image `TILE` rows at a time, from nuclei that are numbered in the order in which they come.

    What is held are these rows, and the nuclei that come before their rows are done.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    settled : iterable of (CropMasks, int)
        Nuclei without overlap, and the row above which no later one has a pixel.
    at_most : int
        How many nuclei there can be: stored as uint16, which every viewer opens, and as int32 from 65,536 on.

    Returns
    -------
    dtype : NumPy dtype
    rows : iterator of integer array (TILE, W)
        The last one has what is left. All of `settled` is taken.
    """
    dtype = np.dtype(np.uint16 if at_most <= np.iinfo(np.uint16).max else np.int32)
    return dtype, _rows(shape, settled, dtype)


def _rows(
    shape: tuple[int, int], settled: Iterable[tuple[CropMasks, int]], dtype: np.dtype
) -> Iterator[NDArray[np.integer]]:
    height, width = shape
    coming, rows, count = iter(settled), 0, 0
    waiting: list[tuple[tuple[int, int, int, int], NDArray[np.bool_], int]] = []
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        while rows < bottom:
            masks, rows = next(coming)
            for box, bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True):
                count += 1
                waiting.append((tuple(box), bitmap, count))
        band = np.zeros((bottom - top, width), dtype)
        for (x0, y0, x1, y1), bitmap, label in waiting:
            low, high = max(y0, top), min(y1, bottom)
            if low < high:
                band[low - top : high - top, x0:x1][bitmap[low - y0 : high - y0]] = label
        waiting = [item for item in waiting if item[0][3] > bottom]
        yield band


def write_tiled_labels(
    path: str | os.PathLike[str], shape: tuple[int, int], dtype: np.dtype, rows: Iterable[NDArray[np.integer]]
) -> None:
    """Write the rows of `label_rows` as a compressed, tiled TIFF, whole or not at all.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    shape : (int, int)
        Height and width.
    dtype, rows
        See `label_rows`. It is a BigTIFF where it might have 4 GB.
    """
    with write_whole(path) as file:
        tifffile.imwrite(
            # A temporary file has a number for a name, which tifffile does not expect.
            tifffile.FileHandle(file, mode="wb", name=Path(path).name, size=0),
            _tiles(rows),
            shape=shape,
            dtype=dtype,
            tile=(TILE, TILE),
            bigtiff=math.prod(shape) * np.dtype(dtype).itemsize > _CLASSIC,
            compression="zlib",
            photometric="minisblack",
        )


def _tiles(rows: Iterable[NDArray[np.integer]]) -> Iterator[NDArray[np.integer]]:
    for some in rows:
        height, width = some.shape
        padded = np.zeros((TILE, -(-width // TILE) * TILE), some.dtype)
        padded[:height, :width] = some
        for left in range(0, padded.shape[1], TILE):
            yield padded[:, left : left + TILE]
