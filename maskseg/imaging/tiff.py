"""TIFF by its meaning, whole or in parts: colours, planes, levels, turns, and files that belong together.

What is read here is what `maskseg.imaging.reading` gives of a whole file and `maskseg.imaging.slides` of its windows.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.limits import PARTS, check_claim
from maskseg.imaging.boundary import check_planes, untrusted
from maskseg.imaging.colours import JPEG, Meaning, is_plain, meaning, upsampled
from maskseg.imaging.stored import COLOURS
from maskseg.imaging.tiff_axes import layout
from maskseg.imaging.tiff_images import image_of, open_tiff
from maskseg.imaging.tiff_metadata import channel_names, check_ome_planes, microns
from maskseg.imaging.tiff_structure import check_piece
from maskseg.imaging.windows import Box

# Decoded pieces that are kept, and the largest piece that is decoded at all, in bytes.
_CACHE, _LARGEST_PIECE = 128 << 20, 1 << 31
# The pieces of a page may be the same bytes of the file, so many times over: those that are blank.
_SHARED = 64
_DAMAGED = "damaged, cut short or no TIFF image; get it again"
# Orientation: whether rows are columns, and which of the two is turned round then.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Axes of tifffile: I and Q are pages of which nothing is known, R and others are what a program has made up.
_KNOWN = {"Z": "z", "T": "t", "C": "c"}

# Said to be an error by tifffile, and handled here: files that belong to an image and are missing.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffStored:
    """A TIFF, of which the last used tiles and strips are kept; a `Stored`.

    Parameters
    ----------
    source : Path or bytes
        Of a path, the files that belong to the same OME image are read too if they are all there.
    name : str, optional
        For messages.
    image : int, optional
        Which of several images.

    Raises
    ------
    InputError
        It is damaged, or of a kind that is not known.
    """

    def __init__(self, source: Path | bytes, name: str | None = None, image: int | None = None) -> None:
        self.name = name or (str(source) if isinstance(source, Path) else "image")
        with untrusted(self.name, _DAMAGED):
            self._file = open_tiff(source)
            try:
                self._open(source, image)
            except BaseException:
                self._file.close()
                raise
        self._kept: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def _open(self, source: Path | bytes, image: int | None) -> None:
        check_ome_planes(self._file)
        series, self.images = image_of(self._file, image)
        self._check_claims(series)
        key = series.keyframe
        self._series = [level for level in series.levels if level.axes == series.axes]
        self._source = source
        self._layout = layout(series)
        self._meaning = self._meaning_of(series)
        self.dtype, self.rgb = self._meaning.dtype, self._meaning.rgb
        self.channels: Sequence[str] = []
        self._transposed, self._down, self._across = _TURNS.get(_orientation(key), _TURNS[1])
        y = series.axes.index("Y")
        sizes = [(level.shape[y], level.shape[y + 1]) for level in self._series]
        self.shapes = [size[::-1] if self._transposed else size for size in sizes]
        self._rows = (series.shape[y],) if self._layout.rows else ()
        self._lead = series.shape[: len(self._layout.pages)]
        # Where they are written in one piece, a page stands for all.
        self._one_page = len(series._pages) < math.prod((*self._lead, *self._rows))
        self._choose(series)
        self._check_whole(series)
        self._name_channels(series)
        self.mpp = microns(self._file, series)

    def _meaning_of(self, series: tifffile.TiffPageSeries) -> Meaning:
        """What the samples are: an axis of the image where its description says so, else what the page says."""
        axis, key = self._layout.samples, series.keyframe
        if not axis:
            return meaning(key)
        count = series.shape[series.axes.index(axis)]
        if is_plain(key):
            return meaning(key, count if axis == "C" else 1)
        # Colours are mixed of the samples, such as by JPEG.
        found = meaning(key)
        if axis != "C" or found.count != count or self._layout.rows:
            raise InputError(f"it holds values along the axes {series.axes} as colours; save them as pages")
        return found

    def _choose(self, series: tifffile.TiffPageSeries) -> None:
        """Which planes there are: for each axis the places that are read."""
        axes, shape = self._layout.planes, self._lead
        if len(axes) > len(shape):
            shape = (*shape, series.shape[series.axes.index(axes[-1])])
        check_planes(shape, self._source)
        places: list[Sequence[int]] = [range(size) for size in shape]
        pages = series._pages
        several = None in pages or any(page.parent is not self._file for page in pages if page is not None)
        if several and shape == self._lead:
            missing = None in pages
            own = [np.unravel_index(k, shape) for k, page in enumerate(pages) if page and page.parent is self._file]
            if missing and own:
                # Of an image in several files of which some are missing, the planes of this file.
                places = [sorted({int(index[axis]) for index in own}) for axis in range(len(shape))]
        self._places: dict[str, Sequence[int]] = {}
        self._of_axis: dict[str, int] = {}
        for number, letter in enumerate(axes):
            if len(places[number]) == 1:
                continue
            name = _KNOWN.get(letter)
            if name is None or name in self._places:
                name = next((free for free in "zt" if free not in self._places and free.upper() not in axes), None)
            if name is None:
                raise InputError(f"it holds values along the axes {series.axes}; save one plane of it")
            self._places[name], self._of_axis[name] = places[number], number
        self._fixed = [place[0] for place in places]
        self._sizes = shape
        # Pages of which it is not known what they are may be channels too.
        self.pages_unknown = len(axes) > 0 and not set(axes + self._layout.samples) & set("CZT")
        self.planes: Mapping[str, int] = {name: len(places) for name, places in self._places.items() if name != "c"}

    def _check_claims(self, series: tifffile.TiffPageSeries) -> None:
        """Refuse sizes that the bytes of the file, or of the files that belong together, do not bear out."""
        files = {id(page.parent): page.parent for page in series._pages if page is not None}
        stored = sum(file.filehandle.size for file in files.values())
        for level in series.levels:
            key = level.keyframe
            check_claim(math.prod(level.shape) * np.dtype(key.dtype).itemsize, stored, PARTS, f"values {level.shape}")

    def _check_whole(self, series: tifffile.TiffPageSeries) -> None:
        size, total = self._file.filehandle.size, 0
        for page in series._pages:
            if page is None or page.parent is not self._file:
                continue
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
                if offset + count > size:
                    raise InputError("the file is cut short; get it again")
                total += count
        if total > _SHARED * size:
            raise InputError("its pages claim more bytes than the file has; get it again")

    def _name_channels(self, series: tifffile.TiffPageSeries) -> None:
        """The channels: those along the axis of pages, each with those of its samples."""
        count = self._meaning.count
        if "c" in self._places:
            known = channel_names(self._file, series, self._sizes[self._of_axis["c"]])
            names = [known[place] for place in self._places["c"]]
            self.rgb = count == 1 and [name.lower() for name in names] in _COLOUR_NAMES
            samples = COLOURS if count == 3 else [str(k) for k in range(count)]
            self.channels = [f"{name} {of}".strip() for name in names for of in samples] if count > 1 else names
        elif self._layout.samples == "C":
            names = channel_names(self._file, series, count)
            # Samples that are mixed of colours are those, unless they have names of their own.
            self.rgb = [name.lower() for name in names] in _COLOUR_NAMES or (self.rgb and not any(names))
            self.channels = COLOURS if self.rgb else names
        elif self.rgb:
            self.channels = [*COLOURS, *[""] * (count - len(COLOURS))]
        else:
            self.channels = channel_names(self._file, series, max(count, 1))

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `Stored`."""
        count = self._meaning.count
        parts: dict[int, NDArray[Any]] = {}
        for place in dict.fromkeys(channel // count for channel in channels):
            parts[place] = self._page_values(level, box, {**plane, "c": place})
        if len(parts) == 1:
            (part,) = parts.values()
            inside = [channel % count for channel in channels]
            return part if inside == list(range(part.shape[2])) else part[..., inside]
        return np.stack([parts[channel // count][..., channel % count] for channel in channels], axis=-1)

    def close(self) -> None:
        """See `Stored`."""
        self._file.close()

    def _page_values(self, level: int, box: Box, plane: Mapping[str, int]) -> NDArray[Any]:
        index = list(self._fixed)
        for name, places in self._places.items():
            index[self._of_axis[name]] = places[plane.get(name, 0)]
        sample = slice(None)
        if len(index) > len(self._lead):
            one = index.pop()
            sample = slice(one, one + 1)
        series = self._series[level]
        inside = _before_turn(box, self.shapes[level], self._transposed, self._down, self._across)
        if self._is_mapped(series):
            samples = self._mapped(series, index, inside, sample)
        elif self._one_page:
            raise InputError(f"{self.name}: its planes are compressed in one piece; save them as pages")
        else:
            samples = self._decoded(level, index, inside)[..., sample]
        values = self._meaning.convert(samples)
        if self._transposed:
            values = values.swapaxes(0, 1)
        return values[:: -1 if self._down else 1, :: -1 if self._across else 1]

    def _is_mapped(self, series: tifffile.TiffPageSeries) -> bool:
        """Whether the pixels lie in the file in one piece."""
        key = series.keyframe
        return (
            series.dataoffset is not None
            and not key.is_tiled
            and not key.is_subsampled
            and all(page is not None and page.parent is self._file for page in series._pages)
        )

    def _mapped(self, series: tifffile.TiffPageSeries, index: Sequence[int], box: Box, sample: slice) -> NDArray[Any]:
        """Pixels as they lie in the file. Mapped anew each time, so that no page of it stays in memory."""
        kind = np.dtype(series.keyframe.dtype).newbyteorder(self._file.byteorder)
        assert series.dataoffset is not None, "`_is_mapped` says so"
        offset, count = int(series.dataoffset), math.prod(series.shape)
        try:
            if isinstance(self._source, bytes):
                stored = np.frombuffer(self._source, kind, count, offset).reshape(series.shape)
            else:
                stored = np.memmap(self._source, kind, "r", offset, series.shape)
        except ValueError as error:
            raise InputError(f"{self.name}: damaged or cut short; get it again") from error
        x0, y0, x1, y1 = box
        page = stored[tuple(index)]
        part = np.moveaxis(page[sample, y0:y1, x0:x1], 0, 2) if self._layout.planar else page[y0:y1, x0:x1]
        part = part.reshape(y1 - y0, x1 - x0, -1)
        return (part if self._layout.planar else part[..., sample]).astype(kind.newbyteorder("="))

    def _decoded(self, level: int, index: Sequence[int], box: Box) -> NDArray[Any]:
        if not self._rows:
            return self._decoded_page(level, int(np.ravel_multi_index(index, self._lead)) if index else 0, box)
        x0, y0, x1, y1 = box
        sizes, count = (*self._lead, *self._rows), self._series[level].shape[-1]
        pages = [int(np.ravel_multi_index((*index, row), sizes)) for row in range(y0, y1)]
        # In the page of a row, its columns are the rows.
        return np.stack([self._decoded_page(level, page, (0, x0, count, x1))[..., 0] for page in pages])

    def _decoded_page(self, level: int, number: int, box: Box) -> NDArray[Any]:
        series = self._series[level]
        x0, y0, x1, y1 = box
        page, key = series._pages[number], series.keyframe
        planes = key.samplesperpixel if self._layout.planar else 1
        samples = 1 if self._layout.planar else key.samplesperpixel
        height, width = key.imagelength, key.imagewidth
        tall, wide = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
        piece_bytes = tall * wide * np.dtype(key.dtype).itemsize * samples
        if piece_bytes > _LARGEST_PIECE:
            raise InputError(f"{self.name}: it is compressed in one piece; save it as a tiled TIFF")
        check_claim(piece_bytes, self._file.filehandle.size, what=f"pieces of {tall} x {wide} pixels")
        down, across = -(-height // tall), -(-width // wide)
        pixels = np.zeros((y1 - y0, x1 - x0, samples * planes), key.dtype)
        if page is None:
            return pixels
        for plane in range(planes):
            for row in range(y0 // tall, -(-y1 // tall)):
                for column in range(x0 // wide, -(-x1 // wide)):
                    piece = self._piece(level, number, (plane * down + row) * across + column)
                    top, left = row * tall, column * wide
                    a, b = max(top, y0), min(top + tall, y1, height)
                    c, d = max(left, x0), min(left + wide, x1, width)
                    if piece is not None:
                        part = piece[a - top : b - top, c - left : d - left]
                        pixels[a - y0 : b - y0, c - x0 : d - x0, plane : plane + samples] = part
        return pixels

    def _piece(self, level: int, number: int, index: int) -> NDArray[Any] | None:
        """A decoded tile or strip, (h, w, samples); None where the file leaves it out."""
        name = (level, number, index)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        page = self._series[level]._pages[number]
        if page is None:
            return None
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if size == 0:
            return None
        # Of another file where the image is in several.
        handle = page.parent.filehandle
        if handle.closed:
            handle.open()
        handle.seek(offset)
        data = handle.read(size)
        if len(data) < size:
            raise InputError(f"{self.name}: damaged or cut short; get it again")
        piece = _decode(page, data, index)
        self._kept[name] = piece
        self._bytes += piece.nbytes
        while self._bytes > _CACHE and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return piece


_COLOUR_NAMES = (list(COLOURS), ["r", "g", "b"])


def _orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(274, 1)
    return value if isinstance(value, int) else 1


def _before_turn(box: Box, shape: tuple[int, int], transposed: bool, down: bool, across: bool) -> Box:
    """Where a window of the upright image, of height and width `shape`, lies in the image as it is stored."""
    x0, y0, x1, y1 = box
    height, width = shape
    if across:
        x0, x1 = width - x1, width - x0
    if down:
        y0, y1 = height - y1, height - y0
    return (y0, x0, y1, x1) if transposed else (x0, y0, x1, y1)


def _decode(page: Any, data: bytes, index: int) -> NDArray[Any]:
    """A tile or strip of a page, (h, w, samples)."""
    key = page.keyframe
    check_piece(data, key.compression, (key.tilelength, key.tilewidth) if key.is_tiled else key.shape[:2])
    if key.is_subsampled and key.compression not in JPEG:
        if np.dtype(key.dtype) != np.uint8 or key.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            raise InputError("colours of fewer pixels than the brightness, of a kind that is not supported")
        raw = data if key.compression == 1 else tifffile.TIFF.DECOMPRESSORS[key.compression](data)
        height, width = key.tilelength, key.tilewidth
        if not key.is_tiled:
            width = key.imagewidth
            height = min(key.rowsperstrip, key.imagelength - index * key.rowsperstrip)
        return upsampled(np.frombuffer(raw, np.uint8), (height, width), key.subsampling)
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if key.compression in JPEG else {}
    return np.asarray(key.decode(data, index, **tables)[0])[0]
