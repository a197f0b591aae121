"""Operations on the pixels of one mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def fill_holes(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: background that no path of 4-neighbours joins to the outside of its box."""
    outside = cv2.copyMakeBorder(bitmap.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    return np.asarray(outside[1:-1, 1:-1] != 2)


def close(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Closing (dilate, erode) of a mask with a 3x3 cross, as if the image went on black beyond its edge.

    A closing never leaves the box of the mask, so the pixels inside the box are enough.
    """
    padded = cv2.copyMakeBorder(bitmap.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.erode(cv2.dilate(padded, _CROSS), _CROSS)[1:-1, 1:-1] != 0)


def components(bitmap: NDArray[Any], connectivity: int = 8) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The connected components of a mask.

    Parameters
    ----------
    bitmap : bool or uint8 array (H, W)
    connectivity : {8, 4}
        Whether pixels that meet at a corner only are joined.

    Returns
    -------
    labels : int32 array (H, W)
        Label image, from 1 on in the order of their first pixels, row by row; 0 where the mask is not.
    areas : int64 array (N,)
        Pixels of each component.

    Examples
    --------
    >>> labels, areas = components(np.array([[1, 0, 1], [1, 0, 0]], bool))
    >>> areas
    array([2, 1])
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        bitmap.astype(np.uint8, copy=False), connectivity=connectivity
    )
    areas = statistics[1:count, cv2.CC_STAT_AREA].astype(np.int64)
    if count <= 2:
        return np.asarray(labels, np.int32), areas
    # OpenCV numbers them by blocks of 2 x 2 pixels: which of two is the first would depend on where the crop begins.
    first = np.zeros((count - 1, 2), np.int64)
    for label, (left, top, width) in enumerate(statistics[1:count, :3].tolist(), start=1):
        first[label - 1] = top, left + int((labels[top, left : left + width] == label).argmax())
    order = np.lexsort((first[:, 1], first[:, 0]))
    number = np.zeros(count, np.int32)
    number[order + 1] = np.arange(1, count)
    return number[labels], areas[order]
