"""labelme's JSON: a file for each image with its shapes, the image perhaps in it.

The image in the file is taken where no other one is found. Polygons, rectangles, circles and masks are nuclei; shapes
with one ``group_id`` and label are pieces of one nucleus.
Written are masks, which keep every pixel, so labelme 5.2 or newer is needed to open them.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.json_files import write_json
from maskseg.core.limits import LABELS, check_claim
from maskseg.core.masks import CropMasks
from maskseg.formats.costs import Costs
from maskseg.formats.drawing import Drawing, number, rectangle, ring, text
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, known_shape
from maskseg.formats.reviewed import REVIEWED
from maskseg.formats.sources import begins_with, json_of, parsing, some_files_of, stated_shape
from maskseg.formats.writer import WholeWriter
from maskseg.imaging.reading import ImageFile, member_path

_VERSION = "5.5.0"
_SIGN = re.compile(rb'"shapes"\s*:\s*\[|"imagePath"\s*:')
# First letters of PNG and JPEG files in base64.
_ENCODED = {"iVBORw0KGgo": ".png", "/9j/": ".jpg"}
_OUTLINED = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")
_NO_AREA = ("point", "points", "line", "linestrip")


def recognises(source: Path) -> bool:
    """Whether a path is a labelme file, or holds such files."""
    return begins_with(source, _SIGN, ".json")


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The labelme files of a folder or zip file, or one of them; labels become classes.

    Raises
    ------
    InputError
        If there are none.
    """
    for file in some_files_of(source, ".json"):
        try:
            data = _parsed(file)
        except InputError as error:
            yield LeftOut(file.name, "file left out", str(error).removeprefix(f"{file.name}: "))
            continue
        name = text(data.get("imagePath"))
        yield Item(
            member_path(name).stem or file.id,
            partial(_load, file),
            file.name,
            stated_shape(data.get("imageHeight"), data.get("imageWidth")),
            within=_image_within(data.get("imageData"), member_path(name).stem or file.id, file),
            file_name=name,
            annotation_count=len(data["shapes"]),
            needs_shape=True,
        )


@dataclass(frozen=True)
class ImageWithin(ImageFile):
    """The image in a labelme file; `member` is the name that it has as a file."""

    file: ImageFile | None = None

    @property
    def name(self) -> str:
        """Path for messages."""
        assert self.file is not None
        return f"{self.file.name}: its imageData"

    def bytes(self) -> bytes:
        """The image as labelme stored it, PNG or JPEG.

        Raises
        ------
        InputError
            If it is cut short.
        """
        assert self.file is not None
        try:
            return base64.b64decode(_parsed(self.file)["imageData"], validate=True)
        except (binascii.Error, TypeError, ValueError, KeyError) as error:
            raise InputError(f"{self.name} is no image; save it again with labelme") from error


def _image_within(data: Any, name: str, file: ImageFile) -> ImageWithin | None:
    """The image that a labelme file holds, if it holds one."""
    if not isinstance(data, str):
        return None
    ending = next((ending for sign, ending in _ENCODED.items() if data.startswith(sign)), None)
    return ImageWithin(name, file.path, f"{name}{ending}", file=file) if ending else None


def _parsed(file: ImageFile) -> dict[str, Any]:
    data = json_of(file)
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise InputError(f"{file.name}: no labelme file, it has no list of shapes; save it with labelme")
    return data


def _load(file: ImageFile, shape: Shape | None) -> Nuclei:
    data = _parsed(file)
    shapes, flags = data["shapes"], data.get("flags")
    drawing = Drawing(file.name, known_shape(shape, file.name))
    with parsing(file.name):
        for place, one in _groups(shapes):
            with drawing.annotation(place, text(one[0].get("label")), _score(one[0])):
                _draw(drawing, one)
    # A flag of the image says the same as a shape around all of it.
    return drawing.nuclei(**({REVIEWED: True} if isinstance(flags, dict) and flags.get(REVIEWED) is True else {}))


def _groups(shapes: list[Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Shapes that are one nucleus, and which ones they are."""
    groups: dict[Any, tuple[str, list[dict[str, Any]]]] = {}
    for place, shape in enumerate(shapes, start=1):
        shape = shape if isinstance(shape, dict) else {}
        group = shape.get("group_id")
        key = place if group is None else (text(group), text(shape.get("label")))
        groups.setdefault(key, (f"shape {place}", []))[1].append(shape)
    return list(groups.values())


def _score(shape: dict[str, Any]) -> float:
    score = shape.get("score")
    return 1.0 if score is None else number(score)


def _draw(drawing: Drawing, shapes: list[dict[str, Any]]) -> None:
    masks = [shape for shape in shapes if shape.get("shape_type") == "mask"]
    if masks and len(masks) == len(shapes) == 1:
        drawing.bitmap(*_mask(masks[0], drawing.costs))
    elif masks:
        raise InputError("a mask in a group with other shapes; give it no group_id")
    elif len(shapes) == 1 and shapes[0].get("shape_type") == "circle":  # its centre, and a point of its edge
        (x, y), edge = (tuple(map(number, point[:2])) for point in shapes[0]["points"])
        radius = math.dist((x, y), edge)
        drawing.ellipse(x, y, radius, radius)
    else:
        drawing.polygons([[_outline(shape)] for shape in shapes])


def _outline(shape: dict[str, Any]) -> NDArray[np.float64]:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in _NO_AREA:
        raise InputError(f"a {kind} has no area; draw a polygon")
    # Other programs that write its form turn boxes, or write all their corners.
    if kind in _OUTLINED or (kind == "rectangle" and isinstance(points, list) and len(points) > 2):
        return ring(points)
    (x0, y0), (x1, y1) = (tuple(map(number, point[:2])) for point in points or ())
    if kind == "rectangle":
        return rectangle(x0, y0, x1, y1)
    raise InputError(f"shapes of type {text(kind)!r} are not known; draw a polygon")


def _mask(shape: dict[str, Any], costs: Costs) -> tuple[NDArray[np.bool_], int, int]:
    """Set pixels of a mask and the place of its top left one; its second corner is its last pixel."""
    x0, y0 = (round(number(value)) for value in shape["points"][0][:2])
    try:
        data = base64.b64decode(shape["mask"], validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            costs.written(len(data))
            costs.take_pixels(image.width * image.height)
            check_claim(4 * image.width * image.height, len(data), LABELS)
            return np.asarray(image.convert("L")) > 0, x0, y0
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("a mask that is no PNG; draw it again") from error


class LabelmeWriter(WholeWriter):
    """A labelme file of each image, which names the image and does not hold it."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`."""
        shapes: list[dict[str, Any]] = []
        boxes, kinds = masks.boxes.tolist(), masks.classes.tolist()
        for bitmap, (x0, y0, x1, y1), score, kind in zip(masks.bitmaps, boxes, masks.scores, kinds, strict=True):
            if not bitmap.any():
                self.left_out.append("without a pixel")
                continue
            _, encoded = cv2.imencode(".png", bitmap.astype(np.uint8) * 255)
            shapes.append(
                {
                    "label": self.image.class_names[kind],
                    "points": [[x0, y0], [x1 - 1, y1 - 1]],
                    "group_id": None,
                    "description": "",
                    "shape_type": "mask",
                    "flags": {},
                    "mask": base64.b64encode(encoded.tobytes()).decode(),
                    **({"score": float(str(score))} if self.image.scored else {}),
                }
            )
        height, width = masks.shape
        write_json(
            self.path,
            {
                **{"version": _VERSION, "flags": {}, "shapes": shapes},
                **{"imagePath": self.image.file_name or f"{self.image.image_id}.png", "imageData": None},
                **{"imageHeight": height, "imageWidth": width},
            },
            indent=2,
        )
