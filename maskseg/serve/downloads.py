"""The nuclei of an image as files for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskseg.core.masks import CropMasks
from maskseg.formats.geojson import write_geojson
from maskseg.formats.imagej import write_imagej
from maskseg.formats.labels import TILE, LabelWriter, write_labels
from maskseg.formats.nuclei_table import columns_of, nucleus_rows, write_nuclei
from maskseg.formats.overlay import overlay_of_classes, write_picture
from maskseg.formats.writer import ImageInfo, write_all
from maskseg.serve.classes import Classes
from maskseg.serve.pictures import LARGE, Picture
from maskseg.serve.session import Session

# What the classes of the masks are called.
Names = tuple[str, ...]

# The longer side of the picture with outlines.
_OVERLAY = 4096


def write(form: str, path: Path, session: Session, picture: Picture, classes: Classes) -> None:
    """Write the nuclei of a session in one of `FORMS`, as they are at this moment, with the names of their classes.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with session.lock:
        _, masks = session.nuclei.masks()
    if masks.shape[0] * masks.shape[1] > LARGE:
        # By the row where they begin: a label image is then written band by band, and all forms number alike.
        masks = masks[np.argsort(masks.boxes[:, 1], kind="stable")]
    masks, names = classes.named(masks)
    _WRITERS[form](path, masks, picture, names)


def _labels(path: Path, masks: CropMasks, picture: Picture, _: Names) -> None:
    height, width = masks.shape
    if height * width <= LARGE:
        write_labels(path, masks.to_labels())
        return
    ends = np.searchsorted(masks.boxes[:, 1], np.arange(TILE, height + TILE, TILE))
    begins = [0, *ends[:-1].tolist()]
    bands = [
        (masks[begin:end], min((k + 1) * TILE, height))
        for k, (begin, end) in enumerate(zip(begins, ends.tolist(), strict=True))
    ]
    info = ImageInfo(picture.file.id, masks.shape, at_most=len(masks))
    write_all([LabelWriter(info, path)], bands)


def _table(path: Path, masks: CropMasks, picture: Picture, names: Names) -> None:
    values: Any = _Values(picture)
    rows = nucleus_rows(picture.file.id, masks, values, picture.mpp, names=names)
    write_nuclei(path, rows, columns_of(classified=len(names) > 1))


class _Values:
    """The values of a picture as an array from which boxes are taken."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        rows, columns = place
        return self._picture.values((columns.start, rows.start, columns.stop, rows.stop))


def _overlay(path: Path, masks: CropMasks, picture: Picture, names: Names) -> None:
    image = picture.overview(_OVERLAY)
    classes = np.concatenate([np.zeros(1, np.int32), masks.classes])
    if image.shape[:2] == masks.shape:
        write_picture(path, overlay_of_classes(image, masks.to_labels(), classes, names))
        return
    step = 1 << int(np.ceil(np.log2(max(masks.shape) / _OVERLAY)))
    small = np.zeros(image.shape[:2], np.int32)
    for label, (bitmap, (x0, y0, _, _)) in enumerate(zip(masks.bitmaps, masks.boxes.tolist(), strict=True), start=1):
        part = bitmap[-y0 % step :: step, -x0 % step :: step]
        place = small[-(-y0 // step) :, -(-x0 // step) :][: part.shape[0], : part.shape[1]]
        place[part[: place.shape[0], : place.shape[1]]] = label
    write_picture(path, overlay_of_classes(image, small, classes, names))


_WRITERS: dict[str, Callable[[Path, CropMasks, Picture, Names], None]] = {
    "labels": _labels,
    "geojson": lambda path, masks, _, names: write_geojson(path, masks, names),
    "rois": lambda path, masks, _, names: write_imagej(path, masks, names),
    "table": _table,
    "overlay": _overlay,
}
# Name -> ending and media type.
FORMS = {
    "labels": (".labels.tif", "image/tiff"),
    "geojson": (".geojson", "application/geo+json"),
    "rois": (".rois.zip", "application/zip"),
    "table": (".nuclei.csv", "text/csv"),
    "overlay": (".overlay.png", "image/png"),
}
