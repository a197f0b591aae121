"""An image as a network sees it: its brightness limits at 0 and 255, stained tissue in colour or by its absorbance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.intensity import Samples, limits_of, samples_of, scaled, shows_tissue
from maskseg.imaging.stains import COLOUR, DENSITY, EITHER, absorbance

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

    def unstretched(self) -> Exposure:
        """The same without limits of its own."""
        return self if self.fixed else self._replace(low=_AS_THEY_ARE[0], high=_AS_THEY_ARE[1])

    def of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values of the image, (H, W, 1 or 3), uint8 or where the limits are fixed of any kind, as uint8 (H, W, 3)."""
        if self.stained:
            values = absorbance(scaled(values, self.low, self.high) if self.fixed else values)
        low, high = _AS_THEY_ARE if self.stained and self.fixed else (self.low, self.high)
        shown = values if values.dtype == np.uint8 and (low, high) == _AS_THEY_ARE else scaled(values, low, high)
        return np.broadcast_to(shown, (*shown.shape[:2], 3))


def exposures(samples: Callable[[], Samples], how: str, stained: str) -> list[Exposure]:
    """What the keys INPUT.NORMALIZE and INPUT.STAINED make of an image: the ways in which it may be seen.

    Parameters
    ----------
    samples : callable
        Gives samples of the whole image (`maskseg.imaging.intensity.sampled`); called once, where they are needed.
    how : str
        "auto": the `limits` of the image become 0 and 255; "off": it stays as it is; "LOW,HIGH": these do.
    stained : str
        "colour"; "density": stained tissue by its absorbance; "either": in both ways.

    Returns
    -------
    list of Exposure
        Two, in colour and then by density, where the image is stained and may be seen in either; else one.

    Raises
    ------
    InputError
        If `how` is none of these.
    """
    fixed = fixed_limits(how)
    low, high = fixed or _AS_THEY_ARE
    if how != AUTO and stained == COLOUR:
        return [Exposure(low, high, fixed=fixed is not None)]
    taken = samples()
    tissue = shows_tissue(Samples(scaled(taken.plain, low, high), taken.compact) if fixed else taken)
    ways = []
    for by_density in (False, True) if stained == EITHER and tissue else (stained == DENSITY and tissue,):
        if how == AUTO:
            shown = Samples(*map(absorbance, (taken.plain, taken.compact))) if by_density else taken
            low, high = limits_of(shown, tissue)
        ways.append(Exposure(low, high, by_density, fixed is not None))
    return ways


def normalized(image: NDArray[Any], how: str, stained: str) -> NDArray[np.uint8]:
    """An image as the network sees it.

    Parameters
    ----------
    image : uint8 array (H, W, 3), or an array (H, W, 1 or 3) of any numbers where the limits are given
    how, stained : str
        See `exposures`; "either" is colour here, where nothing is found by which to choose.

    Returns
    -------
    uint8 array (H, W, 3)

    Raises
    ------
    InputError
        If `how` is none of these.
    """
    values = image.reshape(*image.shape[:2], -1)
    return exposures(lambda: samples_of(values), how, stained)[0].of(values)
