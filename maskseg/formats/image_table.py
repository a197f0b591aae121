"""The table of a prediction run: one row an image, failed images included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.core.tables import write_csv

COLUMNS = ("image_id", "height", "width", "nuclei", "median_area", "mean_score", "seconds", "status")


def image_row(image_id: str, masks: CropMasks, seconds: float) -> dict[str, str | int]:
    """Row of an image that was segmented.

    Parameters
    ----------
    image_id : str
    masks : CropMasks
        Its nuclei; without any, the median area (pixels) and the mean score stay empty.
    seconds : float
        Time that reading and segmenting took.

    Returns
    -------
    dict
        One entry for each of `COLUMNS`, `status` being "ok".
    """
    return summary_row(image_id, masks.shape, masks.areas, masks.scores, seconds)


def summary_row(
    image_id: str, shape: tuple[int, int], areas: NDArray[np.int64], scores: NDArray[np.float32], seconds: float
) -> dict[str, str | int]:
    """`image_row` from the areas, in pixels, and the scores of the nuclei alone."""
    return {
        "image_id": image_id,
        "height": shape[0],
        "width": shape[1],
        "nuclei": len(areas),
        "median_area": f"{np.median(areas):g}" if len(areas) else "",
        "mean_score": f"{scores.mean():.4f}" if len(areas) else "",
        "seconds": f"{seconds:.3f}",
        "status": "ok",
    }


def failed_row(image_id: str, reason: str) -> dict[str, str | int]:
    """Row of an image that was left out; `status` holds the reason."""
    return {**dict.fromkeys(COLUMNS, ""), "image_id": image_id, "status": reason}


def class_counts(names: Sequence[str], classes: NDArray[np.int32]) -> dict[str, int]:
    """How many nuclei of each class an image has, for the columns that a table has where there are several classes."""
    counts = np.bincount(classes, minlength=len(names)).tolist()
    return {f"nuclei_{name}": count for name, count in zip(names, counts, strict=True)}


def write_table(
    path: str | os.PathLike[str], rows: Iterable[dict[str, str | int]], further: Sequence[str] = ()
) -> None:
    """Write the rows of `image_row` and `failed_row` as CSV, whole or not at all, with further columns at the end."""
    write_csv(path, (*COLUMNS, *further), rows)
