"""COCO's JSON: data sets, predictions and other programs' files, all written here and in one way.

Written masks are run lengths, images, annotations and categories numbered from 1; where nothing is known of classes
there is the one category, nucleus. What other programs write is read by `maskseg.formats.coco_reader`.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.json_files import read_json, write_json
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS, Categories, class_name
from maskseg.formats.coco_checks import check_records
from maskseg.formats.sources import whole_number
from maskseg.formats.writer import Joined, WholeWriter

ANNOTATIONS = "annotations.json"
# Of a packed data set (see maskseg.data.pack).
PACKED = "annotations.json.gz"
# In a folder that `maskseg predict` wrote: the same nuclei as its label images, with their scores.
PREDICTIONS = "predictions.json"
_CATEGORY = '"category_id": '


def categories(names: Sequence[str] = (NUCLEUS,)) -> list[dict[str, Any]]:
    """The categories of what is written."""
    return [{"id": number, "name": name, "supercategory": "cell"} for number, name in enumerate(names, start=1)]


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
    categories : mapping of str to str
        Names of the categories by their ids (`key_of`), in the order of the file.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: Mapping[int, list[dict[str, Any]]]
    categories: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories, each once; nucleus where the file has none."""
        return tuple(dict.fromkeys(self.categories.values())) or (NUCLEUS,)

    def class_of(self, item: Mapping[str, Any]) -> str:
        """Name of the class of an annotation."""
        return self.categories.get(key_of(item.get("category_id")) or "", self.class_names[0])

    def masks(self, image: Mapping[str, Any]) -> CropMasks:
        """The nuclei of an image, with their scores where they are predictions; classes as in `class_names`."""
        items = self.annotations.get(image["id"], [])
        rles, scores = [item["segmentation"] for item in items], [item.get("score", 1.0) for item in items]
        place = {name: index for index, name in enumerate(self.class_names)}
        classes = [place[self.class_of(item)] for item in items]
        return CropMasks.from_rle(rles, (image["height"], image["width"]), scores, classes)


def is_dataset(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a data set, packed or not."""
    return any((Path(folder) / name).is_file() for name in (ANNOTATIONS, PACKED))


def read_annotations(path: Path) -> Any:
    """The content of a JSON file, or of one that is packed with gzip and named ``.gz``.

    Raises
    ------
    InputError
        If it is missing, damaged or no JSON.
    """
    remedy = "make it with maskseg convert"
    return read_json(path, remedy, "COCO", missing=remedy)


def load_coco(path: str | os.PathLike[str], refuse_faults: bool = True) -> CocoData:
    """Read a data set folder, packed or not, or a COCO JSON file whose segmentations are run lengths.

    Parameters
    ----------
    path : path
    refuse_faults : bool
        As for `check_records`; only what looks for these faults by itself does without.

    Raises
    ------
    InputError
        If it is missing or not such a file.
    """
    path = Path(path)
    own = path.is_dir()
    if own:
        packed = path / PACKED
        path = path / ANNOTATIONS
        if packed.is_file() and not path.is_file():
            path = packed
    elif path.suffix.lower() == ".zip" and path.is_file():
        raise InputError(f"{path}: a data set is a folder; unpack it, or make one by: maskseg convert auto")
    data = read_annotations(path)
    check_records(path, data, own, refuse_faults)
    try:
        images = sorted(data["images"], key=lambda image: image["id"])
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for item in data["annotations"]:
            if not isinstance(item["segmentation"], dict):
                raise InputError(
                    f"{path}: annotation {item.get('id')} holds no run lengths; convert its polygons first"
                )
            grouped[item["image_id"]].append(item)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a COCO file ({type(error).__name__}: {error}); make it with maskseg convert"
        ) from error
    return CocoData(path, images, grouped, category_names(data))


def category_names(data: Mapping[str, Any]) -> dict[str, str]:
    """Names of the categories of a COCO file by `key_of` their ids; what is no category is passed over."""
    rows = data.get("categories")
    names = {}
    for row in rows if isinstance(rows, list) else ():
        key = key_of(row.get("id")) if isinstance(row, dict) else None
        if key is not None and "name" in row:
            names[key] = class_name(row["name"])
    return names


def key_of(value: Any) -> str | None:
    """An id as a key: 7, 7.0 and "7", which files mix, are the same; None for what is no id."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    number = (
        whole_number(value) if not isinstance(value, str) or re.fullmatch(r"\s*[1-9]\d*(\.0*)?\s*|0", value) else None
    )
    return str(value) if number is None else str(number)


def image_id(image: Mapping[str, Any]) -> str:
    """Name of an image in tables and submissions: its file name without folder and ending."""
    return Path(image["file_name"]).stem


# ---- writing ----


def annotation(bitmap: NDArray[np.bool_], box: ArrayLike, shape: tuple[int, int], category: int = 1) -> dict[str, Any]:
    """Annotation of a mask that is not empty, without its ids.

    Parameters
    ----------
    bitmap : bool array (h, w)
        The mask inside its box.
    box : 4 ints
        x0, y0, x1, y1 in pixels, end exclusive.
    shape : (int, int)
        Height and width of the image.
    category : int
    """
    x0, y0, x1, y1 = map(int, box)  # type: ignore[arg-type]
    starts, lengths = rle.crop_to_runs(bitmap, box, shape)
    return {
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(lengths.sum()),
        "iscrowd": 0,
        "segmentation": rle.runs_to_coco(starts, lengths, shape),
    }


def to_annotations(masks: CropMasks, scored: bool = False) -> list[dict[str, Any]]:
    """Annotations of the masks of an image, without their ids; with their scores, if asked for.

    Classes are the categories from 1.
    """
    items = [
        annotation(bitmap, box, masks.shape, 1 + kind)
        for bitmap, box, kind in zip(masks.bitmaps, masks.boxes, masks.classes.tolist(), strict=True)
    ]
    if scored:
        for item, score in zip(items, masks.scores.tolist(), strict=True):
            item["score"] = round(score, 6)
            item["segmentation"] = item.pop("segmentation")  # last, being the longest
    return items


def encoded(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Annotations without ids as text, which may be made in another process than that of `CocoFile`."""
    return [json.dumps(item)[1:] for item in items]


def renumbered(bodies: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Texts of `encoded` with other categories: ``numbers[k - 1]`` in place of k."""
    if list(numbers) == list(range(1, len(numbers) + 1)):
        return list(bodies)
    changed = []
    for body in bodies:
        # The first of the fields.
        old, rest = body[len(_CATEGORY) :].split(",", 1)
        changed.append(f"{_CATEGORY}{numbers[int(old) - 1]},{rest}")
    return changed


class CocoFile:
    """A COCO file that is written image by image and appears, whole, when its block ends well.

    Only the records of images are held, so memory does not grow with the number of annotations. The file is complete,
    with ``images`` and ``categories``; its ``annotations``, where they have scores, are what pycocotools' ``loadRes``
    takes once their ``image_id`` are those of the truth.

    Parameters
    ----------
    path : path-like
    names : sequence of str
        What masks show: the categories of the annotations that come.
    """

    def __init__(self, path: str | os.PathLike[str], names: Sequence[str] = (NUCLEUS,)) -> None:
        self._path, self.names = path, list(names)
        self._stack = ExitStack()
        self.images: list[dict[str, Any]] = []
        self.count = 0

    def __enter__(self) -> CocoFile:
        self._file = self._stack.enter_context(write_whole(self._path, "w", encoding="utf-8"))
        self._file.write('{"annotations": [')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            tail = {"images": self.images, "categories": categories(self.names), **_ABOUT}
            # Inside the stack's care: a disk that is full here still leaves no half a file.
            self._stack.callback(self._file.write, "], " + json.dumps(tail)[1:] + "\n")
        self._stack.__exit__(kind, error, traceback)

    def add(self, record: Mapping[str, Any], bodies: Iterable[str]) -> None:
        """Write the annotations of an image, as `encoded` makes them; its record has no id."""
        self.images.append({"id": len(self.images) + 1, **record})
        for body in bodies:
            self.count += 1
            self._file.write("\n" if self.count == 1 else ",\n")
            self._file.write(f'{{"id": {self.count}, "image_id": {len(self.images)}, {body}')


# COCO asks for these; they say nothing about the images.
_ABOUT: dict[str, Any] = {"info": {"description": "written by maskseg"}, "licenses": []}


def write_coco(
    path: str | os.PathLike[str],
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    names: Sequence[str] = (NUCLEUS,),
) -> None:
    """Write records that have their ids, their categories being those named from 1 on; whole or not at all."""
    content = {"images": list(images), "annotations": list(annotations), "categories": categories(names), **_ABOUT}
    write_json(path, content)


def write_predictions(
    path: str | os.PathLike[str], images: Iterable[tuple[str, CropMasks]], names: Sequence[str] = (NUCLEUS,)
) -> None:
    """Write predictions, whole or not at all; the images, (file name, CropMasks), are taken one at a time."""
    with CocoFile(path, names) as file:
        for name, masks in images:
            height, width = masks.shape
            file.add({"file_name": name, "height": height, "width": width}, encoded(to_annotations(masks, scored=True)))


class CocoWriter(WholeWriter):
    """The record and the annotations of an image, for the file of all images."""

    def write(self, masks: CropMasks) -> list[Any]:
        """See `WholeWriter`."""
        image = self.image
        record = {"file_name": image.file_name, "height": image.shape[0], "width": image.shape[1], **image.fields}
        return [record, to_annotations(masks, image.scored), list(image.class_names)]


def join_coco(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the file of all images; the images are taken one at a time."""
    (path,) = paths
    known = Categories()
    with CocoFile(path) as file:
        for image in images:
            if not image.reason:
                record, items, names = image.record
                # All of them, in the order of the model: the same whatever is found first.
                for name in names:
                    known.number(name)
                for item in items:
                    item["category_id"] = known.number(names[item["category_id"] - 1])
                file.add(record, encoded(items))
        file.names = known.names
