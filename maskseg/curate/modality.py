"""What kind of picture an image is, judged by its colours: the five modalities of DSB 2018.

The rule
--------
An image is looked at as 64 x 64 pixels in CIE Lab, where a distance of 1 is just visible.

1. No colour, or a dark background, is fluorescence or transmitted light, whatever colour a fluorescence is painted in
   (`maskseg.imaging.stains`): *white on black* where the background is the darker side, *black on white* where it is
   the brighter one.
2. Else it is stained tissue, and the brightest tenth is its background: *purple on white* where that has hardly any
   colour, *purple on yellow* where its hue is nearer to yellow than to red, green or blue, else *purple on purple*.

Background is what most pixels are, so images filled with nuclei, and phase contrast, are guesses: a table knows better.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.imaging.stains import (
    LEAST_BLACK,
    LEAST_CHROMA,
    LEAST_LIGHTNESS,
    blackness,
    chroma_and_lightness,
    small,
)

MODALITIES = ("white on black", "black on white", "purple on white", "purple on purple", "purple on yellow")


class Colours(NamedTuple):
    """What the rule looks at.

    Attributes
    ----------
    chroma : float
        Distance from grey that 2 % of the pixels exceed.
    lightness : float
        Median, 0 to 100.
    position : float
        The median between the 1st and the 99th percentile of lightness: 0 at the dark end, 1 at the bright one.
    background_a, background_b : float
        Mean of the brightest tenth: from green to red and from blue to yellow.
    blackness : float
        See `maskseg.imaging.stains`.
    """

    chroma: float
    lightness: float
    position: float
    background_a: float
    background_b: float
    blackness: float = 0.0


class Limits(NamedTuple):
    """The numbers of the rule, each halfway between the kinds that it divides (benchmarks/grouping.py).

    Attributes
    ----------
    chroma, dark, black : float
        See `maskseg.imaging.stains`.
    white : float
        Background chroma below is white: up to 4 in what DSB 2018 calls purple on white, from 21 in purple on purple.
    """

    chroma: float = LEAST_CHROMA
    dark: float = LEAST_LIGHTNESS
    white: float = 12.8
    black: float = LEAST_BLACK


def colours(image: NDArray[np.uint8]) -> Colours:
    """Colour statistics of an image, uint8 (H, W, 3) RGB."""
    picture = small(image)
    lab, chroma, median = chroma_and_lightness(picture)
    lightness = lab[:, 0]
    low, high = np.percentile(lightness, (1, 99))
    brightest = lab[np.argsort(lightness, kind="stable")[-len(lab) // 10 :]].mean(axis=0)
    return Colours(
        chroma=chroma,
        lightness=median,
        position=float((median - low) / max(high - low, 1e-6)),
        background_a=float(brightest[1]),
        background_b=float(brightest[2]),
        blackness=blackness(picture),
    )


def infer_modality(seen: Colours, limits: Limits = Limits()) -> str:
    """One of `MODALITIES`, by the rule above."""
    dark = seen.lightness < limits.dark and seen.blackness <= limits.black
    if seen.chroma < limits.chroma or dark:
        return "white on black" if seen.position < 0.5 else "black on white"
    if np.hypot(seen.background_a, seen.background_b) < limits.white:
        return "purple on white"
    return "purple on yellow" if seen.background_b > abs(seen.background_a) else "purple on purple"
