"""Operations on the pixels of one mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fill_holes(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: background that no path of 4-neighbours joins to the outside of its box."""
    outside = cv2.copyMakeBorder(bitmap.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    return outside[1:-1, 1:-1] != 2
