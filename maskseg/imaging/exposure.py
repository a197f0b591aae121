"""An image as a network sees it: its brightness limits at 0 and 255, stained tissue in colour or by its absorbance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.intensity import Samples, limits_of, sample_step, sampled, scaled
from maskseg.imaging.stains import COLOUR, DENSITY, EITHER, absorbance, is_stained

# What INPUT.NORMALIZE may be, but for two limits.
AUTO, OFF = "auto", "off"
# The grey values of 8 bits as they are.
_AS_THEY_ARE = 0.0, 255.0


def fixed_limits(how: str) -> tuple[float, float] | None:
    """The two limits that a value of INPUT.NORMALIZE or --normalize gives; None for "auto" and "off".

    Raises
    ------
    InputError
        If it is none of these.
    """
    if how in (AUTO, OFF):
        return None
    try:
        low, high = (float(part) for part in how.split(","))
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise InputError(
            f"normalize {how}: give auto, off, or the two values that become black and white, such as 100,4000"
        ) from None
    return low, high


class Exposure(NamedTuple):
    """What is done to the values of an image, the same in each part of it.

    Attributes
    ----------
    low, high : float
        What becomes 0 and 255.
    stained : bool
        Whether the absorbance of red light is shown.
    fixed : bool
        Whether the limits are those of the values in the file, given by somebody, and not of the absorbance.
    """

    low: float
    high: float
    stained: bool = False
    fixed: bool = False

    def of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values of the image, (H, W, 1 or 3), uint8 or where the limits are fixed of any kind, as uint8 (H, W, 3)."""
        if self.stained:
            values = absorbance(scaled(values, self.low, self.high) if self.fixed else values)
        low, high = _AS_THEY_ARE if self.stained and self.fixed else (self.low, self.high)
        shown = values if values.dtype == np.uint8 and (low, high) == _AS_THEY_ARE else scaled(values, low, high)
        return np.broadcast_to(shown, (*shown.shape[:2], 3))


def exposure(samples: Callable[[], Samples], how: str, stained: str) -> Exposure:
    """What the keys INPUT.NORMALIZE and INPUT.STAINED make of an image.

    Parameters
    ----------
    samples : callable
        Gives samples of the whole image (`maskseg.imaging.intensity.sampled`); called only where they are needed.
    how : str
        "auto": the `limits` of the image become 0 and 255; "off": it stays as it is; "LOW,HIGH": these do.
    stained : str
        "colour", or "density": stained tissue by its absorbance; "either" is colour here.

    Raises
    ------
    InputError
        If `how` is none of these.
    """
    fixed = fixed_limits(how)
    low, high = fixed or _AS_THEY_ARE
    taken = Samples(*[np.zeros((0, 0, 1), np.uint8)] * 2) if how != AUTO and stained != DENSITY else samples()
    tissue = taken.plain.shape[2] == 3 and is_stained(scaled(taken.plain, low, high) if fixed else taken.plain)
    by_density = tissue and stained == DENSITY
    if how == AUTO:
        shown = Samples(*map(absorbance, (taken.plain, taken.compact))) if by_density else taken
        low, high = limits_of(shown, tissue)
    return Exposure(low, high, by_density, fixed is not None)


def exposures(samples: Callable[[], Samples], how: str, stained: str) -> list[Exposure]:
    """The ways in which an image may be seen: one, or where it is stained and INPUT.STAINED is "either" two.

    Parameters
    ----------
    samples : callable
    how, stained : str
        See `exposure`.

    Returns
    -------
    list of Exposure
        In colour; then by density, if `maskseg.imaging.stains.shows_more` is to choose.
    """
    if stained != EITHER:
        return [exposure(samples, how, stained)]
    taken = samples()
    ways = [exposure(lambda: taken, how, way) for way in (COLOUR, DENSITY)]
    return ways if ways[1].stained else ways[:1]


def samples_of(image: NDArray[Any]) -> Samples:
    """Samples of an image in memory, (H, W, C)."""
    return sampled(image, sample_step(image.shape))


def normalized(image: NDArray[Any], how: str, stained: str) -> NDArray[np.uint8]:
    """An image as the network sees it.

    Parameters
    ----------
    image : uint8 array (H, W, 3), or an array (H, W, 1 or 3) of any numbers where the limits are given
    how, stained : str
        See `exposure`.

    Returns
    -------
    uint8 array (H, W, 3)

    Raises
    ------
    InputError
        If `how` is none of these.
    """
    values = image.reshape(*image.shape[:2], -1)
    return exposure(lambda: samples_of(values), how, stained).of(values)
