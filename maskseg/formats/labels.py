"""Label images: 0 for background, one whole number for each nucleus.

Written as TIFF; one that is larger than memory is written as a tiled TIFF, row by row of tiles, as the nuclei come.
`maskseg.formats.labels_reader` finds and reads them.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, named_if_full, write_whole
from maskseg.core.masks import CropMasks
from maskseg.formats.label_claims import check_label_claims
from maskseg.formats.writer import ImageInfo, Writer

# Of a file, before it is unpacked.
MOST_PIXELS = 1 << 31
SUFFIXES = (".tif", ".tiff", ".png", ".npy")
# Side of the tiles of a tiled TIFF.
TILE = 256
# Bytes of labels that a classic TIFF, which every program opens, has room for even if nothing can be compressed.
_CLASSIC = (1 << 32) - (1 << 26)
# In the TIFF files that are written: their numbers are labels, whatever they look like.
WRITTEN_BY = "maskseg"


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF, whole or not at all.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    labels : integer array (H, W)
        Stored as uint16, which every viewer opens, and as int32 from 65,536 labels on.
    """
    largest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or largest > np.iinfo(np.int32).max:
        raise InputError(f"{path}: labels below 0 or above {np.iinfo(np.int32).max} cannot be stored; renumber them")
    dtype = label_dtype(largest)
    encoded = io.BytesIO()
    tifffile.imwrite(
        encoded, labels.astype(dtype, copy=False), compression="zlib", photometric="minisblack", software=WRITTEN_BY
    )
    with write_whole(path) as file:
        file.write(encoded.getbuffer())


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label image.

    Parameters
    ----------
    path : path-like
        TIFF, PNG (grey or palette, 8 or 16 bit: the stored numbers) or NumPy's .npy. Whole numbers stored as float
        become int64.

    Returns
    -------
    integer array (H, W)

    Raises
    ------
    InputError
        The file is missing, broken, in colour, or holds fractions.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a label image is one of {', '.join(SUFFIXES)}")
    if not path.exists():
        raise InputError(f"{path}: does not exist")
    check_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    labels, _ = read_pixels(data, str(path))
    if labels.ndim != 2:
        raise InputError(f"{path}: has the shape {labels.shape}; a label image has one channel, (height, width)")
    return labels


def read_pixels(data: bytes, name: str) -> tuple[np.ndarray, str]:
    """What a TIFF, PNG or .npy file holds.

    Parameters
    ----------
    data : bytes
        Content of the file.
    name : str
        What errors call it.

    Returns
    -------
    values : integer or bool array (H, W), or (H, W, 3 or 4) of colours
        Palettes as the stored numbers; whole numbers stored as float as int64.
    software : str
        What wrote a TIFF file, as it says.

    Raises
    ------
    InputError
        The file is broken, or holds fractions or several planes.
    """
    try:
        values, software = _decode(data)
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: is not a readable label image ({reason}); write it again") from error
    while values.ndim > 2 and 1 in values.shape:
        values = values.squeeze(values.shape.index(1))
    if (values.ndim != 2 and not (values.ndim == 3 and values.shape[2] in (3, 4))) or not values.size:
        raise InputError(f"{name}: has the shape {values.shape}; a label image has one channel, (height, width)")
    if values.dtype.kind == "f" and np.array_equal(values, np.trunc(values)) and np.abs(values).max(initial=0) < 2**53:
        values = values.astype(np.int64)
    if values.dtype.kind not in "biu":
        raise InputError(f"{name}: holds {values.dtype} values; save the labels as whole numbers")
    return values, software


def _decode(data: bytes) -> tuple[np.ndarray, str]:
    check_label_claims(data)
    if data.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(data), allow_pickle=False), ""
    if data.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "P" and "transparency" not in image.info:
                return np.asarray(image), ""
            if data[24] == 16 and image.mode not in ("I;16", "I"):  # Pillow keeps 8 bits of colours
                return np.asarray(image.convert("RGBA")), ""
            return np.asarray(image), ""
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False, is_ndtiff=False, is_mmstack=False) as file:
        if file.series[0].size > MOST_PIXELS:
            raise ValueError(f"{file.series[0].size} values are too many; cut it into pieces")
        values = file.asarray()
        return values, str(file.pages.first.software or "")


# ---- nuclei to label images ----


def label_dtype(at_most: int) -> np.dtype:
    """What that many labels are stored as: uint16, which every viewer opens, and int32 from 65,536 on."""
    return np.dtype(np.uint16 if at_most <= np.iinfo(np.uint16).max else np.int32)


class LabelBands:
    """A label image `TILE` rows at a time, from nuclei that are numbered in the order in which they come.

    What is held are the nuclei that come before their rows are done.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    dtype : integer dtype
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._top = self._count = 0
        self._waiting: list[tuple[list[int], NDArray[np.bool_], int]] = []

    def add(self, masks: CropMasks, settled: int) -> Iterator[NDArray[np.integer]]:
        """Take nuclei without overlap, and give the rows that are done: integer arrays (`TILE`, W), the last one less.

        `settled` is the row above which no later nucleus has a pixel. All that is given is to be taken.
        """
        for box, bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True):
            self._count += 1
            self._waiting.append((box, bitmap, self._count))
        height, width = self._shape
        while self._top < height and (bottom := min(self._top + TILE, height)) <= settled:
            band = np.zeros((bottom - self._top, width), self._dtype)
            for (x0, y0, x1, y1), bitmap, label in self._waiting:
                low, high = max(y0, self._top), min(y1, bottom)
                if low < high:
                    band[low - self._top : high - self._top, x0:x1][bitmap[low - y0 : high - y0]] = label
            self._waiting = [item for item in self._waiting if item[0][3] > bottom]
            self._top = bottom
            yield band


class LabelWriter(Writer):
    """A label image of each image; of nuclei that come tile by tile a tiled TIFF.

    A TIFF of tiles is written from its first tile to its last in one go, so tiles wait, compressed, in a temporary
    file that has no name.
    """

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._labels: NDArray[np.int32] | None = None
        self._tiles: IO[bytes] | None = None
        self._stack = ExitStack()
        self._lengths: list[int] = []
        self._dtype = label_dtype(image.at_most or 0)
        self._bands = LabelBands(image.shape, self._dtype)

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        if self.image.at_most is None:
            self._labels = masks.to_labels()
            areas = np.bincount(self._labels.ravel(), minlength=len(masks) + 1)[1:]
            self.shared = int(masks.areas.sum() - areas.sum())
            self.left_out += ["wholly covered by others"] * int(np.count_nonzero(areas == 0))
            return
        with named_if_full(self.path):
            if self._tiles is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
                self._tiles = self._stack.enter_context(spool)
            for band in self._bands.add(masks, settled):
                for tile in _tiles(band):
                    encoded = imagecodecs.deflate_encode(tile.tobytes())  # as tifffile has it
                    self._lengths.append(len(encoded))
                    self._tiles.write(encoded)

    def close(self) -> None:
        """See `Writer`."""
        if self._tiles is None:
            labels = np.zeros(self.image.shape, np.int32) if self._labels is None else self._labels
            write_labels(self.path, labels)
            return
        self._tiles.seek(0)
        with write_whole(self.path) as file:
            tifffile.imwrite(
                # A temporary file has a number for a name, which tifffile does not expect.
                tifffile.FileHandle(file, mode="wb", name=self.path.name, size=0),
                (self._tiles.read(length) for length in self._lengths),
                shape=self.image.shape,
                dtype=self._dtype,
                tile=(TILE, TILE),
                bigtiff=math.prod(self.image.shape) * self._dtype.itemsize > _CLASSIC,
                compression="zlib",
                photometric="minisblack",
                software=WRITTEN_BY,
            )
        self.abandon()

    def abandon(self) -> None:
        """See `Writer`."""
        self._stack.close()


def _tiles(rows: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    height, width = rows.shape
    padded = np.zeros((TILE, -(-width // TILE) * TILE), rows.dtype)
    padded[:height, :width] = rows
    for left in range(0, padded.shape[1], TILE):
        yield padded[:, left : left + TILE]
