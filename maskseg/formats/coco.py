"""Predictions as one COCO JSON file: the images, and a scored run-length mask for each nucleus."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from maskseg import __version__
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks

# What a COCO file has beside its images, annotations and categories: pycocotools' loadRes needs "info".
HEADER: dict[str, Any] = {"info": {"description": f"nuclei, by maskseg {__version__}"}, "licenses": []}
_CATEGORIES = [{"id": 1, "name": "nucleus", "supercategory": "cell"}]


def annotations(masks: CropMasks) -> list[dict[str, Any]]:
    """Boxes, areas, scores and run-length masks of an image as COCO has them, not yet numbered."""
    return [
        {
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": area,
            "iscrowd": 0,
            "score": round(score, 6),
            "segmentation": rle,
        }
        for (x0, y0, x1, y1), area, score, rle in zip(
            masks.boxes.tolist(), masks.areas.tolist(), masks.scores.tolist(), masks.to_rle(), strict=True
        )
    ]


def write_predictions(path: str | os.PathLike[str], images: Iterable[tuple[str, CropMasks]]) -> None:
    """Write predictions as a COCO file, whole or not at all; the images are taken one at a time.

    Images are numbered from 1 in the order given. The file is complete, with ``images`` and ``categories``, so that
    it needs no other file to be read; its ``annotations``, each with a ``score``, are what pycocotools' ``loadRes``
    takes once their ``image_id`` are those of the truth.

    Parameters
    ----------
    path : path-like
        The JSON file.
    images : iterable of (file name, CropMasks)

    Raises
    ------
    InputError
        The file cannot be written.
    """
    write_annotations(path, ((name, masks.shape, annotations(masks)) for name, masks in images))


def write_annotations(
    path: str | os.PathLike[str], images: Iterable[tuple[str, tuple[int, int], list[dict[str, Any]]]]
) -> None:
    """`write_predictions` of what `annotations` made before: name, height and width, annotations of each image."""
    listed, count = [], 0
    with write_whole(path, "w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for number, (name, (height, width), found) in enumerate(images, start=1):
            listed.append({"id": number, "file_name": name, "height": height, "width": width})
            for annotation in found:
                count += 1
                item = {"id": count, "image_id": number, "category_id": 1, **annotation}
                file.write(("\n" if count == 1 else ",\n") + json.dumps(item))
        rest = {"images": listed, "categories": _CATEGORIES, **HEADER}
        file.write(f"], {json.dumps(rest)[1:]}\n")
