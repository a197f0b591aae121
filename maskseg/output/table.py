"""The table of a prediction run: one row an image, failed images included."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable

import numpy as np

from maskseg.files import write_whole
from maskseg.masks import CropMasks

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
    height, width = masks.shape
    return {
        "image_id": image_id,
        "height": height,
        "width": width,
        "nuclei": len(masks),
        "median_area": f"{np.median(masks.areas):g}" if len(masks) else "",
        "mean_score": f"{masks.scores.mean():.4f}" if len(masks) else "",
        "seconds": f"{seconds:.3f}",
        "status": "ok",
    }


def failed_row(image_id: str, reason: str) -> dict[str, str | int]:
    """Row of an image that was left out; `status` holds the reason."""
    return {**dict.fromkeys(COLUMNS, ""), "image_id": image_id, "status": reason}


def write_table(path: str | os.PathLike[str], rows: Iterable[dict[str, str | int]]) -> None:
    """Write the rows of `image_row` and `failed_row` as CSV, whole or not at all."""
    with write_whole(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
