"""Noise of cameras and detectors: short exposures, weak stains, confocal scans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Standard deviation in grey values of 255, drawn uniformly in its logarithm.
_WEAKEST, _STRONGEST = 2.0, 40.0


def add_noise(image: NDArray[np.uint8], rng: np.random.Generator, probability: float) -> NDArray[np.uint8]:
    """Noise of random strength, the same in all channels of a grey picture.

    In half of the cases it is the same everywhere (of reading out), otherwise it grows with the square root of the
    brightness (of counting light), as strong at white as the other.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    rng : numpy Generator
    probability : float
        0 to 1; 0 is off, and draws nothing.

    Returns
    -------
    uint8 array (H, W, 3)
    """
    if not probability or rng.random() >= probability:
        return image
    strength = np.exp(rng.uniform(np.log(_WEAKEST), np.log(_STRONGEST)))
    of_light = rng.random() < 0.5
    grey = np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2])
    noise = rng.standard_normal((*image.shape[:2], 1 if grey else 3), np.float32) * np.float32(strength)
    values = image.astype(np.float32)
    if of_light:
        noise = noise * np.sqrt(values[..., : noise.shape[2]] / 255)
    return np.clip(np.rint(values + noise), 0, 255).astype(np.uint8)
