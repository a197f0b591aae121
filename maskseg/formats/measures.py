"""What the table of nuclei measures beyond the nucleus itself: its ring and its cell, and its texture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.lengths import length

# Haralick's figures of the grey levels of neighbouring pixels, and how many levels a nucleus is divided into.
TEXTURE = ("contrast", "correlation", "energy", "homogeneity")
_LEVELS = 32
# Cells beyond this, in pixels, are a slip of units: each costs the square of it.
_FARTHEST = 250


@dataclass(frozen=True)
class Measures:
    """What is measured.

    Attributes
    ----------
    expand : float or None
        Distance by which nuclei are grown to cells; None: they are not.
    microns : bool
        The distance is in micrometres, and not in pixels.
    texture : bool
        Measure the texture of nuclei.
    """

    expand: float | None = None
    microns: bool = False
    texture: bool = False

    @classmethod
    def parse(cls, expand: str | None = None, texture: bool = False) -> Measures:
        """What ``--expand`` and ``--texture`` say.

        Raises
        ------
        InputError
            The distance is none.

        Examples
        --------
        >>> Measures.parse("2.5um")
        Measures(expand=2.5, microns=True, texture=False)
        """
        if expand is None:
            return cls(texture=texture)
        found = length(expand)
        if not found:
            raise InputError(
                f"--expand {expand}: give a distance above 0, in pixels or micrometres, such as 5 or 2.5um"
            )
        return cls(*found, texture)

    def __bool__(self) -> bool:
        """Whether anything is."""
        return self.expand is not None or self.texture

    def pixels(self, name: str, microns_per_pixel: float | None) -> float | None:
        """The distance in pixels of an image.

        Parameters
        ----------
        name : str
            Of the image, for messages.
        microns_per_pixel : float or None
            Side of a pixel.

        Raises
        ------
        InputError
            It is in micrometres and the size of a pixel is not known; or it is too far.
        """
        if self.expand is None:
            return None
        if self.microns and not microns_per_pixel:
            raise InputError(
                f"{name}: does not say how large its pixels are; give --microns-per-pixel, or --expand in pixels"
            )
        pixels = self.expand / microns_per_pixel if self.microns and microns_per_pixel else self.expand
        if pixels > _FARTHEST:
            raise InputError(f"{name}: --expand is {pixels:g} pixels there; give at most {_FARTHEST}")
        return pixels


NO_MEASURES = Measures()


def texture(bitmap: NDArray[np.bool_], values: NDArray[Any]) -> dict[str, list[float | None]]:
    """Texture of a nucleus in each channel.

    The standard deviation of its values, and of the co-occurrence [1]_ of its neighbouring pixels at distance 1 in four
    directions, contrast, correlation, energy and homogeneity, each the mean of the directions: on 32 levels between
    the darkest and the brightest pixel of the nucleus, so that they do not depend on the exposure.

    Parameters
    ----------
    bitmap : bool array (h, w)
        With at least one pixel.
    values : array (h, w, C)

    Returns
    -------
    dict of str to list of C floats
        ``std`` and those of `TEXTURE`; None where a value is not a number, or no two pixels are neighbours.

    References
    ----------
    .. [1] Haralick, Shanmugam, Dinstein, Textural features for image classification, IEEE SMC 3 (1973) 610.
    """
    # It takes its time to import, and is seldom asked for.
    from skimage.feature import graycomatrix, graycoprops

    figures_of: dict[str, list[float | None]] = {name: [] for name in ("std", *TEXTURE)}
    for channel in np.moveaxis(values, -1, 0):
        inside = channel[bitmap].astype(np.float64)
        low, high = inside.min(), inside.max()
        if not np.isfinite([low, high]).all():
            for figures in figures_of.values():
                figures.append(None)
            continue
        figures_of["std"].append(float(inside.std()))
        # Level 0 is outside of the nucleus, and left out of the counts.
        levels = np.zeros(bitmap.shape, np.uint8)
        levels[bitmap] = 1 + np.minimum((inside - low) * (_LEVELS / max(high - low, 1e-12)), _LEVELS - 1).astype(int)
        pairs = graycomatrix(levels, [1], np.arange(4) * np.pi / 4, _LEVELS + 1, symmetric=True)[1:, 1:]
        pairs = pairs[..., pairs.sum(axis=(0, 1, 2)) > 0]
        for name in TEXTURE:
            figures_of[name].append(float(graycoprops(pairs, name).mean()) if pairs.size else None)
    return figures_of
