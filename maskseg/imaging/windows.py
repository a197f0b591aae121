"""Images that are read window by window, and what is done to a window before the network sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from maskseg.imaging.exposure import Exposure, fixed_limits
from maskseg.imaging.intensity import Samples, joined, limits_of, sample_step, sampled

Box = tuple[int, int, int, int]

# Rows that are resampled at a time, and the side of the blocks in which a whole image is gone through.
_STRIP, _BLOCK = 64, 2048
# Grey values: empty background is at least this bright, and within this distance of its most frequent colour; above the
# third it is what scanners fill in where they did not look.
_BACKGROUND, _FROM_BACKGROUND, _FILLED = 200, 12, 250


class Source(Protocol):
    """An image read in parts.

    Attributes
    ----------
    name : str
        For messages.
    shape : (int, int)
        Height and width in pixels.
    preview : uint8 array (h, w, 3) or None
        A small picture of the whole of it, where the file holds smaller levels.
    overview : Source
        What its limits are found from: itself, or of a large image a smaller level that still shows its nuclei.
    """

    name: str
    shape: tuple[int, int]

    @property
    def preview(self) -> NDArray[np.uint8] | None:
        """See above."""

    @property
    def overview(self) -> Source:
        """See above."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """The pixels of x0, y0, x1, y1, which lies inside the image: uint8 (h, w, 3), RGB."""

    def values(self, box: Box) -> NDArray[Any]:
        """The same as it is in the file, (h, w, 1 or 3): what to measure on."""


@runtime_checkable
class ManyChannels(Protocol):
    """A source whose file may hold more channels than those that are looked at.

    Attributes
    ----------
    channels : sequence of str
        The name of each; empty where the file gives none.
    """

    @property
    def channels(self) -> Sequence[str]:
        """See above."""

    def all_values(self, box: Box) -> NDArray[Any]:
        """The pixels of x0, y0, x1, y1 as they are in the file, (h, w, C), in each of the channels."""


def all_values(source: Source, box: Box) -> NDArray[Any]:
    """The pixels of a box as they are in the file, (h, w, C), in each channel that the file has."""
    return source.all_values(box) if isinstance(source, ManyChannels) else source.values(box)


def channel_names(source: Source) -> list[str]:
    """The names of the channels of `all_values`, empty where not known."""
    if isinstance(source, ManyChannels):
        return list(source.channels)
    return [""] * source.values((0, 0, 1, 1)).shape[2]


class ArraySource:
    """An image that is in memory, uint8 (H, W, 3), and its values as they are in the file, (H, W, 1 or 3).

    Parameters
    ----------
    image, name, values
        As above.
    every : ManyChannels, optional
        The values in every channel of the file, where it has more.
    """

    preview: NDArray[np.uint8] | None = None

    def __init__(
        self,
        image: NDArray[np.uint8],
        name: str = "image",
        values: NDArray[Any] | None = None,
        every: ManyChannels | None = None,
    ) -> None:
        self.name, self.shape = name, image.shape[:2]
        self._image, self._values = image, image if values is None else values
        self._every = every
        self.channels: Sequence[str] = every.channels if every else [""] * self._values.shape[2]

    def all_values(self, box: Box) -> NDArray[Any]:
        """See `ManyChannels`."""
        return self._every.all_values(box) if self._every else self.values(box)

    @property
    def overview(self) -> Source:
        """See `Source`."""
        return self

    def read(self, box: Box) -> NDArray[np.uint8]:
        """See `Source`."""
        x0, y0, x1, y1 = box
        return self._image[y0:y1, x0:x1]

    def values(self, box: Box) -> NDArray[Any]:
        """See `Source`."""
        x0, y0, x1, y1 = box
        return self._values[y0:y1, x0:x1]


class Exposed:
    """A source as `maskseg.imaging.exposure.normalized` has it, by what is found in the whole image.

    Parameters
    ----------
    source : Source
    exposure : Exposure
    """

    def __init__(self, source: Source, exposure: Exposure) -> None:
        self.name, self.shape, self._source = source.name, source.shape, source
        # Fixed limits are those of the values in the file.
        self._read = source.values if exposure.fixed else source.read
        self.exposure = exposure

    @property
    def preview(self) -> NDArray[np.uint8] | None:
        """See `Source`."""
        return self._source.preview

    @property
    def overview(self) -> Source:
        """See `Source`."""
        return self

    def read(self, box: Box) -> NDArray[np.uint8]:
        """See `Source`."""
        return self.exposure.of(self._read(box))

    values = read


class Resized:
    """A source scaled to `shape`, (height, width), each pixel the same whatever the window.

    Averaging over the area of the pixel where it shrinks, bilinear between pixel centres where it grows: OpenCV's
    ``INTER_AREA`` and ``INTER_LINEAR`` on the whole image, up to rounding.
    """

    def __init__(self, source: Source, shape: tuple[int, int]) -> None:
        self.name, self.shape = source.name, shape
        self._source = source

    @property
    def preview(self) -> NDArray[np.uint8] | None:
        """See `Source`."""
        return self._source.preview

    @property
    def overview(self) -> Source:
        """See `Source`."""
        return self._source.overview

    def read(self, box: Box) -> NDArray[np.uint8]:
        """See `Source`."""
        return self._resampled(box, self._source.read)

    def values(self, box: Box) -> NDArray[Any]:
        """See `Source`."""
        return self._resampled(box, self._source.values)

    @property
    def limits(self) -> tuple[float, float] | None:
        """See `maskseg.imaging.slides.FileSource`; None where what is scaled has none."""
        return getattr(self._source, "limits", None)

    @property
    def channels(self) -> Sequence[str]:
        """See `ManyChannels`."""
        return channel_names(self._source)

    def all_values(self, box: Box) -> NDArray[Any]:
        """See `ManyChannels`."""
        return self._resampled(box, lambda inside: all_values(self._source, inside))

    def _resampled(self, box: Box, read: Callable[[Box], NDArray[Any]]) -> NDArray[Any]:
        x0, y0, x1, y1 = box
        left, across = _weights(x0, x1, self._source.shape[1], self.shape[1])
        parts = []
        for begin in range(y0, y1, _STRIP):
            end = min(begin + _STRIP, y1)
            top, down = _weights(begin, end, self._source.shape[0], self.shape[0])
            (height, rows), (width, columns) = down.shape, across.shape
            block = read((left, top, left + columns, top + rows))
            count = block.shape[2]
            tall = (down @ block.astype(np.float32).reshape(rows, columns * count)).reshape(height, columns, count)
            wide = across @ np.ascontiguousarray(tall.transpose(1, 0, 2)).reshape(columns, height * count)
            whole = wide if block.dtype.kind == "f" else np.rint(wide)
            parts.append(whole.reshape(width, height, count).transpose(1, 0, 2).astype(block.dtype))
        return np.concatenate(parts)


def _weights(begin: int, end: int, size: int, new_size: int) -> tuple[int, csr_array]:
    """First old pixel, and the weights (end - begin, K) of the K old pixels from there, of new pixels begin..end."""
    ratio = size / new_size
    new = np.arange(begin, end)
    if ratio > 1:
        low, high = new[:, None] * ratio, (new[:, None] + 1) * ratio
        old = np.floor(low).astype(np.int64) + np.arange(math.ceil(ratio) + 1)
        weights = (np.minimum(old + 1, high) - np.maximum(old, low)).clip(0) / ratio
    else:
        centre = (new[:, None] + 0.5) * ratio - 0.5
        old = np.floor(centre).astype(np.int64) + np.arange(2)
        weights = 1 - np.abs(old - centre)
    old = old.clip(0, size - 1)
    first = int(old.min())
    rows = np.repeat(np.arange(len(new)), old.shape[1])
    shape = (len(new), int(old.max()) - first + 1)
    return first, csr_array((weights.ravel().astype(np.float32), (rows, (old - first).ravel())), shape=shape)


def blocks(shape: tuple[int, int], side: int = _BLOCK) -> Iterator[Box]:
    """Boxes of at most side x side pixels that cover an image row by row."""
    height, width = shape
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            yield x0, y0, min(x0 + side, width), min(y0 + side, height)


def samples_in_parts(read: Callable[[Box], NDArray[Any]], shape: tuple[int, int]) -> Samples:
    """`maskseg.imaging.intensity.sampled` of an image of some height and width, read block by block."""
    step = sample_step(shape)
    rows: list[list[Samples]] = []
    for box in blocks(shape, _BLOCK // step * step):
        if box[0] == 0:
            rows.append([])
        rows[-1].append(sampled(read(box), step))
    return joined(rows)


def source_samples(source: Source, how: str) -> Samples:
    """Samples of an image that is read in parts; of the values in its file where `how` gives fixed limits."""
    overview = source.overview
    return samples_in_parts(overview.values if fixed_limits(how) else overview.read, overview.shape)


def busiest(values: NDArray[np.uint8], shape: tuple[int, int], side: int) -> Box:
    """The part of an image that is brightest on average, at most side x side pixels.

    Parameters
    ----------
    values : uint8 array (h, w)
        Every so many rows and columns of the image, all alike.
    shape : (int, int)
        Its height and width.
    side : int
    """
    height, width = (min(side, whole) for whole in shape)
    down, across = values.shape[0] / shape[0], values.shape[1] / shape[1]
    size = max(round(width * across), 1), max(round(height * down), 1)
    means = cv2.blur(values.astype(np.float32), size, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    y, x = divmod(int(means.argmax()), means.shape[1])
    top, left = min(round(y / down), shape[0] - height), min(round(x / across), shape[1] - width)
    return left, top, left + width, top + height


def limits_in_parts(read: Callable[[Box], NDArray[Any]], shape: tuple[int, int]) -> tuple[float, float]:
    """`maskseg.imaging.intensity.limits` of an image of some height and width, read block by block."""
    return limits_of(samples_in_parts(read, shape))


class BackgroundMask:
    """Where a slide is empty: background without tissue.

    Empty is what has nearly the most frequent colour, if that is bright in all channels; and what is white. In
    fluorescence the most frequent colour is dark, so that nothing is empty.

    Parameters
    ----------
    preview : uint8 array (h, w, 3) or None
        A small picture of the image; without it nothing is known to be empty.
    shape : (int, int)
        Height and width of the image.
    """

    def __init__(self, preview: NDArray[np.uint8] | None, shape: tuple[int, int]) -> None:
        self._tissue: NDArray[np.bool_] | None = None
        if preview is None:
            return
        frequent = np.array([np.bincount(preview[..., k].ravel(), minlength=256).argmax() for k in range(3)])
        if frequent.min() >= _BACKGROUND:
            near = (np.abs(preview.astype(np.int16) - frequent) <= _FROM_BACKGROUND).all(axis=2)
            self._tissue = ~(near | (preview >= _FILLED).all(axis=2))
            self._ratio = preview.shape[1] / shape[1], preview.shape[0] / shape[0]

    def covers(self, box: Box) -> bool:
        """Whether x0, y0, x1, y1 of the image is empty, and a pixel of the preview around it."""
        if self._tissue is None:
            return False
        (across, down), (x0, y0, x1, y1) = self._ratio, box
        top, left = max(0, int(y0 * down) - 1), max(0, int(x0 * across) - 1)
        return not self._tissue[top : math.ceil(y1 * down) + 1, left : math.ceil(x1 * across) + 1].any()
