"""What every image file is seen as: channels and planes, in one or more sizes, read window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.windows import Box

# What the channels of a colour image are called.
COLOURS = ("red", "green", "blue")


class Stored(Protocol):
    """The pixels of a file as they are, by their meaning: colours as RGB, brighter is larger, turned upright.

    Attributes
    ----------
    name : str
        For messages.
    shapes : list of (int, int)
        Height and width of each level, the full size first.
    dtype : NumPy dtype
        Of the values.
    channels : sequence of str
        Their names; empty where the file gives none.
    rgb : bool
        Whether the first three channels are red, green and blue.
    planes : dict of str to int
        How many planes there are along ``z`` and ``t``; an axis of one plane may be left out.
    pages_unknown : bool
        Whether the file does not say what its planes are, so that they may be channels.
    mpp : float or None
        Micrometres per pixel of the full size, where the file says so.
    images : sequence of str
        What the images of full size in the file are called; this is one of them.
    """

    name: str
    shapes: list[tuple[int, int]]
    dtype: np.dtype
    channels: Sequence[str]
    rgb: bool
    planes: Mapping[str, int]
    pages_unknown: bool
    mpp: float | None
    images: Sequence[str]

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """The pixels x0, y0, x1, y1 of a level, (h, w, len(channels)); `plane` has an index for each of `planes`."""

    def close(self) -> None:
        """Close the file."""


# A printer's resolution, such as 72 or 300 dots an inch, says nothing of a microscope: sizes of pixels beyond these,
# in micrometres, are not taken from a file.
_SMALLEST, _LARGEST = 0.005, 25.0


def plausible(x: float | None, y: float | None = None) -> float | None:
    """The side of a pixel in micrometres from its width and height, where a microscope can have made it.

    Of pixels that are not square it is the side of the square of the same area.
    """
    if x is None or not _SMALLEST <= x <= _LARGEST:
        return None
    if y is None or not _SMALLEST <= y <= _LARGEST:
        return x
    return x if abs(x / y - 1) < 1e-3 else float(np.sqrt(x * y))


def listed(names: Sequence[str]) -> str:
    """The first names with their numbers, and the last."""
    named = [f"{number} {name}".strip() for number, name in enumerate(names)]
    return ", ".join(named if len(named) <= 12 else [*named[:10], "...", named[-1]])


def choose_image(number: int | None, names: Sequence[str]) -> int:
    """Which of the images in a file is read.

    Raises
    ------
    InputError
        There is no such image, or there are several and none is chosen. Without the name of the file.
    """
    if number is None and len(names) > 1:
        raise InputError(f"it holds {len(names)} images ({listed(names)}); choose one with --plane image=N")
    if number is not None and number >= len(names):
        there = (
            f"its images are {listed(names)}; choose one of them"
            if len(names) > 1
            else "it holds one image; leave it out"
        )
        raise InputError(f"--plane image={number}: {there}")
    return number or 0


class ArrayStored:
    """An image in memory, (H, W, C); three channels are colours where they are not named otherwise; a `Stored`."""

    planes: Mapping[str, int] = {}
    pages_unknown = False
    images: Sequence[str] = ("",)

    def __init__(
        self,
        pixels: NDArray[Any],
        name: str = "image",
        mpp: float | None = None,
        channels: Sequence[str] | None = None,
    ) -> None:
        self.name, self.mpp, self._pixels = name, mpp, pixels
        self.shapes = [(pixels.shape[0], pixels.shape[1])]
        self.dtype = pixels.dtype
        if channels is None:
            channels = COLOURS if pixels.shape[2] == len(COLOURS) else [""] * pixels.shape[2]
        self.channels: Sequence[str] = channels
        self.rgb = tuple(channels[: len(COLOURS)]) == COLOURS

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `Stored`."""
        x0, y0, x1, y1 = box
        part = self._pixels[y0:y1, x0:x1]
        # Not a copy, where all are wanted.
        return part if list(channels) == list(range(part.shape[2])) else part[..., list(channels)]

    def close(self) -> None:
        """See `Stored`."""
