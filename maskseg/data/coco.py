"""The one form of a data set: ``DIR/annotations.json`` (COCO, run lengths) beside ``DIR/images/``."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.errors import InputError
from maskseg.files import write_whole
from maskseg.images import read_image
from maskseg.masks import CropMasks

ANNOTATIONS = "annotations.json"
CATEGORIES = [{"id": 1, "name": "nucleus"}]
# Detectron2's BoxMode.XYWH_ABS, without importing it.
_XYWH = 1


@dataclass(frozen=True)
class CocoData:
    """A COCO data set in memory.

    Attributes
    ----------
    path : Path
        The JSON file.
    images : list of dict
        ``id``, ``file_name``, ``height``, ``width``, and ``modality`` where known.
    annotations : mapping of image id to list of dict
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: Mapping[int, list[dict[str, Any]]]

    def masks(self, image: Mapping[str, Any]) -> CropMasks:
        """The nuclei of an image, with their scores where they are predictions."""
        items = self.annotations.get(image["id"], [])
        rles, scores = [item["segmentation"] for item in items], [item.get("score", 1.0) for item in items]
        return CropMasks.from_rle(rles, (image["height"], image["width"]), scores)


def load_coco(path: str | os.PathLike[str]) -> CocoData:
    """Read a data set folder or a COCO JSON file whose segmentations are run lengths.

    Raises
    ------
    InputError
        If it is missing or not such a file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / ANNOTATIONS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images = sorted(data["images"], key=lambda image: image["id"])
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for item in data["annotations"]:
            if not isinstance(item["segmentation"], dict):
                raise InputError(
                    f"{path}: annotation {item.get('id')} holds no run lengths; convert its polygons first"
                )
            grouped[item["image_id"]].append(item)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it with maskseg convert") from error
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a COCO file ({type(error).__name__}: {error}); make it with maskseg convert"
        ) from error
    return CocoData(path, images, grouped)


def write_coco(
    path: str | os.PathLike[str], images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> None:
    """Write a COCO JSON file with the one category, nucleus; whole or not at all."""
    with write_whole(path, "w", encoding="utf-8") as file:
        # dumps runs in C where dump goes piece by piece: four times as fast
        file.write(json.dumps({"images": list(images), "annotations": list(annotations), "categories": CATEGORIES}))


def image_id(image: Mapping[str, Any]) -> str:
    """Name of an image in tables and submissions: its file name without folder and ending."""
    return Path(image["file_name"]).stem


def dataset_dicts(spec: str) -> list[dict[str, Any]]:
    """Records of a data set in Detectron2's form.

    Parameters
    ----------
    spec : str
        ``DIR`` or ``DIR:part``; parts are those of ``DIR/split.csv``.

    Returns
    -------
    list of dict
        ``file_name`` (absolute path), ``image_id`` (str), ``height``, ``width``, ``modality`` ("" where unknown)
        and ``annotations``, each with ``bbox`` (x, y, w, h), ``bbox_mode``, ``segmentation`` (COCO RLE) and
        ``category_id`` 0.

    Raises
    ------
    InputError
        If the data set or the part is missing, or the split does not know an image.
    """
    folder, _, part = spec.partition(":")
    data = load_coco(folder)
    split_file = data.path.parent / SPLIT_FILE
    split = read_split(split_file) if part or split_file.is_file() else {}
    if part and part not in {row["part"] for row in split.values()}:
        names = ", ".join(sorted({row["part"] for row in split.values()}))
        raise InputError(f"{split_file}: no part {part!r}; it has {names}")
    records = []
    for image in data.images:
        name = image_id(image)
        row = split.get(name)
        if part and row is None:
            raise InputError(
                f"{split_file}: image {name} is in no part; make the split again with maskseg split {folder}"
            )
        if part and row["part"] != part:  # type: ignore[index]
            continue
        records.append(
            {
                "file_name": str(data.path.parent.absolute() / "images" / image["file_name"]),
                "image_id": name,
                "height": image["height"],
                "width": image["width"],
                "modality": (row or {}).get("modality") or image.get("modality") or "",
                "annotations": [
                    {"bbox": item["bbox"], "bbox_mode": _XYWH, "segmentation": item["segmentation"], "category_id": 0}
                    for item in data.annotations.get(image["id"], [])
                ],
            }
        )
    return records


def load_record(record: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image uint8 (H, W, 3) and label image int32 (H, W) of a record of `dataset_dicts`.

    Raises
    ------
    InputError
        If the image cannot be read or its masks are of another size.
    """
    image = read_image(Path(record["file_name"]))
    try:
        masks = CropMasks.from_rle([item["segmentation"] for item in record["annotations"]], image.shape[:2])  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{record['file_name']}: {error}; convert the data set again") from error
    return image, masks.to_labels()
