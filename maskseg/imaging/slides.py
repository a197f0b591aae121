"""Image files that are read window by window: tiled TIFF and BigTIFF, OME-TIFF, OME-Zarr, whole-slide formats.

What a window holds is what `maskseg.imaging.reading.read_image` gives there: values of other kinds than 8 bits are
mapped by the percentiles of the whole image, found in passes over all of it that hold one block at a time.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.optional import need
from maskseg.core.zarr_checks import zarr_node, zarr_parts
from maskseg.imaging.reading import PERCENTILES, SLIDE_SUFFIXES, ZARR_SUFFIX, ImageFile
from maskseg.imaging.scaling import scaled_shape
from maskseg.imaging.windows import ArraySource, Box, Resized, Source, blocks

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
# Longest side of the picture of a slide in which its tissue is looked for.
_PREVIEW = 2048
# Decoded pieces of a TIFF that are kept, and the largest piece that is decoded at all, in bytes.
_CACHE, _LARGEST_PIECE = 128 << 20, 1 << 30


class Levels(Protocol):
    """The pixels of a file as they are, in one or more sizes.

    Attributes
    ----------
    shapes : list of (int, int)
        Height and width of each level, the full size first.
    dtype : NumPy dtype
    mpp : float or None
        Microns per pixel of the full size, where the file says so.
    """

    shapes: list[tuple[int, int]]
    dtype: np.dtype
    mpp: float | None

    def values(self, level: int, box: Box) -> NDArray[Any]:
        """The pixels x0, y0, x1, y1 of a level, (h, w, 1 or 3)."""


class FileSource:
    """One level of a file as 8-bit RGB; a `Source`.

    Parameters
    ----------
    name : str
    levels : Levels
    level : int
        0 is the full size.
    """

    def __init__(self, name: str, levels: Levels, level: int = 0) -> None:
        if not 0 <= level < len(levels.shapes):
            raise InputError(f"{name}: has levels 0 to {len(levels.shapes) - 1}; choose one of them for --level")
        self.name, self.shape = name, levels.shapes[level]
        self._levels, self._level = levels, level

    def read(self, box: Box) -> NDArray[np.uint8]:
        """See `Source`."""
        values = self._levels.values(self._level, box)
        if values.dtype == bool:
            values = values.astype(np.uint8) * 255
        elif values.dtype != np.uint8:
            low, high = self._limits
            values = values.astype(np.float32)
            values = np.rint(np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255)).astype(np.uint8)
        return np.broadcast_to(values, (*values.shape[:2], 3))

    def values(self, box: Box) -> NDArray[Any]:
        """See `Source`."""
        return self._levels.values(self._level, box)

    @cached_property
    def preview(self) -> NDArray[np.uint8] | None:
        """See `Source`; None where the file has one level only."""
        if len(self._levels.shapes) == 1:
            return None
        small = [k for k, shape in enumerate(self._levels.shapes) if max(shape) >= _PREVIEW]
        source = self if not small or small[-1] <= self._level else FileSource(self.name, self._levels, small[-1])
        height, width = scaled_shape(source.shape, min(1.0, _PREVIEW / max(source.shape)))
        return Resized(source, (height, width)).read((0, 0, width, height))

    @cached_property
    def _limits(self) -> tuple[np.floating[Any], np.floating[Any]]:
        """The values that become 0 and 255; see `maskseg.imaging.reading`."""
        kind = self._levels.dtype
        if kind.kind not in "uif":
            raise InputError(f"{self.name}: pixels of type {kind} are not supported; save as 8-bit, 16-bit or float")
        if kind.itemsize <= 2 and kind.kind in "ui":
            low, step, bins = float(np.iinfo(kind).min), 1.0, 1 << 16
        else:
            low, high = np.inf, -np.inf
            for box in blocks(self.shape):
                values = self._levels.values(self._level, box)
                if not np.isfinite(values).all():
                    raise InputError(f"{self.name}: it holds values that are not finite; replace them")
                low, high = min(low, float(values.min())), max(high, float(values.max()))
            bins = 1 << 16
            step = max(high - low, 1e-12) / (bins - 1)
        counts = np.zeros(bins, np.int64)
        for box in blocks(self.shape):
            place = np.rint((self._levels.values(self._level, box).astype(np.float64) - low) / step)
            counts += np.bincount(place.astype(np.int64).ravel(), minlength=bins)
        # NumPy's percentile: linear between the two values beside the place.
        ends = np.cumsum(counts)
        found = []
        for share in PERCENTILES:
            place = share / 100 * (ends[-1] - 1)
            below, above = np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")
            found.append(low + step * (below + (above - below) * (place - np.floor(place))))
        return np.float64(found[0]), np.float64(found[1])


class TiffLevels:
    """A TIFF by its tiles or strips, of which the last used ones are kept."""

    def __init__(self, path: Path) -> None:
        try:
            # Some kinds of TIFF name other files that they go on in, which may be any.
            self._file = tifffile.TiffFile(path, _multifile=False, is_ndtiff=False, is_mmstack=False)
            series = self._file.series[0]
            self._series = [level for level in series.levels if level.axes == series.axes]
        except Exception as error:  # tifffile has errors of its own; all mean the same here
            raise InputError(f"{path}: damaged, cut short or no TIFF image; get it again") from error
        self._path = path
        kept = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX"]
        self._axes, sizes = "".join(axis for axis, _ in kept), [size for _, size in kept]
        if self._axes not in ("YX", "YXS", "SYX", "CYX", "YXC") or ("C" in self._axes and min(sizes) != 3):
            raise InputError(f"{path}: it holds {' x '.join(map(str, sizes))} values ({self._axes}); save one plane")
        self._page = series.keyframe
        kinds = tifffile.PHOTOMETRIC
        if self._page.photometric in (kinds.SEPARATED, kinds.CIELAB, kinds.PALETTE):
            raise InputError(f"{path}: too large for its kind of colours; save it as RGB or grey")
        self._inverted = self._page.photometric == kinds.MINISWHITE
        y, x = series.axes.index("Y"), series.axes.index("X")
        self.shapes = [(level.shape[y], level.shape[x]) for level in self._series]
        self.dtype = np.dtype(series.dtype)
        self.mpp = _microns(self._file)
        self._kept: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def values(self, level: int, box: Box) -> NDArray[Any]:
        """See `Levels`."""
        series = self._series[level]
        mapped = series.dataoffset is not None and not series.keyframe.is_tiled
        values = self._mapped(series, box) if mapped else self._decoded(level, box)
        values = values[..., : 1 if values.shape[2] <= 2 else 3]
        return ~values if self._inverted else values

    def _mapped(self, series: tifffile.TiffPageSeries, box: Box) -> NDArray[Any]:
        """Pixels that lie in the file in one piece. Mapped anew each time, so that no page of it stays in memory."""
        kind = np.dtype(series.dtype).newbyteorder(self._file.byteorder)
        stored = np.memmap(self._path, kind, "r", series.dataoffset, series.shape)
        named = zip(stored.shape, series.axes, strict=True)
        image = stored.reshape([size for size, axis in named if size > 1 or axis in "YX"])
        x0, y0, x1, y1 = box
        if self._axes in ("SYX", "CYX"):
            part = np.moveaxis(image[:, y0:y1, x0:x1], 0, 2)
        else:
            part = image[y0:y1, x0:x1].reshape(y1 - y0, x1 - x0, -1)
        return part.astype(series.dtype)

    def _decoded(self, level: int, box: Box) -> NDArray[Any]:
        series = self._series[level]
        x0, y0, x1, y1 = box
        pages = list(series.pages) if self._axes == "CYX" else [series.pages[0]]
        key = series.keyframe
        planes = key.samplesperpixel if key.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
        height, width = self.shapes[level]
        tall, wide = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, width)
        if tall * wide * key.dtype.itemsize * key.samplesperpixel // planes > _LARGEST_PIECE:
            raise InputError(f"{self._path}: it is compressed in one piece; save it as a tiled TIFF")
        down, across = -(-height // tall), -(-width // wide)
        parts = []
        for number, page in enumerate(pages):
            for plane in range(planes):
                samples = 1 if planes > 1 else key.samplesperpixel
                pixels = np.zeros((y1 - y0, x1 - x0, samples), self.dtype)
                for row in range(y0 // tall, -(-y1 // tall)):
                    for column in range(x0 // wide, -(-x1 // wide)):
                        piece = self._piece(level, number, page, (plane * down + row) * across + column)
                        top, left = row * tall, column * wide
                        a, b = max(top, y0), min(top + tall, y1, height)
                        c, d = max(left, x0), min(left + wide, x1, width)
                        if piece is not None:
                            pixels[a - y0 : b - y0, c - x0 : d - x0] = piece[a - top : b - top, c - left : d - left]
                parts.append(pixels)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _piece(self, level: int, number: int, page: Any, index: int) -> NDArray[Any] | None:
        """A decoded tile or strip, (h, w, samples); None where the file leaves it out."""
        name = (level, number, index)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if size == 0:
            return None
        handle, key = self._file.filehandle, page.keyframe
        handle.seek(offset)
        data = handle.read(size)
        tables = {"jpegtables": page.jpegtables} if key.compression in (6, 7, 33007, 34892) else {}
        try:
            if len(data) < size:
                raise InputError("cut short")
            piece = np.asarray(key.decode(data, index, **tables)[0])[0]
        except Exception as error:  # the codecs have errors of their own; all mean the same here
            raise InputError(f"{self._path}: damaged or cut short; get it again") from error
        self._kept[name] = piece
        self._bytes += piece.nbytes
        while self._bytes > _CACHE and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return piece


class ZarrLevels:
    """An OME-Zarr image (versions 0.4 and 0.5), or a Zarr array; read by zarr."""

    def __init__(self, path: Path) -> None:
        zarr = need("zarr", "slides", f"{path}: Zarr")
        try:
            node = zarr_node(path)
            axes, scale, parts = None, None, [path]
            if not node.is_array:
                image = node.attributes.get("ome", node.attributes)["multiscales"][0]
                axes = [axis if isinstance(axis, str) else axis["name"] for axis in image.get("axes", "tczyx")]
                parts = zarr_parts(path, [item["path"] for item in image["datasets"]], node.zarr_format)
                units = [axis.get("unit") if isinstance(axis, dict) else None for axis in image.get("axes", "tczyx")]
                for step in image["datasets"][0].get("coordinateTransformations", []):
                    if step["type"] == "scale" and units[axes.index("x")] == "micrometer":
                        scale = float(step["scale"][axes.index("x")])
            # Opened only now that each is known to hold numbers, in the format that was looked at.
            arrays = [zarr.open_array(part, mode="r", zarr_format=node.zarr_format) for part in parts]
        except Exception as error:  # zarr has errors of its own; all mean the same here
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{path}: no OME-Zarr image that can be read ({reason}); check the path") from error
        self._axes = axes or ("yx" if arrays[0].ndim == 2 else "yxc" if arrays[0].shape[-1] <= 4 else "cyx")
        sizes = dict(zip(self._axes, arrays[0].shape, strict=True))
        if any(size > 1 for axis, size in sizes.items() if axis not in "cyx") or sizes.get("c", 1) not in (1, 3):
            raise InputError(f"{path}: it holds {sizes}; save one plane of it, with 1 or 3 channels")
        self._arrays = arrays
        y, x = list(self._axes).index("y"), list(self._axes).index("x")
        self.shapes = [(array.shape[y], array.shape[x]) for array in arrays]
        self.dtype, self.mpp = arrays[0].dtype, scale

    def values(self, level: int, box: Box) -> NDArray[Any]:
        """See `Levels`."""
        x0, y0, x1, y1 = box
        wanted = {"y": slice(y0, y1), "x": slice(x0, x1), "c": slice(None)}
        part = np.asarray(self._arrays[level][tuple(wanted.get(axis, 0) for axis in self._axes)])
        left = [axis for axis in self._axes if axis in wanted]
        return np.moveaxis(part, left.index("c"), 2) if "c" in left else part[..., None]


class SlideLevels:
    """A whole-slide file, read by OpenSlide; what was not scanned is white."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path) -> None:
        openslide = need("openslide", "slides", f"{path}: a slide")
        try:
            self._slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{path}: no slide that OpenSlide can read ({error}); get it again") from error
        self._path = path
        self.shapes = [size[::-1] for size in self._slide.level_dimensions]
        mpp = self._slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        self.mpp = float(mpp) if mpp else None

    def values(self, level: int, box: Box) -> NDArray[Any]:
        """See `Levels`."""
        x0, y0, x1, y1 = box
        factor = self._slide.level_downsamples[level]
        try:
            part = self._slide.read_region((round(x0 * factor), round(y0 * factor)), level, (x1 - x0, y1 - y0))
        except Exception as error:  # OpenSlide has errors of its own; all mean the same here
            raise InputError(f"{self._path}: damaged or cut short ({error}); get it again") from error
        white = Image.new("RGB", part.size, (255, 255, 255))
        white.paste(part, mask=part.getchannel("A"))
        return np.asarray(white)


def is_lazy(file: ImageFile) -> bool:
    """Whether the format of a file can be read window by window."""
    return file.member is None and (
        file.path.is_dir() or file.path.suffix.lower() in (*TIFF_SUFFIXES, *SLIDE_SUFFIXES, ZARR_SUFFIX)
    )


def is_large(file: ImageFile, pixels: int) -> bool:
    """Whether a file is a slide, is in Zarr, or holds more than so many pixels, as its header says.

    What has no header that can be read is not large: reading it says what is wrong with it.
    """
    if is_lazy(file) and file.path.suffix.lower() not in TIFF_SUFFIXES:
        return True
    try:
        if is_lazy(file):
            with tifffile.TiffFile(file.path) as tiff:
                height, width = tiff.pages.first.imagelength, tiff.pages.first.imagewidth
        else:
            height, width = file.size()
    except Exception:  # of whatever decoder
        return False
    return height * width > pixels


def open_source(file: ImageFile, level: int = 0, mpp: float | None = None) -> tuple[Source, float]:
    """Open an image to be read in parts; formats that cannot be are read as a whole.

    Parameters
    ----------
    file : ImageFile
    level : int
        Which size of a file that holds several; 0 is the full one.
    mpp : float, optional
        Microns per pixel in which the image is wanted, in place of a level: taken from the nearest finer level.

    Returns
    -------
    source : Source
    scale : float
        Pixels of the full size in one of its pixels.

    Raises
    ------
    InputError
        If it cannot be read, has no such level, or does not say how large its pixels are.
    """
    if not is_lazy(file):
        if level or mpp:
            raise InputError(f"{file.name}: has one size only; leave out --level and --mpp")
        image, values = file.read_values()
        return ArraySource(image, file.name, values), 1.0
    suffix = file.path.suffix.lower()
    kind = SlideLevels if suffix in SLIDE_SUFFIXES else TiffLevels if suffix in TIFF_SUFFIXES else ZarrLevels
    levels: Levels = kind(file.path)
    width = levels.shapes[0][1]
    if mpp is None:
        source = FileSource(file.name, levels, level)
        return source, width / source.shape[1]
    if not levels.mpp:
        raise InputError(f"{file.name}: does not say how large its pixels are; give --level in place of --mpp")
    factor = mpp / levels.mpp
    finer = [k for k, shape in enumerate(levels.shapes) if width / shape[1] <= factor * 1.01]
    source: Source = FileSource(file.name, levels, finer[-1] if finer else 0)
    # A level that is within a hundredth of what is wanted is taken as it is.
    if abs(width / source.shape[1] / factor - 1) > 0.01:
        source = Resized(source, scaled_shape(levels.shapes[0], 1 / factor))
    return source, width / source.shape[1]


def _microns(file: tifffile.TiffFile) -> float | None:
    """Microns per pixel of an OME-TIFF or an Aperio file."""
    found = None
    if file.ome_metadata:
        # Without a unit it is microns.
        other_unit = r'(?![^>]*PhysicalSizeXUnit="(?!µm|&#181;m)[^"]*")'
        found = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"' + other_unit, file.ome_metadata)
    elif file.is_svs:
        found = re.search(r"\|MPP = ([0-9.]+)", file.pages.first.description)
    return float(found[1]) if found else None
