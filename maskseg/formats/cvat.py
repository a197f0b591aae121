"""CVAT's XML for images, version 1.1: polygons, masks, boxes and ellipses; shapes of one group are one nucleus."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.outlines import Ring
from maskseg.core.xml_files import read_xml
from maskseg.formats.costs import Costs
from maskseg.formats.drawing import Drawing, number, rectangle, ring
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, known_shape
from maskseg.formats.reviewed import REVIEWED, is_mark
from maskseg.formats.sources import begins_with, content, parsing, some_files_of, stated_shape, whole_number
from maskseg.imaging.reading import member_path

_SIGN = re.compile(rb"<annotations[\s>]")
_SHAPES = ("polygon", "mask", "box", "ellipse", "polyline", "points", "cuboid", "skeleton")


def recognises(source: Path) -> bool:
    """Whether a path is an XML file of CVAT, or holds one."""
    return begins_with(source, _SIGN, ".xml")


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The images of the XML files of a folder or zip file, or of one file; labels become classes.

    Raises
    ------
    InputError
        If there are none, or one is no file of CVAT for images.
    """
    for file in some_files_of(source, ".xml"):
        root = read_xml(content(file), file.name)
        if root.tag != "annotations":
            raise InputError(f"{file.name}: no file of CVAT (it holds {root.tag[:40]!r}); export CVAT for images 1.1")
        for track in root.iterfind("track"):
            where = f"{file.name}: track {track.get('id', '')}"
            yield LeftOut(
                where, "track left out", "tracks are of a video; export CVAT for images 1.1", annotation_count=1
            )
        for image in root.iterfind("image"):
            name = image.get("name", "")
            where = f"{file.name}: image {name or image.get('id', '')}"
            # Elements hold all of their file when they go to another process; their attributes do not.
            shapes = [(one.tag, dict(one.attrib)) for one in image if one.tag in _SHAPES]
            size = stated_shape(image.get("height"), image.get("width"))
            # A tag of the image says the same as a shape around all of it.
            marked = any(is_mark(tag.get("label", "")) for tag in image.iterfind("tag"))
            load = partial(_load, where, shapes, marked)
            stem = member_path(name).stem or _id(image)
            yield Item(stem, load, where, size, file_name=name, annotation_count=len(shapes), needs_shape=True)


def _id(image: Element) -> str:
    return image.get("id", "image")


def _load(where: str, shapes: list[tuple[str, dict[str, str]]], marked: bool, shape: Shape | None) -> Nuclei:
    drawing = Drawing(where, known_shape(shape, where))
    groups: dict[Any, tuple[int, list[tuple[str, dict[str, str]]]]] = {}
    for place, (kind, values) in enumerate(shapes, start=1):
        group = values.get("group_id", "0")
        key = place if group in ("", "0") else (group, values.get("label"))
        groups.setdefault(key, (place, []))[1].append((kind, values))
    for place, members in groups.values():
        with (
            drawing.annotation(f"shape {place}", members[0][1].get("label", "")[:200]),
            parsing("", "draw it again"),
        ):
            if members[0][0] == "mask":
                _draw_masks(drawing, members)
            else:
                drawing.polygons([[_outline(kind, values)] for kind, values in members])
    return drawing.nuclei(**({REVIEWED: True} if marked else {}))


def _draw_masks(drawing: Drawing, members: list[tuple[str, dict[str, str]]]) -> None:
    if any(kind != "mask" for kind, _ in members):
        raise InputError("a mask in a group with other shapes; ungroup it")
    masks = [_mask(values, drawing.costs) for _, values in members]
    if len(masks) == 1:
        drawing.bitmap(*masks[0])
        return
    # Pieces may lie far from each other: the part of the image around them is a mask, too.
    height, width = drawing.shape
    x0, y0 = (int(np.clip(min(mask[axis] for mask in masks), 0, drawing.shape[2 - axis])) for axis in (1, 2))
    x1 = min(max(x + bitmap.shape[1] for bitmap, x, _ in masks), width)
    y1 = min(max(y + bitmap.shape[0] for bitmap, _, y in masks), height)
    drawing.costs.take_pixels(max(x1 - x0, 0) * max(y1 - y0, 0))
    united = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), bool)
    for bitmap, x, y in masks:
        left, top = x - x0, y - y0
        part = united[max(top, 0) : max(top + bitmap.shape[0], 0), max(left, 0) : max(left + bitmap.shape[1], 0)]
        part |= bitmap[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    drawing.bitmap(united, x0, y0)


def _mask(values: dict[str, str], costs: Costs) -> tuple[NDArray[np.bool_], int, int]:
    """Pixels of a mask and the place of its box: runs along the rows, by turns outside and inside."""
    left, top, width, height = (whole_number(values.get(key)) for key in ("left", "top", "width", "height"))
    if left is None or top is None or not width or not height or min(width, height) < 1:
        raise InputError("a mask without a box; draw it again")
    runs = np.array(values.get("rle", "").replace(",", " ").split(), np.int64)
    costs.written(len(runs))
    costs.take_pixels(width * height)
    if (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        # The last run may be left out where it is outside.
        if (runs < 0).any() or len(runs) > width * height + 1 or runs.sum() > width * height:
            raise InputError("a mask whose runs do not fill its box; draw it again")
        runs = np.append(runs, [0] * (len(runs) % 2) + [width * height - runs.sum()])
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(height, width), left, top


def _outline(kind: str, values: dict[str, str]) -> Ring:
    if kind == "polygon":
        return ring([point.split(",") for point in values["points"].split(";")])
    turned = math.radians(number(values.get("rotation", 0)))
    if kind == "box":
        x0, y0, x1, y1 = (number(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        turn = np.array([[math.cos(turned), math.sin(turned)], [-math.sin(turned), math.cos(turned)]])
        return ring((rectangle(x0, y0, x1, y1) - centre) @ turn + centre)
    if kind == "ellipse":
        x, y, across, down = (number(values[key]) for key in ("cx", "cy", "rx", "ry"))
        angle = np.linspace(0, 2 * math.pi, 360, endpoint=False)
        points = np.stack([across * np.cos(angle), down * np.sin(angle)], axis=1)
        turn = np.array([[math.cos(turned), math.sin(turned)], [-math.sin(turned), math.cos(turned)]])
        return ring(points @ turn + (x, y))
    raise InputError(f"{kind} has no area; draw a polygon")
