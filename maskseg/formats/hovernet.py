"""HoVer-Net's JSON: ``{"nuc": {"1": {"contour": [[x, y], ...], "type": 2, ...}}}`` a file an image, as CellViT's forks.

Contours are OpenCV's: they run through the centres of the outermost pixels, which belong to the nucleus. Holes and all
pieces of a nucleus but one are lost in them already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskseg.core.errors import InputError
from maskseg.formats.drawing import Drawing, text
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.sources import begins_with, json_of, parsing, some_files_of
from maskseg.imaging.reading import ImageFile

# The first contour of an object is the one that counts: to try others after it would take time by their square.
_SIGN = re.compile(rb'"nuc"\s*:\s*\{|(?:\A|[{}])(?>[^{}]*?"contour"\s*:\s*\[\s*\[)[^{}]*?"type(_prob)?"\s*:')


def recognises(source: Path) -> bool:
    """Whether a path is a JSON file of HoVer-Net, or holds such files."""
    return begins_with(source, _SIGN, ".json")


def read(source: Path) -> Iterator[Item]:
    """The JSON files of a folder or zip file, or one of them; each is for the image of the same name.

    Raises
    ------
    InputError
        If there are none.
    """
    for file in some_files_of(source, ".json"):
        yield Item(file.id, partial(_load, file), file.name, needs_shape=True)


def _load(file: ImageFile, shape: Shape | None) -> Nuclei:
    drawing = Drawing(file.name, known_shape(shape, file.name))
    data = json_of(file)
    nuclei = data.get("nuc", data) if isinstance(data, dict) else None
    if not isinstance(nuclei, dict) or (nuclei and not any(isinstance(one, dict) for one in nuclei.values())):
        raise InputError(f"{file.name}: no file of HoVer-Net, it has no nuclei by their numbers; predict again")
    for number, nucleus in nuclei.items():
        with drawing.annotation(f"nucleus {number[:20]}", _class_of(nucleus)), parsing("", "predict again"):
            _draw(drawing, nucleus["contour"])
    return drawing.nuclei()


def _class_of(nucleus: Any) -> str:
    return text(nucleus.get("type")) if isinstance(nucleus, dict) else ""


def _draw(drawing: Drawing, contour: Any) -> None:
    points = np.array(contour, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not (np.abs(points) <= 1 << 24).all():
        raise InputError("a contour that is no list of x, y; predict again")
    low = np.floor(points.min(axis=0)).astype(int)
    width, height = (np.ceil(points.max(axis=0)).astype(int) - low + 1).tolist()
    drawing.costs.written(points.size)
    drawing.costs.take_pixels(width * height)
    drawing.costs.take_length(float(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()))
    bitmap = np.zeros((height, width), np.uint8)
    # OpenCV fills the pixels of the line, too.
    cv2.fillPoly(bitmap, [np.rint(points - low).astype(np.int32)], (1,))
    drawing.bitmap(bitmap > 0, *low.tolist())
