"""What the outlines of one image may cost: one limit for all readers, by the image and by how much is written of them.

A file of a few bytes may claim masks as large as a slide, sixty times, or a line that goes up and down ten thousand
times. Both are honest of large images and long files, so what is allowed grows with these. What goes beyond is refused
before it is drawn. One outline may take half of what is left, so there is always room for smaller ones after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError

# Pixels of the boxes of all masks of an image, also of those that turn out to be empty.
MOST_MASK_PIXELS = 1 << 30
# Of one mask: drawing it takes some bytes more a pixel.
MOST_BOX_PIXELS = 1 << 27
# Of all masks of an image, as far as its size and the numbers written bear them out: nuclei lie beside each other, and
# a large one is drawn with many points.
TIMES_IMAGE, _FEW_PIXELS = 8, 1 << 26
_UNBORNE_PIXELS, _PIXELS_A_NUMBER = 1 << 27, 256
# Pixels that the edges of all outlines run along, and what is added for pixels of the image and numbers.
_FEW_STEPS, _PIXELS_A_STEP, _STEPS_A_NUMBER = 1 << 22, 64, 16
# Those of one outline.
LONGEST = 1 << 21
# Numbers of the shortest outline, with the words around them.
_FEWEST_NUMBERS = 16


class Costs:
    """What the outlines of one image have cost, and may.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.

    Examples
    --------
    >>> costs = Costs((4000, 4000))
    >>> for _ in range(7):
    ...     costs.take_pixels(4000 * 4000)
    >>> costs.take_pixels(4000 * 4000)
    Traceback (most recent call last):
    maskseg.core.errors.InputError: a box of 16000000 pixels, after 112000000 on an image of 16000000; divide the image
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._image = int(shape[0]) * int(shape[1])
        self._numbers = 0
        self._pixels = 0
        self._length = 0.0

    def written(self, count: int) -> None:
        """So many numbers are written of an annotation."""
        self._numbers += max(count, _FEWEST_NUMBERS)

    def take_pixels(self, pixels: int, single: bool = True) -> None:
        """Refuse, before it is made, a mask with a box of so many pixels, if it or all up to it are too large.

        `single` is that it is one box, and not the boxes of several outlines.

        Raises
        ------
        InputError
        """
        if single:
            check_pixels(pixels)
        most = min(
            MOST_MASK_PIXELS,
            max(_FEW_PIXELS, TIMES_IMAGE * self._image),
            # A mark around all of the image is borne out by the image.
            max(_UNBORNE_PIXELS, 2 * min(self._image, MOST_BOX_PIXELS)) + _PIXELS_A_NUMBER * self._numbers,
        )
        if self._pixels + 2 * pixels > most:
            raise InputError(
                f"a box of {pixels} pixels, after {self._pixels} on an image of {self._image}; divide the image"
            )
        self._pixels += pixels

    def take_length(self, length: float) -> None:
        """Refuse, before it is drawn, an annotation with edges of so many pixels, if they or all up to it are too long.

        Raises
        ------
        InputError
        """
        most = _FEW_STEPS + self._image / _PIXELS_A_STEP + _STEPS_A_NUMBER * self._numbers
        if not length <= LONGEST or self._length + 2 * length > most:
            raise InputError("an outline that goes up and down too often; draw it again")
        self._length += length

    def take_rings(self, rings: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Refuse, before they are drawn, the rings of a mask of which the part in an image costs too much.

        Returns
        -------
        x0, y0, x1, y1 : int
            The box of the image around them.

        Raises
        ------
        InputError
        """
        boxes = [_box(ring, shape) for ring in rings]
        (x0, y0, _, _), (_, _, x1, y1) = map(min, zip(*boxes, strict=True)), map(max, zip(*boxes, strict=True))
        self.written(2 * sum(map(len, rings)))
        check_pixels((x1 - x0) * (y1 - y0))
        # Each is drawn in its own box, and all in that around them.
        own = sum((right - left) * (low - top) for left, top, right, low in boxes)
        self.take_pixels(max((x1 - x0) * (y1 - y0), own // 2), single=False)
        # Every edge costs the rows of the image that it crosses.
        rows = [ring[:, 1].clip(0, shape[0]) for ring in rings]
        self.take_length(sum(float(np.abs(one[1:] - one[:-1]).sum() + abs(one[0] - one[-1])) for one in rows))
        return x0, y0, x1, y1


def _box(ring: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image around a ring."""
    height, width = shape
    # As numbers of Python: for one point NumPy takes ten times as long.
    (left, top), (right, bottom) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
    return (
        min(max(math.floor(left), 0), width),
        min(max(math.floor(top), 0), height),
        min(max(math.ceil(right), 0), width),
        min(max(math.ceil(bottom), 0), height),
    )


def check_pixels(pixels: int) -> None:
    """Refuse, before it is made, a mask with a box of that many pixels.

    Raises
    ------
    InputError
        If it is too large for a nucleus.
    """
    if pixels > MOST_BOX_PIXELS:
        raise InputError(f"a box of {pixels} pixels is too large for a nucleus; draw it again")
