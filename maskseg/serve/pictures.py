"""What the page shows of an image: tiles of WebP at halved sizes, straight from the readers."""

from __future__ import annotations

import io
from collections import OrderedDict
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.imaging.containers import in_parts
from maskseg.imaging.intensity import in_8_bits, limits
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import FileSource, is_large
from maskseg.imaging.windows import ArraySource, Box

# Side of a tile on the screen.
TILE = 256
# Images of more pixels are read window by window.
LARGE = 4096 * 4096
# Encoded tiles that are kept, in bytes, and the side of the blocks in which a level that no file holds is made.
_CACHE, _BLOCK = 96 << 20, 2048
_QUALITY = 90

_Level = ArraySource | FileSource


class Picture:
    """An open image file.

    Parameters
    ----------
    file : ImageFile

    Attributes
    ----------
    shape : (int, int)
        Height and width in pixels.
    depth : int
        The tile level at which the whole image is in one tile; level z has pixels of side 2 ** z.
    mpp : float or None
        Side of a pixel in micrometres, where the file says so.

    Raises
    ------
    InputError
        If it is no image that can be read.
    """

    def __init__(self, file: ImageFile) -> None:
        self.file = file
        self.mpp: float | None = None
        self._lock = Lock()
        self._levels = self._open()
        self.shape = self._levels[0].shape
        self.depth = max(0, int(np.ceil(np.log2(max(self.shape) / TILE))))
        self._limits: tuple[float, float] | None = None
        self._tiles: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._bytes = 0

    def _open(self) -> list[_Level]:
        if self.file.member or not (in_parts(self.file.path) and is_large(self.file, LARGE)):
            loaded = self.file.load()
            self.mpp = loaded.mpp
            return [ArraySource(loaded.image, self.file.name, loaded.values)]
        levels = self.file.open()
        self.mpp = levels.mpp
        return [FileSource(self.file.name, levels, level) for level in range(len(levels.shapes))]

    def tile(self, z: int, x: int, y: int) -> bytes:
        """A tile as WebP; at the right and bottom edge of the image it is filled with black.

        Raises
        ------
        InputError
            If there is no such tile or the file is damaged there.
        """
        side = TILE << min(max(z, 0), self.depth)
        height, width = self.shape
        if not (0 <= z <= self.depth and 0 <= x * side < width and 0 <= y * side < height):
            raise InputError(f"{self.file.name}: has no tile {z}/{x}/{y}")
        name = (z, x, y)
        with self._lock:
            if name in self._tiles:
                self._tiles.move_to_end(name)
                return self._tiles[name]
            box = (x * side, y * side, min((x + 1) * side, width), min((y + 1) * side, height))
            pixels = self._shrunk(box, z)
        tile = np.zeros((TILE, TILE, 3), np.uint8)
        tile[: pixels.shape[0], : pixels.shape[1]] = pixels
        data = webp(tile)
        with self._lock:
            self._tiles[name] = data
            self._bytes += len(data)
            while self._bytes > _CACHE and len(self._tiles) > 1:
                self._bytes -= len(self._tiles.popitem(last=False)[1])
        return data

    def region(self, box: Box) -> NDArray[np.uint8]:
        """The pixels of a box inside the image as the network sees them: uint8 (h, w, 3)."""
        with self._lock:
            return np.ascontiguousarray(self._levels[0].read(box))

    def values(self, box: Box) -> NDArray[Any]:
        """The same as it is in the file, (h, w, 1 or 3)."""
        with self._lock:
            return self._levels[0].values(box)

    def thumbnail(self) -> bytes:
        """The image in at most `TILE` pixels, as WebP."""
        tile = np.asarray(Image.open(io.BytesIO(self.tile(self.depth, 0, 0))))
        step = 1 << self.depth
        return webp(tile[: max(1, self.shape[0] // step), : max(1, self.shape[1] // step)])

    def overview(self, side: int) -> NDArray[np.uint8]:
        """The whole image at the largest halved size whose longer side is at most `side`."""
        z = max(0, int(np.ceil(np.log2(max(self.shape) / side))))
        with self._lock:
            return self._shrunk((0, 0, self.shape[1], self.shape[0]), z)

    def _shrunk(self, box: Box, z: int) -> NDArray[np.uint8]:
        """A box with every 2 ** z pixels in a row averaged, from the nearest finer level of the file."""
        step = 1 << z
        shrinks = [round(self.shape[1] / level.shape[1], 3) for level in self._levels]
        level = max((k for k, shrink in enumerate(shrinks) if shrink <= step * 1.01), key=lambda k: shrinks[k])
        source = self._levels[level]
        x0, y0, x1, y1 = box
        wanted = -(-(y1 - y0) // step), -(-(x1 - x0) // step)
        pixels = np.empty((*wanted, 3), np.uint8)
        # In blocks, so that a level that no file holds is made in little memory.
        rows = max(1, int(_BLOCK * shrinks[level]) // step)
        across, down = self.shape[1] / source.shape[1], self.shape[0] / source.shape[0]
        for top in range(0, wanted[0], rows):
            for left in range(0, wanted[1], rows):
                bottom, right = min(top + rows, wanted[0]), min(left + rows, wanted[1])
                place = (
                    int((x0 + left * step) / across),
                    int((y0 + top * step) / down),
                    min(source.shape[1], max(1, round((x0 + right * step) / across))),
                    min(source.shape[0], max(1, round((y0 + bottom * step) / down))),
                )
                place = (min(place[0], place[2] - 1), min(place[1], place[3] - 1), place[2], place[3])
                part: NDArray[Any] = self._rgb(source, place)
                size = (right - left, bottom - top)
                if (part.shape[1], part.shape[0]) != size:
                    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
                pixels[top:bottom, left:right] = part
        return pixels

    def _rgb(self, source: _Level, box: Box) -> NDArray[np.uint8]:
        """8-bit RGB; other kinds of values by the limits of parts of the smallest level, without a pass over it all."""
        if isinstance(source, ArraySource):
            return np.ascontiguousarray(source.read(box))
        values: NDArray[Any] = source.values(box)
        if values.dtype == bool:
            values = values.astype(np.uint8) * 255
        elif values.dtype != np.uint8:
            if self._limits is None:
                self._limits = self._limits_of_some()
            values = in_8_bits(values, *self._limits)
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))

    def _limits_of_some(self) -> tuple[float, float]:
        source = self._levels[-1]
        height, width = source.shape
        side = 256
        # Some blocks, spread evenly: enough for what is shown.
        columns = np.unique(np.linspace(0, max(width - side, 0), 8).astype(int))
        rows = np.unique(np.linspace(0, max(height - side, 0), 8).astype(int))
        some = [
            np.concatenate(
                [source.values((x, y, min(x + side, width), min(y + side, height))) for x in columns.tolist()], axis=1
            )
            for y in rows.tolist()
        ]
        return limits(np.concatenate(some))


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (h, w, 3 or 4), as WebP."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", quality=_QUALITY, method=1)
    return data.getvalue()
