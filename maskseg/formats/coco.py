"""COCO's JSON: data sets, predictions and other programs' files, all written here and in one way.

Written masks are run lengths, one category, images and annotations numbered from 1. What other programs write is read
by `maskseg.formats.coco_reader`.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
from maskseg.formats.coco_checks import check_records
from maskseg.formats.writer import Joined, WholeWriter

ANNOTATIONS = "annotations.json"
# Of a packed data set (see maskseg.data.pack).
PACKED = "annotations.json.gz"
# In a folder that `maskseg predict` wrote: the same nuclei as its label images, with their scores.
PREDICTIONS = "predictions.json"


def categories(name: str = "nucleus") -> list[dict[str, Any]]:
    """The one category of what is written."""
    return [{"id": 1, "name": name, "supercategory": "cell"}]


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
    return CocoData(path, images, grouped)


def image_id(image: Mapping[str, Any]) -> str:
    """Name of an image in tables and submissions: its file name without folder and ending."""
    return Path(image["file_name"]).stem


# ---- writing ----


def annotation(bitmap: NDArray[np.bool_], box: ArrayLike, shape: tuple[int, int]) -> dict[str, Any]:
    """Annotation of a mask that is not empty, without its ids.

    Parameters
    ----------
    bitmap : bool array (h, w)
        The mask inside its box.
    box : 4 ints
        x0, y0, x1, y1 in pixels, end exclusive.
    shape : (int, int)
        Height and width of the image.
    """
    x0, y0, x1, y1 = map(int, box)  # type: ignore[arg-type]
    starts, lengths = rle.crop_to_runs(bitmap, box, shape)
    return {
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(lengths.sum()),
        "iscrowd": 0,
        "segmentation": rle.runs_to_coco(starts, lengths, shape),
    }


def to_annotations(masks: CropMasks, scored: bool = False) -> list[dict[str, Any]]:
    """Annotations of the masks of an image, without their ids; with their scores, if asked for."""
    items = [annotation(bitmap, box, masks.shape) for bitmap, box in zip(masks.bitmaps, masks.boxes, strict=True)]
    if scored:
        for item, score in zip(items, masks.scores.tolist(), strict=True):
            item["score"] = round(score, 6)
            item["segmentation"] = item.pop("segmentation")  # last, being the longest
    return items


def encoded(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Annotations without ids as text, which may be made in another process than that of `CocoFile`."""
    return [json.dumps(item)[1:] for item in items]


class CocoFile:
    """A COCO file that is written image by image and appears, whole, when its block ends well.

    Only the records of images are held, so memory does not grow with the number of annotations. The file is complete,
    with ``images`` and ``categories``; its ``annotations``, where they have scores, are what pycocotools' ``loadRes``
    takes once their ``image_id`` are those of the truth.

    Parameters
    ----------
    path : path-like
    category : str
        What a mask shows.
    """

    def __init__(self, path: str | os.PathLike[str], category: str = "nucleus") -> None:
        self._path, self._category = path, category
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
            tail = {"images": self.images, "categories": categories(self._category), **_ABOUT}
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
    path: str | os.PathLike[str], images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> None:
    """Write records that have their ids, with the one category, nucleus; whole or not at all."""
    content = {"images": list(images), "annotations": list(annotations), "categories": categories(), **_ABOUT}
    write_json(path, content)


def write_predictions(path: str | os.PathLike[str], images: Iterable[tuple[str, CropMasks]]) -> None:
    """Write predictions, whole or not at all; the images, (file name, CropMasks), are taken one at a time."""
    with CocoFile(path) as file:
        for name, masks in images:
            height, width = masks.shape
            file.add({"file_name": name, "height": height, "width": width}, encoded(to_annotations(masks, scored=True)))


class CocoWriter(WholeWriter):
    """The record and the annotations of an image, for the file of all images."""

    def write(self, masks: CropMasks) -> list[Any]:
        """See `WholeWriter`."""
        image = self.image
        record = {"file_name": image.file_name, "height": image.shape[0], "width": image.shape[1], **image.fields}
        return [record, to_annotations(masks, image.scored)]


def join_coco(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the file of all images; the images are taken one at a time."""
    (path,) = paths
    with CocoFile(path) as file:
        for image in images:
            if not image.reason:
                record, items = image.record
                file.add(record, encoded(items))
