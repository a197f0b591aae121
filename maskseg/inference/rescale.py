"""The magnification at which nuclei look to the network as those that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.inference.settings import PostprocessSettings

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# The median of fewer nuclei says little. Fewer are enough to shrink, which costs little and finds the others.
FEWEST_TO_MAGNIFY, FEWEST_TO_SHRINK = 5, 3
# Where more would be needed what was found are no nuclei but noise.
MOST = 4.0
# Nuclei that are smaller or larger in pixels: it is the size of the pixels that is wrong. So it is, where nobody has
# asked for it, if pixels are so many times finer than in training.
SMALLEST, LARGEST = 1, 10_000
_FINEST = 16


def at_pixel_size(
    settings: PostprocessSettings, inputs: CfgNode, microns_per_pixel: float | None, name: str
) -> PostprocessSettings:
    """The settings for an image whose pixels are of a size.

    A diameter in micrometres becomes one in pixels. Where none is given, and the network has learned at one size of
    pixels, nuclei are expected to be as large in micrometres as there, unless the sizes of the pixels are too far apart
    to be believed.

    Parameters
    ----------
    settings : PostprocessSettings
    inputs : CfgNode
        The INPUT section of the config.
    microns_per_pixel : float or None
        Side of a pixel of the image; None where that is not known.
    name : str
        Of the image, for messages.

    Raises
    ------
    InputError
        The diameter is in micrometres, and the size of a pixel is not known or makes no sense.
    """
    microns = settings.diameter_microns
    if not microns:
        learned = inputs.NUCLEUS_DIAMETER * inputs.MPP
        if settings.diameter or not learned or not microns_per_pixel:
            return settings
        believed = 1 / _FINEST <= microns_per_pixel / inputs.MPP <= MOST
        return replace(settings, diameter=learned / microns_per_pixel) if believed else settings
    if not microns_per_pixel:
        raise InputError(
            f"{name}: does not say how large its pixels are; give --microns-per-pixel, or --diameter in pixels"
        )
    pixels = microns / microns_per_pixel
    if not SMALLEST <= pixels <= LARGEST:
        raise InputError(
            f"{name}: has {microns_per_pixel:g} micrometres a pixel, and nuclei of {microns:g} micrometres would be "
            f"{pixels:.3g} pixels across; give --microns-per-pixel, or --diameter in pixels"
        )
    return replace(settings, diameter=pixels, diameter_microns=0.0)


def magnification(settings: PostprocessSettings, expected: float, areas: NDArray[np.int64] | None = None) -> float:
    """Times the scale of the config, at which an image is predicted.

    It is the one that the diameter in the settings asks for. Without that it is 1 at first; nuclei found at 1, if their
    median diameter lies outside of the limits of ``rescale``, lead to the one at which it is that of the training.

    Parameters
    ----------
    settings : PostprocessSettings
    expected : float
        Diameter in image pixels of nuclei that at magnification 1 look to the network as the median of those that it
        was trained on; 0 if that is not known.
    areas : int array (N,), optional
        Pixels of the nuclei found at magnification 1.

    Raises
    ------
    InputError
        If a diameter is given, and what it is to be compared with is not known.
        If it is still in micrometres.

    Examples
    --------
    >>> magnification(PostprocessSettings(diameter=15), expected=30)
    2.0
    >>> round(magnification(PostprocessSettings(rescale=(0.6, 4)), expected=30, areas=np.full(20, 78)), 2)
    3.01
    """
    if settings.diameter_microns:
        raise InputError(
            "POSTPROCESS.DIAMETER_MICRONS: it is not known how large the pixels are; say it by the model's "
            "at_pixel_size, or give POSTPROCESS.DIAMETER in pixels"
        )
    if settings.diameter:
        if not expected:
            raise InputError(
                "the model does not say how large the nuclei were that it was trained on; set INPUT.NUCLEUS_DIAMETER "
                "of its config, or give no diameter"
            )
        return expected / settings.diameter
    if areas is None or len(areas) < FEWEST_TO_SHRINK or not expected or not settings.rescale:
        return 1.0
    ratio = float(np.median(np.sqrt(4 / np.pi * areas))) / expected
    if not ratio:  # boxes in which no pixel is a nucleus
        return 1.0
    low, high = settings.rescale
    if ratio > high:
        return 1 / ratio
    return min(1 / ratio, MOST) if ratio < low and len(areas) >= FEWEST_TO_MAGNIFY else 1.0
