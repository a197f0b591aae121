"""Grey values: what is done to them before the network sees them. All through one table of 256 entries."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Shares of the pixels that the stretch lets saturate at either end.
LOW_SHARE, HIGH_SHARE = 0.005, 0.995
# An image of less contrast than this many grey values is not stretched further: it would be noise.
_LEAST_RANGE = 8


def stretch(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch an image linearly so that its 0.5 and 99.5 percentiles become 0 and 255.

    The percentiles are taken over all channels together, so that colours keep their hue.

    Parameters
    ----------
    image : uint8 array (H, W, 3)

    Returns
    -------
    uint8 array (H, W, 3)
    """
    return cv2.LUT(image, stretch_table(_counts(image)))


def _counts(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 256 values is in an image."""
    if 0 < image.size < 1 << 24:
        # A fifth of the time of numpy's; counted in float32, which is exact up to there.
        return cv2.calcHist([image.reshape(1, -1)], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(image.ravel(), minlength=256)


def stretch_table(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The table of `stretch`, uint8 (256,), for an image of which `counts`, int64 (256,), says how often a value is."""
    share = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = int(np.searchsorted(share, LOW_SHARE)), int(np.searchsorted(share, HIGH_SHARE))
    high = max(high, low + _LEAST_RANGE)
    table = np.clip((np.arange(256) - low) * (255.0 / (high - low)), 0, 255)
    return np.rint(table).astype(np.uint8)


def jitter(
    image: NDArray[np.uint8], rng: np.random.Generator, contrast: float, brightness: float, gamma: float
) -> NDArray[np.uint8]:
    """Random gamma, gain about the mean, and offset; the same for all channels.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    rng : numpy Generator
    contrast, gamma : float
        Log-range of the factor: exp(uniform(-c, c)).
    brightness : float
        Largest offset as a share of 255.
    """
    if not (contrast or brightness or gamma):
        return image
    values = 255.0 * (np.arange(256) / 255.0) ** np.exp(rng.uniform(-gamma, gamma))
    mean = values[image].mean()
    values = (
        mean + (values - mean) * np.exp(rng.uniform(-contrast, contrast)) + 255.0 * rng.uniform(-brightness, brightness)
    )
    return cv2.LUT(image, np.rint(np.clip(values, 0, 255)).astype(np.uint8))
