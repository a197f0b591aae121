"""Images that show the same: found by perceptual hash, confirmed by correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

SIDE = 32
# Bits that may differ, of 63, for a pair to be looked at; a quarter, where chance gives a half.
BITS = 16
# Correlation from which two images are one. On the 615 images of DSB 2018 the pairs of different images reach 0.73; a
# copy keeps 0.89 when 2 % are cut off, 0.93 as JPEG of quality 60.
SIMILARITY = 0.85
# Grey levels, standard deviation: with less there is nothing to recognise an image by.
_CONTRAST = 0.25
_BLOCK = 512

_y, _x = (axis.ravel() for axis in np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j])
# Orthonormal planes and paraboloids, (1024, 6): what uneven lighting looks like, and images of one microscope share.
_LIGHTING = np.linalg.qr(np.stack([np.ones_like(_x), _x, _y, _x * _x, _x * _y, _y * _y], axis=1))[0].astype(np.float32)


class NearDuplicate(NamedTuple):
    """Two images, by their places in the list, and the correlation of their thumbnails."""

    first: int
    second: int
    similarity: float


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What an image is recognised by: 32 x 32 grey values without lighting, brightness and contrast.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.

    Returns
    -------
    float32 array (32, 32)
        Mean 0 and norm 1, so that a product of two is their correlation; all 0 where the image has no contrast.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    # Softened, or a shift by half a pixel of the thumbnail would count.
    values = cv2.GaussianBlur(small, (0, 0), 1).ravel()
    values -= _LIGHTING @ (values @ _LIGHTING)
    norm = float(np.linalg.norm(values))
    if norm < _CONTRAST * SIDE:
        return np.zeros((SIDE, SIDE), np.float32)
    return np.asarray(values.reshape(SIDE, SIDE) / norm, np.float32)


def perceptual_hash(thumbnails: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Hash by C. Zauner ("pHash", 2010): signs of the 63 lowest frequencies of the cosine transform after the mean.

    Parameters
    ----------
    thumbnails : float32 array (..., 32, 32)
        From `thumbnail`.

    Returns
    -------
    bool array (..., 63)
    """
    low = dctn(thumbnails, axes=(-2, -1))[..., :8, :8]
    return low.reshape(*low.shape[:-2], 64)[..., 1:] > 0


def near_duplicates(thumbnails: Sequence[NDArray[np.float32]], similarity: float = SIMILARITY) -> list[NearDuplicate]:
    """Pairs of images that show the same, also flipped, turned by quarters, scaled, or in other contrast.

    Every pair is compared by hash in all eight orientations; where few bits differ, the correlation decides, because
    hashes of images that are merely alike, such as nuclei on black, collide. Memory grows with the number of images,
    not of pairs; 10,000 images take seconds.

    Parameters
    ----------
    thumbnails : sequence of float32 arrays (32, 32)
        From `thumbnail`; one without contrast is in no pair.
    similarity : float
        Least correlation, in (0, 1].

    Returns
    -------
    list of NearDuplicate
        With ``first < second``, in that order.
    """
    index = [number for number, small in enumerate(thumbnails) if small.any()]
    if not index:
        return []
    images = np.stack([thumbnails[number] for number in index])
    signs = _signs(images)
    correlations: dict[tuple[int, int], float] = {}
    for turns in range(4):
        for flip in (1, -1):
            other = np.rot90(images, turns, axes=(1, 2))[:, :, ::flip]
            for first, second, value in _pairs(images, signs, other, similarity):
                pair = index[first], index[second]
                correlations[pair] = max(correlations.get(pair, 0.0), value)
    return [NearDuplicate(*pair, correlations[pair]) for pair in sorted(correlations)]


def _pairs(
    images: NDArray[np.float32], signs: NDArray[np.float32], other: NDArray[np.float32], similarity: float
) -> list[tuple[int, int, float]]:
    """Pairs of one orientation, first < second."""
    pairs = []
    other_signs = _signs(other)
    flat, other_flat = images.reshape(len(images), -1), other.reshape(len(other), -1)
    for start in range(0, len(images), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # The product of two vectors of +-1 is their length less twice the bits that differ.
        alike = np.triu(signs[rows] @ other_signs[start:].T >= signs.shape[1] - 2 * BITS, k=1)
        columns = np.flatnonzero(alike.any(axis=0))
        correlation = flat[rows] @ other_flat[start + columns].T
        for row, column in np.argwhere(alike[:, columns] & (correlation >= similarity)):
            pairs.append((start + int(row), start + int(columns[column]), float(correlation[row, column])))
    return pairs


def _signs(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hashes as +-1, float32 (N, 63)."""
    return np.where(perceptual_hash(thumbnails), np.float32(1), np.float32(-1))
