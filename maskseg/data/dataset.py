"""The one form of a data set: ``DIR/annotations.json`` (COCO, run lengths) beside ``DIR/images/``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.masks import CropMasks
from maskseg.core.rle import coco_to_runs_of_all
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.formats.coco import CocoData as CocoData
from maskseg.formats.coco import image_id as image_id
from maskseg.formats.coco import is_dataset as is_dataset
from maskseg.formats.coco import load_coco as load_coco
from maskseg.formats.coco import write_coco as write_coco
from maskseg.formats.reviewed import REVIEWED, region_of
from maskseg.imaging.reading import read_image

# What an image says of the size of its pixels.
MICRONS = "microns_per_pixel"
# Detectron2's BoxMode.XYWH_ABS, without importing it.
_XYWH = 1


def folder_and_part(spec: str | os.PathLike[str]) -> tuple[str, str]:
    """The two sides of ``DIR:PART``; the part is "" where all of it is meant.

    What exists under the whole name is no ``DIR:PART``, and a part has no slash in it, so that colons in the names of
    folders and drives do not get in the way.

    Examples
    --------
    >>> folder_and_part("data/dsb2018:dev")
    ('data/dsb2018', 'dev')
    >>> folder_and_part("C:/data")
    ('C:/data', '')
    """
    spec = os.fspath(spec)
    folder, _, part = spec.rpartition(":")
    if not folder or not part or "/" in part or "\\" in part or Path(spec).exists():
        return spec, ""
    return folder, part


def dataset_dicts(spec: str) -> list[dict[str, Any]]:
    """Records of a data set in Detectron2's form.

    Parameters
    ----------
    spec : str
        ``DIR`` or ``DIR:part``; parts are those of ``DIR/split.csv``, and ``DIR:-part`` is all but one of them.

    Returns
    -------
    list of dict
        ``file_name`` (absolute path), ``image_id`` (str), ``height``, ``width``, ``modality`` ("" where unknown),
        ``categories`` (names of all classes of the set), ``reviewed`` where only a part of the image was looked at
        (`maskseg.formats.reviewed`), ``microns_per_pixel`` where it is known, and ``annotations``, each with ``bbox``
        (x, y, w, h), ``bbox_mode``, ``segmentation`` (COCO RLE), ``class`` (its name) and ``category_id`` 0 (see
        `maskseg.data.classes.assign_category_ids`).

    Raises
    ------
    InputError
        If the data set or the part is missing, or the split does not know an image.
    """
    folder, part = folder_and_part(spec)
    data = load_coco(folder)
    split_file = data.path.parent / SPLIT_FILE
    split = read_split(split_file) if part or split_file.is_file() else {}
    wanted = images_of_part(split, part, split_file) if part else set()
    records = []
    for image in data.images:
        name = image_id(image)
        row = split.get(name)
        if part and row is None:
            raise InputError(
                f"{split_file}: image {name} is in no part; make the split again with maskseg split {folder}"
            )
        if part and name not in wanted:
            continue
        items = data.annotations.get(image["id"], [])
        if not all("bbox" in item for item in items):
            raise InputError(f"{data.path}: an annotation of {name} has no bbox; make it with maskseg convert")
        records.append(
            {
                "file_name": str(data.path.parent.absolute() / "images" / image["file_name"]),
                "image_id": name,
                "height": image["height"],
                "width": image["width"],
                "modality": (row or {}).get("modality") or image.get("modality") or "",
                "categories": data.class_names,
                **({REVIEWED: image[REVIEWED]} if image.get(REVIEWED) else {}),
                **({MICRONS: image[MICRONS]} if _is_size(image.get(MICRONS)) else {}),
                "annotations": [
                    {
                        "bbox": item["bbox"],
                        "bbox_mode": _XYWH,
                        "segmentation": item["segmentation"],
                        "category_id": 0,
                        "class": data.class_of(item),
                    }
                    for item in items
                ],
            }
        )
    return records


def _is_size(value: Any) -> bool:
    """Whether what a file says of the size of a pixel is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def label_layers(rles: Sequence[Mapping[str, Any]], shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
    """Masks of an image as label images, as few of them as hold every pixel of every mask.

    Laid over each other, the last on top, they are the one of `CropMasks.to_labels`.

    Parameters
    ----------
    rles : sequence of N dicts
        COCO's RLE.
    shape : (int, int)
        Height and width of the image.

    Returns
    -------
    uint16 array (L, H, W), int32 for more than 65,535 masks
        Mask i has the label i + 1, all of it in one layer. L is 1 where no masks overlap.

    Raises
    ------
    InputError
        If a mask is malformed or of another size.
    """
    for item in rles:
        if tuple(item["size"]) != tuple(shape):
            raise InputError(f"a mask of {tuple(item['size'])} pixels in an image of {tuple(shape)}")
    starts, lengths, index = coco_to_runs_of_all(rles, shape)
    kind = np.uint16 if len(rles) < 65536 else np.int32
    before = np.cumsum(lengths) - lengths
    pixels = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    columns = np.zeros(shape[0] * shape[1], kind)
    columns[pixels] = np.repeat((index + 1).astype(kind), lengths)
    if np.count_nonzero(columns) == len(pixels):
        return np.ascontiguousarray(columns.reshape(shape[1], shape[0]).T)[None]
    masks = CropMasks.from_rle(rles, shape)
    layers: list[NDArray[Any]] = []
    depth = np.zeros(shape, np.int32)
    for i in masks.painting_order():
        x0, y0, x1, y1 = masks.boxes[i]
        bitmap, below = masks.bitmaps[i], depth[y0:y1, x0:x1]
        layer = int(below[bitmap].max(initial=0))
        if layer == len(layers):
            layers.append(np.zeros(shape, kind))
        layers[layer][y0:y1, x0:x1][bitmap] = i + 1
        below[bitmap] = layer + 1
    return np.stack(layers)


def load_layers(record: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]:
    """Image uint8 (H, W, 3) of a record of `dataset_dicts`, and its masks as `label_layers` (L, H, W).

    Raises
    ------
    InputError
        If the image cannot be read or its masks are of another size.
    """
    image = read_image(Path(record["file_name"]))
    return image, record_layers(record, image.shape[:2])


def record_layers(record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
    """The masks of a record of `dataset_dicts` as `label_layers`; `shape` is the height and width of its image.

    Raises
    ------
    InputError
        If its masks are of another size.
    """
    try:
        return label_layers([item["segmentation"] for item in record["annotations"]], shape)
    except InputError as error:
        raise InputError(f"{located(record['file_name'], error)}; convert the data set again") from error


def unreviewed(record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Where nobody has looked at the image of a record, bool (H, W); None where all of it counts.

    Raises
    ------
    InputError
        If what the record says of it is of another size.
    """
    try:
        region = region_of(record, shape)
    except InputError as error:
        raise InputError(f"{located(record['file_name'], error)}; convert the data set again") from error
    return None if region is None or region.all() else ~region


def load_record(record: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image uint8 (H, W, 3) and label image int32 (H, W) of a record of `dataset_dicts`.

    A pixel of several masks goes as in `CropMasks.to_labels`.

    Raises
    ------
    InputError
        If the image cannot be read or its masks are of another size.
    """
    image, layers = load_layers(record)
    labels = layers[0].astype(np.int32)
    for layer in layers[1:]:
        np.copyto(labels, layer, where=layer > 0)
    return image, labels
