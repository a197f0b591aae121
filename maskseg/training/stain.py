"""Stains that vary: every laboratory's haematoxylin and eosin have their own strength and tone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Optical density of haematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston 2001, as in
# skimage.color.rgb_from_hed.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)


def jitter_stain(image: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """More or less of each stain, and a little of it everywhere or nowhere.

    In optical density, where stains add up, the amount of each of the three is multiplied by
    uniform(1 - strength, 1 + strength), and a fifth of the like is added (Tellez et al. 2018 found this the best
    augmentation of colour for tissue).

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        A grey picture has no stain and comes back as it is.
    rng : numpy Generator
        Drawn from in any case, so that what follows does not depend on the picture.
    strength : float
        0 to 1; 0 is off.
    """
    if not strength:
        return image
    factors = 1 + rng.uniform(-strength, strength, 3)
    offsets = rng.uniform(-strength, strength, 3) / 5
    if np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]):
        return image
    density = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
    # amounts @ stains is the density; what changes it is one 3 x 3 matrix and an offset.
    change = (np.linalg.inv(_STAINS) @ np.diag(factors) @ _STAINS).astype(np.float32)
    changed = cv2.transform(density[image], change.T) + (offsets @ _STAINS).astype(np.float32)
    return np.clip(np.rint(256 * np.exp(-changed) - 1), 0, 255).astype(np.uint8)
