"""Lengths as people write them: in pixels, or in micrometres."""

from __future__ import annotations

import math

_MICRONS = ("um", "µm", "μm")  # the micro sign and the Greek letter


def length(text: str) -> tuple[float, bool] | None:
    """A length above 0, and whether it is in micrometres and not in pixels; None where it is no length.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> length("12"), length("12 px"), length("2.5um"), length("8 µm"), length("far")
    ((12.0, False), (12.0, False), (2.5, True), (8.0, True), None)
    """
    text = text.strip().lower().removesuffix("px")
    microns = text.endswith(_MICRONS)
    try:
        number = float(text[:-2] if microns else text)
    except ValueError:
        return None
    return (number, microns) if 0 < number < math.inf else None
