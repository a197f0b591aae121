"""The size and the order of channels in which the network sees an image; training and prediction must agree."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def input_scale(shape: tuple[int, int], long_side: int, shrink: bool) -> float:
    """Magnification from image pixels to network pixels.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.
    long_side : int
        Length in network pixels that the longer side is scaled to.
    shrink : bool
        False: a larger image keeps its size.
    """
    scale = long_side / max(shape)
    return scale if shrink else max(scale, 1.0)


def resize_image(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """The image magnified by `scale`; averaging when it shrinks, so that nothing aliases."""
    return to_shape(image, scaled_shape(image.shape[:2], scale))


def to_shape(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The image in another height and width; averaging when it shrinks."""
    if shape == image.shape[:2]:
        return image
    how = cv2.INTER_AREA if shape[0] * shape[1] < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    resized: NDArray[Any] = cv2.resize(image, shape[::-1], interpolation=how)
    return resized


def labels_to_shape(labels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """A label image, or any whose values are not to be mixed, in another height and width: the nearest pixel of each.

    Counted from the centres of pixels, as `to_shape` counts. Where two pixels are equally near, it is the one towards
    the middle, so that a mirrored image has mirrored labels. (The exact kind of OpenCV 4 takes the same side
    everywhere, by which what it magnifies lies an eighth of a pixel off.)

    Parameters
    ----------
    labels : array (H, W)
    shape : (int, int)
    """
    rows, columns = (_nearest(size, to) for size, to in zip(labels.shape, shape, strict=True))
    return labels.take(rows, axis=0).take(columns, axis=1)


def _nearest(size: int, to: int) -> NDArray[np.intp]:
    """For each of `to` pixels in a row the nearest of `size`."""
    first = (2 * np.arange((to + 1) // 2) + 1) * size // (2 * to)
    return np.concatenate([first, size - 1 - first[: to // 2][::-1]]).astype(np.intp)


def scaled_shape(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width after magnification, at least one pixel each."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def channels_first(image: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    """An RGB image (H, W, 3) as uint8 (3, H, W) in the order, ``RGB`` or ``BGR``, that INPUT.FORMAT names."""
    return np.ascontiguousarray((image if order == "RGB" else image[..., ::-1]).transpose(2, 0, 1))
