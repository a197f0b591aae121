"""The records of a data set looked at once, where it is loaded, so that nothing after that meets what is no record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from maskseg.core.errors import InputError

# Pixels along a side, beyond which nothing is an image.
_LONGEST = 1 << 24
_REMEDY = "make it with maskseg convert"


def check_records(path: Path, data: Any, own: bool, faulty: bool = False) -> None:
    """Refuse COCO records that are not as they have to be.

    Parameters
    ----------
    path : Path
        For messages.
    data : object
        The content of the file.
    own : bool
        It is the ``annotations.json`` of a data set, whose images are files of its own folder.
    faulty : bool
        Records that can be read are let through, whatever their values say of each other: see `load_coco`.

    Raises
    ------
    InputError
        Naming the record and the field.
    """
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        raise InputError(f"{path}: not a COCO file (no lists of images and annotations); {_REMEDY}")
    own = own and not faulty
    sizes: dict[Any, list[int]] = {}
    for number, image in enumerate(data["images"]):
        fault = _fault_of_image(image, own) or ("id once more" if image["id"] in sizes and not faulty else "")
        if fault:
            raise InputError(f"{path}: image record {number}: {fault}; {_REMEDY}")
        sizes[image["id"]] = [image["height"], image["width"]]
    if len({type(key) for key in sizes}) > 1:
        raise InputError(f"{path}: ids of images are numbers and text; {_REMEDY}")
    for number, item in enumerate(data["annotations"]):
        fault = _fault_of_annotation(item, {} if faulty else sizes, own, faulty)
        if fault:
            raise InputError(f"{path}: annotation record {number}: {fault}; {_REMEDY}")


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _fault_of_image(image: Any, own: bool) -> str:
    """What is wrong with the record of an image; empty where nothing is."""
    if not isinstance(image, Mapping):
        return "it is no record"
    if not isinstance(image.get("id"), (int, str)):
        return "id is no number"
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return "file_name is no name"
    if not name.isprintable() and any("\ud800" <= letter <= "\udfff" or letter < " " for letter in name):
        return "file_name is no text"
    windows = PureWindowsPath(name)
    if own and (windows.drive or windows.root or ".." in windows.parts):
        return "file_name leads outside the data set, rename it"
    for key in ("height", "width"):
        if not _is_whole(image.get(key), _LONGEST):
            return f"{key} is no number of pixels"
    region = image.get("reviewed", True)
    if region is not True and not _is_region(region, image):
        return "reviewed is no region of the image"
    for key in ("modality", "group"):
        if not isinstance(image.get(key, ""), (str, type(None))):
            return f"{key} is no text"
    return ""


def _is_region(region: Any, image: Mapping[str, Any]) -> bool:
    """Whether something is run lengths on an image."""
    return (
        isinstance(region, Mapping)
        and region.get("size") == [image["height"], image["width"]]
        and isinstance(region.get("counts"), (str, list))
    )


def _fault_of_annotation(item: Any, sizes: Mapping[Any, list[int]], own: bool, faulty: bool) -> str:
    """What is wrong with the record of an annotation; empty where nothing is."""
    if not isinstance(item, Mapping):
        return "it is no record"
    of = item.get("image_id")
    if not isinstance(of, (int, str)) or (own and of not in sizes):
        return "image_id is none of an image"
    segmentation = item.get("segmentation")
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if of in sizes and size != sizes[of]:
            return f"segmentation has the size {str(size)[:40]}, its image {sizes[of]}"
        if not isinstance(counts, (str, list)):
            return "counts are no run lengths"
        if isinstance(counts, list) and not all(type(count) is int and 0 <= count < 1 << 62 for count in counts):
            return "counts are no run lengths"
    elif own:
        return "it holds no run lengths; convert its polygons first"
    box = item.get("bbox")
    if not faulty and box and not (isinstance(box, list) and len(box) == 4 and all(_is_finite(value) for value in box)):
        return "bbox is not x, y, width and height"
    return "" if _is_finite(item.get("score", 1.0)) else "score is no number"


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e15 if isinstance(value, int) else math.isfinite(value)
