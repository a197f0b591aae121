"""Stained tissue in transmitted light: how it is known, and how much of its light is taken away.

Haematoxylin, which stains nuclei, takes away red light; eosin, which stains all else, hardly does. So the absorbance of
red light shows nuclei bright on dark whatever the tone of the two in a laboratory, much as a fluorescent stain does. A
network that sees tissue so finds nuclei of laboratories that it was not trained on (configs/README.md).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# How a network may see stained tissue, INPUT.STAINED: in its colours, by the absorbance of red light, or by the one of
# the two in which it finds clearly more.
COLOUR, DENSITY, EITHER = "colour", "density", "either"
# Side of the small picture that is looked at.
_SIDE = 64
# Steps of absorbance, ln(256 / (value + 1)), in one: what is 255 lets through a tenth of the light.
_STEPS = 110.0
_TABLE = np.clip(np.rint(-np.log((np.arange(256) + 1) / 256) * _STEPS), 0, 255).astype(np.uint8)

# Distance from grey in CIE Lab that 2 % of a picture exceed: less is no colour. DSB 2018 has at most 0.1 where there is
# none and 36 to 97 in stained tissue.
LEAST_CHROMA = 18.0
# Median lightness: less is a dark background. Up to 19 in fluorescence, from 36 in most tissue (DSB 2018, MoNuSeg).
LEAST_LIGHTNESS = 27.0
# Dense tissue is as dark, but has no black: its darkest twentieth has this part of the largest value (NuInsSeg: 0.37
# and more, one of 164 images 0.18; fluorescence of DSB 2018 below 0.1).
LEAST_BLACK = 0.25
# Density is chosen where it shows so many times as many nuclei as colour: of a stain that is new to the network it
# shows several times as many, of one that it knows hardly ever more (configs/README.md).
_MORE = 1.25


def small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image, uint8 (H, W, 3) RGB, as 64 x 64 pixels, float32 (64, 64, 3) from 0 to 1."""
    resized: NDArray[Any] = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return resized.astype(np.float32) / np.float32(255)


def chroma_and_lightness(picture: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
    """CIE Lab of a picture from `small`, (4096, 3), the distance from grey that 2 % exceed, the median lightness."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32, copy=False)
    return lab, float(np.percentile(np.hypot(lab[:, 1], lab[:, 2]), 98)), float(np.median(lab[:, 0]))


def blackness(picture: NDArray[np.float32]) -> float:
    """The largest channel of the darkest twentieth of a picture, as a part of its largest value."""
    most = picture.max(axis=2)
    return float(np.percentile(most, 5) / max(float(most.max()), 1e-6))


def is_stained(image: NDArray[np.uint8]) -> bool:
    """Whether an image shows stained tissue: it has colours, and no dark background.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB; every so many rows and columns of an image will do.
    """
    picture = small(image)
    _, chroma, lightness = chroma_and_lightness(picture)
    return chroma >= LEAST_CHROMA and (lightness >= LEAST_LIGHTNESS or blackness(picture) > LEAST_BLACK)


def absorbance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How much red light is taken away in each pixel, in 110 steps for each factor of e.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.

    Returns
    -------
    uint8 array (H, W, 1)
        0 where red is 255; 255 where it is 24 and less.
    """
    taken: NDArray[np.uint8] = _TABLE[image[..., :1]]
    return taken


def shows_more(in_colour: int, by_density: int) -> bool:
    """Whether an image is to be seen by its density, by how many nuclei are found in either way."""
    return by_density > _MORE * in_colour
