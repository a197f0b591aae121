"""Where a picture holds anything: what is left of it without empty background, dark or bright."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.imaging.windows import Box

# Grey values of 255 by which a nucleus differs from what is around it, at least. The bundled model finds none that
# differs by 4 or less, on dark and on bright ground.
_LEAST = 3
# Pixels whose mean is compared, so that noise does not count: a nucleus of 24 pixels keeps four fifths of its contrast.
_MEAN = 5
# Side of the squares that are looked at, each with the eight around it: 96 pixels, more than the edge of a nucleus is
# wide, and less than light takes to fall off towards the edges of a field.
_SQUARE = 32


def content(pixels: NDArray[np.uint8]) -> Box | None:
    """What of a picture may hold a nucleus.

    Parameters
    ----------
    pixels : uint8 array (H, W, 3)
        As the network sees them: with the limits of the whole image at 0 and 255.

    Returns
    -------
    Box or None
        x0, y0, x1, y1 around all that stands out from its surroundings; None where nothing does.

    Examples
    --------
    >>> dark = np.zeros((200, 300, 3), np.uint8)
    >>> content(dark)
    >>> dark[100:110, 40:50] = 9
    >>> content(dark)
    (0, 64, 96, 160)
    """
    height, width = pixels.shape[:2]
    # Sums: means would be rounded.
    sums = cv2.boxFilter(pixels, cv2.CV_16U, (_MEAN, _MEAN), normalize=False)
    rows, columns = -(-height // _SQUARE), -(-width // _SQUARE)
    sums = np.pad(sums, ((0, rows * _SQUARE - height), (0, columns * _SQUARE - width), (0, 0)), mode="edge")
    squares = sums.reshape(rows, _SQUARE, columns, _SQUARE, 3)
    around = np.ones((3, 3), np.uint8)
    high, low = cv2.dilate(squares.max(axis=(1, 3)), around), cv2.erode(squares.min(axis=(1, 3)), around)
    span = high.reshape(rows, columns, 3) - low.reshape(rows, columns, 3)
    stands_out = span.max(axis=2) > _LEAST * _MEAN**2
    if not stands_out.any():
        return None
    down, across = np.flatnonzero(stands_out.any(axis=1)), np.flatnonzero(stands_out.any(axis=0))
    return (
        int(across[0]) * _SQUARE,
        int(down[0]) * _SQUARE,
        min((int(across[-1]) + 1) * _SQUARE, width),
        min((int(down[-1]) + 1) * _SQUARE, height),
    )
