"""The magnification at which nuclei look to the network as those that it was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.inference.settings import PostprocessSettings

# The median of fewer nuclei says little. Fewer are enough to shrink, which costs little and finds the others.
FEWEST_TO_MAGNIFY, FEWEST_TO_SHRINK = 5, 3
# Where more would be needed what was found are no nuclei but noise.
MOST = 4.0


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

    Examples
    --------
    >>> magnification(PostprocessSettings(diameter=15), expected=30)
    2.0
    >>> round(magnification(PostprocessSettings(rescale=(0.6, 4)), expected=30, areas=np.full(20, 78)), 2)
    3.01
    """
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
