"""Image files that are read window by window: tiled TIFF and BigTIFF, OME-TIFF, OME-Zarr, whole-slide formats.

What a window holds is what `maskseg.imaging.reading.read_image` gives there: values of other kinds than 8 bits are
mapped by the percentiles of the whole image, found in passes over all of it that hold one block at a time.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Chosen
from maskseg.imaging.containers import only_in_parts
from maskseg.imaging.intensity import in_8_bits
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.scaling import scaled_shape
from maskseg.imaging.windows import Box, Resized, limits_in_parts

# Longest side of the picture of a slide in which its tissue is looked for.
_PREVIEW = 2048
# Of an image of more pixels the limits are found from a level that is at most so many times as coarse.
_LARGE, _COARSER = 4096 * 4096, 4
# An image is not magnified further than this.
_MOST_MAGNIFIED = 16


class FileSource:
    """One level of a file as 8-bit RGB; a `Source`.

    Parameters
    ----------
    name : str
    levels : Chosen
    level : int
        0 is the full size.
    limits : (float, float), optional
        What `limits` is, where it is known.
    """

    def __init__(self, name: str, levels: Chosen, level: int = 0, limits: tuple[float, float] | None = None) -> None:
        if not 0 <= level < len(levels.shapes):
            last = len(levels.shapes) - 1
            raise InputError(f"{name}: has levels 0 to {last}; choose one of them, or leave out --level")
        self.name, self.shape, self.channels = name, levels.shapes[level], levels.all_channels
        self._levels, self._level = levels, level
        if limits:
            self._limits = limits

    def read(self, box: Box) -> NDArray[np.uint8]:
        """See `Source`."""
        values = self._levels.values(self._level, box)
        if values.dtype == bool:
            values = values.astype(np.uint8) * 255
        elif values.dtype != np.uint8:
            values = in_8_bits(values, *self._limits)
        return np.broadcast_to(values, (*values.shape[:2], 3))

    def values(self, box: Box) -> NDArray[Any]:
        """See `Source`."""
        return self._levels.values(self._level, box)

    def all_values(self, box: Box) -> NDArray[Any]:
        """See `maskseg.imaging.windows.ManyChannels`."""
        return self._levels.all_values(self._level, box)

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
    def overview(self) -> FileSource:
        """See `Source`."""
        levels = self._levels.shapes
        coarser = [k for k in range(self._level, len(levels)) if self.shape[1] <= _COARSER * levels[k][1]]
        if len(coarser) == 1 or self.shape[0] * self.shape[1] <= _LARGE:
            return self
        coarse = FileSource(self.name, self._levels, coarser[-1])
        coarse.overview = coarse
        return coarse

    @property
    def limits(self) -> tuple[float, float] | None:
        """By what values of another kind become 8 bits, found in the whole image; None of bits and of 8 bits."""
        return None if self._levels.dtype in (bool, np.uint8) else self._limits

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """`maskseg.imaging.intensity.limits` of the whole image, of whatever kind."""
        if self.overview is not self:
            return self.overview._limits  # the same for both: its values are compared
        kind = self._levels.dtype
        if kind.kind not in "uif":
            raise InputError(f"{self.name}: pixels of type {kind} are not supported; save as 8-bit, 16-bit or float")
        some = kind.kind != "f"

        def values(box: Box) -> NDArray[Any]:
            nonlocal some
            read = self.values(box)
            some = some or bool(np.isfinite(read).any())
            return read

        limits = limits_in_parts(values, self.shape)
        if not some:
            raise InputError(f"{self.name}: it holds no value that is finite; get it again")
        return limits


def is_large(file: ImageFile, pixels: int) -> bool:
    """Whether a file is a slide, is in Zarr, or holds more than so many pixels, as its header says.

    What has no header that can be read is not large: reading it says what is wrong with it.
    """
    if file.member is None and only_in_parts(file.path):
        return True
    try:
        height, width = file.size()
    except Exception:  # of whatever decoder
        return False
    return height * width > pixels


class Opened(NamedTuple):
    """An image that is read in parts.

    Attributes
    ----------
    source : Source
    scale : float
        Pixels of the full size in one of the source.
    mpp : float or None
        Side of a pixel of the source in micrometres, where it is known.
    """

    source: FileSource | Resized
    scale: float
    mpp: float | None


def open_source(
    file: ImageFile,
    level: int = 0,
    mpp: float | None = None,
    microns_per_pixel: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Opened:
    """Open an image to be read in parts; formats that cannot be are decoded as a whole.

    Parameters
    ----------
    file : ImageFile
    level : int
        Which size of a file that holds several; 0 is the full one.
    mpp : float, optional
        Microns per pixel in which the image is wanted, in place of a level: taken from the nearest finer level.
    microns_per_pixel : float, optional
        Of the full size; in place of what the file says.
    limits : (float, float), optional
        See `FileSource`.

    Raises
    ------
    InputError
        If it cannot be read, has no such level, or does not say how large its pixels are.
    """
    levels = file.open()
    try:
        return _source_of(levels, level, mpp, microns_per_pixel or levels.mpp, limits)
    except BaseException:
        levels.close()
        raise


def _source_of(
    levels: Chosen,
    level: int,
    mpp: float | None,
    microns_per_pixel: float | None,
    limits: tuple[float, float] | None,
) -> Opened:
    width = levels.shapes[0][1]
    if mpp is None:
        of_level = FileSource(levels.name, levels, level, limits)
        scale = width / of_level.shape[1]
        return Opened(of_level, scale, microns_per_pixel and microns_per_pixel * scale)
    if not microns_per_pixel:
        other = ", or leave out --mpp" if len(levels.shapes) == 1 else ", or --level in place of --mpp"
        raise InputError(
            f"{levels.name}: does not say how large its pixels are; give --microns-per-pixel with --mpp{other}"
        )
    factor = mpp / microns_per_pixel
    if not levels.shapes[0][0] / factor >= 1 <= width / factor or factor < 1 / _MOST_MAGNIFIED:
        raise InputError(
            f"{levels.name}: has {microns_per_pixel:g} micrometres a pixel, too far from --mpp {mpp:g}; give another"
        )
    finer = [k for k, shape in enumerate(levels.shapes) if width / shape[1] <= factor * 1.01]
    source: FileSource | Resized = FileSource(levels.name, levels, finer[-1] if finer else 0, limits)
    # A level that is within a hundredth of what is wanted is taken as it is.
    if abs(width / source.shape[1] / factor - 1) > 0.01:
        source = Resized(source, scaled_shape(levels.shapes[0], 1 / factor))
    scale = width / source.shape[1]
    return Opened(source, scale, microns_per_pixel * scale)
