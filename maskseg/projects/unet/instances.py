"""From a map of probabilities to instances: connected components, or a watershed that splits touching ones."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from maskseg.core.masks import CropMasks
from maskseg.core.morphology import components


def split_touching(foreground: NDArray[np.bool_], neck: float) -> NDArray[np.int32]:
    """Label image of the foreground cut at its necks: a watershed [1]_ on the distance to the background.

    Two summits of the distance belong to two instances if every way from one to the other leads through a neck that is
    narrower than `neck` times the narrower one of the two, whatever their size: the summits are the maxima of the
    logarithm of the distance that are higher than ``-log(neck)`` [2]_.

    Parameters
    ----------
    foreground : bool array (H, W)
    neck : float
        In (0, 1); the nearer to 1, the more is split.

    Returns
    -------
    int32 array (H, W)

    References
    ----------
    .. [1] Vincent, Soille: Watersheds in digital spaces. IEEE PAMI 13(6), 1991.
    .. [2] Soille: Morphological image analysis, section 6.3.5 (h-maxima). Springer, 2003.
    """
    distance = cv2.distanceTransform(foreground.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Without any background the distance is not finite.
    distance = cv2.GaussianBlur(np.minimum(distance, max(foreground.shape)), (0, 0), 1.0)
    # The edge of a mask goes in steps of whole pixels, which are no necks: it is smoothed, and all widths have a pixel
    # more. The background, also around the image, lies so deep that each component has a summit of its own.
    height = np.pad(np.where(foreground, np.log1p(distance), -100), 1, constant_values=-100)
    summits = local_maxima(reconstruction(height + np.log(neck), height), connectivity=2)[1:-1, 1:-1]
    return watershed(-height[1:-1, 1:-1], components(summits & foreground)[0], mask=foreground).astype(np.int32)


def largest(foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label image of the largest component alone, int32 (H, W)."""
    labels, areas = components(foreground)
    return (labels == 1 + areas.argmax()).astype(np.int32) if len(areas) else labels


def instances(probability: NDArray[np.float32], threshold: float, method: str, neck: float) -> CropMasks:
    """The instances of an image, each with its mean probability as its score.

    Parameters
    ----------
    probability : float32 array (H, W)
        Of foreground.
    threshold : float
        Foreground is what reaches it.
    method : {"components", "watershed", "largest"}
        `components`, `split_touching` at necks of `neck`, or `largest`.
    neck : float
    """
    foreground = probability >= threshold
    if method == "watershed":
        labels = split_touching(foreground, neck)
    else:
        labels = components(foreground)[0] if method == "components" else largest(foreground)
    sums, counts = np.bincount(labels.ravel(), probability.ravel()), np.bincount(labels.ravel())
    return CropMasks.from_labels(labels, (sums[1:] / counts[1:]).astype(np.float32))
