"""Specks far brighter than all else that stands out in a picture: crystals, fibres, precipitate, dust that glows.

A speck of a ten thousandth of the picture can have more light than all its nuclei, and limits that follow the light
would leave the nuclei black. Where most of what stands out is in connected pieces of one height, the few that rise to
more than three times as much (mitotic nuclei are up to about three times as bright as their neighbours) count with
less the higher they are, down to the height of the others.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Pieces that are more than so many times as high as the typical one are cut.
_HIGHEST = 3.0
# What is higher is at most this share of all that stands out, in so many pieces or this part of all: more may be the
# nuclei among faint dirt. At least so many pieces are as they should be.
_SHARE, _PIECES, _PART, _FEWEST = 0.25, 3, 0.01, 5


def without_debris(
    difference: NDArray[np.float32], outstanding: NDArray[np.bool_], least: float
) -> NDArray[np.float32]:
    """Differences to the background in which no few pieces rise far above all the others.

    Parameters
    ----------
    difference : float array (h, w, C)
    outstanding : bool array (h, w, C)
        What is taken for more than background.
    least : float
        A typical piece at least as high is no noise; where it is lower, all stays as it is.

    Returns
    -------
    float array (h, w, C)
        `difference` itself where nothing has to be cut.
    """
    somewhere: NDArray[Any] = np.asarray(outstanding.any(axis=2))
    flags: NDArray[Any] = somewhere.astype(np.uint8)
    count, found, stats, _ = cv2.connectedComponentsWithStats(flags, connectivity=8)
    if count <= _FEWEST + 1:
        return difference
    labels: NDArray[Any] = np.asarray(found)
    # Of the outstanding samples alone: a slide has millions of others.
    highest = np.where(outstanding[somewhere], difference[somewhere], 0).max(axis=1)
    heights = np.zeros(count, np.float32)
    np.maximum.at(heights, labels[somewhere], highest)
    heights, areas = heights[1:], stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    typical = _typical(heights, areas)
    most = _HIGHEST * typical
    above = heights > most
    if (
        not above.any()
        or typical < least
        or above.sum() > max(_PIECES, _PART * len(heights))
        or (highest > most).sum() > _SHARE * areas.sum()
        or (~above & (heights >= least)).sum() < _FEWEST
    ):
        return difference
    # Without a step where a piece begins to be too high.
    levels = np.where(above, np.clip(most * most / heights, typical, most), np.inf)
    levels = np.concatenate([[np.inf], levels]).astype(np.float32)
    return np.minimum(difference, levels[labels][..., None])


def _typical(heights: NDArray[Any], areas: NDArray[Any]) -> float:
    """The height (N,) at which the lower pieces have half of the area (N,) of all."""
    order = np.argsort(heights)
    below = np.cumsum(areas[order])
    return float(heights[order][np.searchsorted(below, below[-1] / 2)])
