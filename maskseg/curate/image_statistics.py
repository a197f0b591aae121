"""What images without annotations look like in numbers: size, kind, modality and brightness of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.errors import InputError, located
from maskseg.core.processes import in_order
from maskseg.curate.modality import colours, infer_modality
from maskseg.imaging.intensity import limits
from maskseg.imaging.reading import ImageFile, to_rgb8

# Of an image with levels the smallest is looked at that has as many pixels along its side; of what is still larger
# than _LARGEST along a side the middle.
_PREVIEW, _LARGEST = 2048, 4096


class ImageStatistics(NamedTuple):
    """What is kept of an image.

    Attributes
    ----------
    shape : (int, int)
        Height and width in pixels, of the full size.
    container, kind : str
        Ending of the file, such as ``.tif``; type of its values, and whether they are grey or colours.
    mpp : float or None
        Micrometres per pixel, where the file says so.
    modality : str
        One of `maskseg.curate.modality.MODALITIES`, judged by the colours.
    low, middle, high : float
        Values of the file: the limits that become black and white, and the median.
    saturated : float
        Share of the pixels that have the greatest value of their type, which a camera gives all that is brighter; 0
        for floats.
    """

    shape: tuple[int, int]
    container: str
    kind: str
    mpp: float | None
    modality: str
    low: float
    middle: float
    high: float
    saturated: float


def measure_images(files: Sequence[ImageFile], workers: int = 1) -> list[ImageStatistics | InputError]:
    """Look at images; what is wrong with one that cannot be read takes its place."""
    with closing(in_order(_measure, files, workers)) as results:
        return list(tqdm(results, desc="look", unit="image", total=len(files), leave=False, disable=None))


def small_view(file: ImageFile) -> NDArray[Any]:
    """Values of an image, (h, w, 1 or 3); of one with levels a small level, of a very large one the middle.

    Raises
    ------
    InputError
        If it cannot be read, or holds several channels or planes of which none is chosen.
    """
    return _open(file)[0]


def _open(file: ImageFile) -> tuple[NDArray[Any], tuple[int, int], float | None]:
    try:
        with closing(file.open()) as chosen:
            level = max((k for k, shape in enumerate(chosen.shapes) if max(shape) >= _PREVIEW), default=0)
            height, width = chosen.shapes[level]
            y0, x0 = max(height - _LARGEST, 0) // 2, max(width - _LARGEST, 0) // 2
            box = (x0, y0, min(x0 + _LARGEST, width), min(y0 + _LARGEST, height))
            return chosen.values(level, box), chosen.shapes[0], chosen.mpp
    except InputError:
        raise
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        raise InputError(f"{file.name}: damaged or cut short; get it again") from error


def _measure(file: ImageFile) -> ImageStatistics | InputError:
    try:
        values, shape, mpp = _open(file)
        modality = infer_modality(colours(to_rgb8(values)))
        low, high = limits(values.astype(np.uint8) if values.dtype == bool else values)
    except InputError as error:
        return InputError(located(file.name, error))
    finite = values if values.dtype.kind != "f" else values[np.isfinite(values)]
    most = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else np.inf
    bits = 1 if values.dtype == bool else 8 * values.dtype.itemsize
    return ImageStatistics(
        shape,
        Path(file.member or file.path).suffix.lower(),
        f"{bits}-bit {'float ' if values.dtype.kind == 'f' else ''}{'grey' if values.shape[2] == 1 else 'colour'}",
        mpp,
        modality,
        low,
        float(np.median(finite)),
        high,
        float((values == most).mean()),
    )
