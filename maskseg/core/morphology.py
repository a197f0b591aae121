"""Operations on the pixels of one mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def fill_holes(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: background that no path of 4-neighbours joins to the outside of its box."""
    outside = cv2.copyMakeBorder(bitmap.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    return outside[1:-1, 1:-1] != 2


def close(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Closing (dilate, erode) of a mask with a 3x3 cross, as if the image went on black beyond its edge.

    A closing never leaves the box of the mask, so the pixels inside the box are enough.
    """
    padded = cv2.copyMakeBorder(bitmap.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(cv2.dilate(padded, _CROSS), _CROSS)[1:-1, 1:-1] != 0
