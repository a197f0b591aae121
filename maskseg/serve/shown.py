"""What the page shows of nuclei: outlines of a part of the image, and their density where there are too many."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core.outlines import outlines
from maskseg.serve.nuclei import Box, Nuclei, Nucleus

Ring = NDArray[np.float32]

# Side in pixels of the picture of the density.
DENSITY = 512
# Inferno-like: from nothing over violet to yellow; the last number is the opacity.
_COLOURS = np.array(
    [[70, 20, 120, 0], [120, 30, 140, 110], [210, 60, 90, 170], [250, 150, 40, 205], [255, 240, 150, 230]]
)


def rings_of(nucleus: Nucleus, step: float) -> list[Ring]:
    """Outer rings and holes of a nucleus, float32 (V, 2) in pixels of the image.

    Parameters
    ----------
    nucleus : Nucleus
    step : float
        Pixels of the image in one of the screen: up to 1 the outline runs along the edges of pixels, beyond that it is
        as coarse as the screen.
    """
    x0, y0 = nucleus.box[:2]
    if step <= 1:
        return [ring.astype(np.float32) for polygon in outlines(nucleus.bitmap, (x0, y0)) for ring in polygon]
    contours, _ = cv2.findContours(nucleus.bitmap.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for contour in contours:
        if len(contour) > 8:
            contour = cv2.approxPolyDP(contour, (0.6 if step < 4 else 0.9) * step, True)
        # OpenCV runs through the centres of pixels.
        rings.append(contour[:, 0].astype(np.float32) + np.array([x0 + 0.5, y0 + 0.5], np.float32))
    return [ring for ring in rings if len(ring) > 2]


def packed(nuclei: Nuclei, numbers: list[int], step: float) -> bytes:
    """Outlines in a form that the page reads without parsing text: little-endian 32-bit numbers.

    For each nucleus its number and the count of its rings; for each ring the count of its points (int32), and the
    points x, y (float32). A number without rings is of a nucleus that is gone.
    """
    parts: list[NDArray[np.int32]] = []
    for number in numbers:
        nucleus = nuclei.get(number)
        rings = rings_of(nucleus, step) if nucleus else []
        parts.append(np.array([number, len(rings)], "<i4"))
        for ring in rings:
            parts += [np.array([len(ring)], "<i4"), ring.astype("<f4").reshape(-1).view("<i4")]
    return np.concatenate(parts).tobytes() if parts else b""


def inside(nuclei: Nuclei, box: Box) -> list[int]:
    """Numbers of the nuclei whose box has its top left corner in a box: each nucleus is in one tile of a division."""
    x0, y0, x1, y1 = box
    return [n for n in nuclei.near(box) if x0 <= nuclei[n].box[0] < x1 and y0 <= nuclei[n].box[1] < y1]


def density(nuclei: Nuclei, hidden: Collection[int] = ()) -> NDArray[np.uint8]:
    """How many nuclei are where: uint8 RGBA (h, w, 4), the longer side `DENSITY`, of the whole image.

    Those of the classes in `hidden` do not count.
    """
    height, width = nuclei.shape
    scale = DENSITY / max(height, width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    centres = nuclei.centres(hidden) * scale
    counts, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=shape, range=((0, shape[0]), (0, shape[1])))
    smooth = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 5)
    share = np.clip(smooth / max(float(np.percentile(smooth, 99.5)), 1e-6), 0, 1)
    places, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(_COLOURS))
    table = np.stack([np.interp(places, stops, _COLOURS[:, k]) for k in range(4)], axis=1)
    return table[np.rint(share * 255).astype(int)].astype(np.uint8)
