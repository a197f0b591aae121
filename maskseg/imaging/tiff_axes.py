"""Which axes of a TIFF lie where: along its pages, in them, and among the samples of a pixel.

What the file's own description calls the samples counts, not how they are stored: programs store three planes of
whatever kind as the samples of an RGB picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import tifffile

from maskseg.core.errors import InputError

# Samples of which the description does not say that they are something else.
_SAMPLES = "S"


@dataclass(frozen=True)
class Layout:
    """Where the axes of an image lie.

    Attributes
    ----------
    pages : str
        The axes along which pages lie.
    samples : str
        The axis of the samples of a pixel, where the description makes it one of the image's; otherwise empty.
    planar : bool
        Whether each sample is a plane of the page, before its rows.
    rows : bool
        Whether each page is a row of the image: so a further axis is written that comes after the columns.
    """

    pages: str
    samples: str
    planar: bool
    rows: bool

    @property
    def planes(self) -> str:
        """The axes of planes and channels, in the order of an index; channels among the samples are none of it."""
        return self.pages + (self.samples if self.samples != "C" else "")


def layout(series: tifffile.TiffPageSeries) -> Layout:
    """Where the axes of an image lie in its pages.

    Raises
    ------
    InputError
        In another way than is known.
    """
    axes, key = series.axes, series.keyframe
    inside = key.axes if key.samplesperpixel > 1 else "YX"
    y = axes.find("Y")
    if key.imagedepth == 1 and y >= 0 and axes[y + 1 : y + 2] == "X":
        before, after = axes[:y], axes[y + 2 :]
        if inside == "YX" and len(after) <= 1:
            return Layout(before, after.strip(_SAMPLES), False, bool(after))
        if inside == "YXS" and len(after) == 1:
            return Layout(before, after.strip(_SAMPLES), False, False)
        if inside == "SYX" and not after and before:
            return Layout(before[:-1], before[-1].strip(_SAMPLES), True, False)
    raise InputError(f"it holds values along the axes {axes}; save one plane of it")
