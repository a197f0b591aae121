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


def check_records(path: Path, data: Any, own: bool, refuse_faults: bool = True) -> None:
    """Refuse COCO records that are not as they have to be.

    Parameters
    ----------
    path : Path
        For messages.
    data : object
        The content of the file.
    own : bool
        It is the ``annotations.json`` of a data set, whose images are files of its own folder.
    refuse_faults : bool
        Refuse also what can be read but is wrong: ids once more, names that lead outside, masks of another size or
        that cannot be read, annotations without a box or of no image. Without it `maskseg.curate.check` finds these.

    Raises
    ------
    InputError
        Naming the record and the field.
    """
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        raise InputError(f"{path}: not a COCO file (no lists of images and annotations); {_REMEDY}")
    sizes: dict[Any, list[int]] = {}
    for number, image in enumerate(data["images"]):
        fault = _unreadable_image(image)
        if refuse_faults and not fault:
            fault = "id once more" if image["id"] in sizes else ""
            if own and leads_outside_folder(image["file_name"]):
                fault = "file_name leads outside the data set, rename it"
        if fault:
            raise InputError(f"{path}: image record {number}: {fault}; {_REMEDY}")
        sizes[image["id"]] = [image["height"], image["width"]]
    if len({type(key) for key in sizes}) > 1:
        raise InputError(f"{path}: ids of images are numbers and text; {_REMEDY}")
    for number, item in enumerate(data["annotations"]):
        fault = _unreadable_annotation(item, own) or (_fault_of_annotation(item, sizes, own) if refuse_faults else "")
        if fault:
            raise InputError(f"{path}: annotation record {number}: {fault}; {_REMEDY}")


def leads_outside_folder(name: str) -> bool:
    """Whether the name of an image leads outside the folder that it is looked for in, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root or ".." in windows.parts)


def is_box(value: Any) -> bool:
    """Whether a value is a ``bbox``: x, y, width and height, all finite."""
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _unreadable_image(image: Any) -> str:
    """Why the record of an image cannot be read; empty where it can."""
    if not isinstance(image, Mapping):
        return "it is no record"
    if not isinstance(image.get("id"), (int, str)):
        return "id is no number"
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return "file_name is no name"
    if not name.isprintable() and any("\ud800" <= letter <= "\udfff" or letter < " " for letter in name):
        return "file_name is no text"
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


def _unreadable_annotation(item: Any, own: bool) -> str:
    """Why the record of an annotation cannot be read; empty where it can."""
    if not isinstance(item, Mapping):
        return "it is no record"
    if not isinstance(item.get("image_id"), (int, str)):
        return "image_id is none of an image"
    if own and not isinstance(item.get("segmentation"), Mapping):
        return "it holds no run lengths; convert its polygons first"
    return "" if _is_finite(item.get("score", 1.0)) else "score is no number"


def _fault_of_annotation(item: Mapping[str, Any], sizes: Mapping[Any, list[int]], own: bool) -> str:
    """What is wrong with an annotation that can be read; empty where nothing is."""
    of, segmentation = item["image_id"], item.get("segmentation")
    if own and of not in sizes:
        return "image_id is none of an image"
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if of in sizes and size != sizes[of]:
            return f"segmentation has the size {str(size)[:40]}, its image {sizes[of]}"
        if not isinstance(counts, (str, list)):
            return "counts are no run lengths"
        if isinstance(counts, list) and not all(type(count) is int and 0 <= count < 1 << 62 for count in counts):
            return "counts are no run lengths"
    box = item.get("bbox")
    return "bbox is not x, y, width and height" if (own or box is not None) and not is_box(box) else ""


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e15 if isinstance(value, int) else math.isfinite(value)
