"""VGG Image Annotator's regions: projects and annotations of version 1 and 2 as JSON, and annotations as CSV.

Of version 3 the projects are read, in which a region is a number for its kind and the numbers of its points.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from maskseg.core.errors import InputError
from maskseg.formats.drawing import Drawing, number, rectangle, ring, text
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.sources import begins_with, content, json_of, parsing, some_files_of
from maskseg.imaging.reading import ImageFile, member_path

_SIGN = re.compile(
    rb'"_via_|__VIA_PROJECT|"data_format_version"\s*:|"file_attributes"\s*:|"region_attributes"\s*:|"shape_attributes"\s*:|region_shape_attributes'
)
_COLUMNS = ("filename", "region_shape_attributes")
# The kinds of regions of version 3 and the names of their numbers.
_NUMBERED: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("point", ()),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("line", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
}
# A region has attributes of any names; the first of these that it has is its class.
_CLASSES = ("class", "label", "name", "type", "category")


def recognises(source: Path) -> bool:
    """Whether a path is a VIA file, or holds one."""
    return begins_with(source, _SIGN, ".json", ".csv")


def read(source: Path) -> Iterator[Item]:
    """The images of the VIA files of a folder or zip file, or of one file.

    Raises
    ------
    InputError
        If there are none, or one is no VIA file.
    """
    files = some_files_of(source, ".json", ".csv")
    for file in [file for file in files if begins_with(file.path, _SIGN, "") or file.member] or files:
        with parsing(file.name):
            images = _of_csv(file) if file.name.lower().endswith(".csv") else _of_json(file)
        for name, regions in images:
            where = f"{file.name}: image {name}"
            load = partial(_load, where, regions)
            yield Item(
                member_path(name).stem, load, where, file_name=name, annotation_count=len(regions), needs_shape=True
            )


def _of_json(file: ImageFile) -> list[tuple[str, list[Any]]]:
    data = json_of(file)
    if isinstance(data, dict) and {"metadata", "file"} <= data.keys():
        return _of_version_3(data)
    data = data.get("_via_img_metadata", data) if isinstance(data, dict) else data
    records = list(data.values()) if isinstance(data, dict) else data
    if not isinstance(records, list) or not all(isinstance(one, dict) and "regions" in one for one in records):
        raise InputError(f"{file.name}: no VIA file, it has no regions of images; save it with VIA")
    images = []
    for record in records:
        regions = record["regions"]  # an object in version 1
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        images.append((text(record.get("filename")), regions if isinstance(regions, list) else []))
    return images


def _of_version_3(data: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """The images and regions of a project of version 3, in the form of version 2."""
    files = {key: text(one.get("fname")) for key, one in data["file"].items()}
    # A view shows a file; regions belong to views.
    views = {key: text((view.get("fid_list") or [""])[0]) for key, view in data.get("view", {}).items()}
    images: dict[str, list[Any]] = {name: [] for name in files.values()}
    for region in data["metadata"].values():
        numbers = region.get("xy")
        name = files.get(views.get(text(region.get("vid")), text(region.get("vid"))))
        if name is None or not numbers:  # what is said of the whole image
            continue
        kind, names = _NUMBERED.get(numbers[0], (f"shape of kind {text(numbers[0])}", ()))
        shape: dict[str, Any] = {"name": kind, **dict(zip(names, numbers[1:], strict=bool(names)))}
        if not names:
            shape.update(all_points_x=numbers[1::2], all_points_y=numbers[2::2])
        images[name].append({"shape_attributes": shape, "region_attributes": _named(data, region.get("av"))})
    return list(images.items())


def _named(data: dict[str, Any], values: Any) -> dict[str, str]:
    """The attributes of a region by their names, with the names of chosen options."""
    named = {}
    for key, value in (values or {}).items():
        attribute = data.get("attribute", {}).get(key, {})
        named[text(attribute.get("aname"))] = text((attribute.get("options") or {}).get(text(value), value))
    return named


def _of_csv(file: ImageFile) -> list[tuple[str, list[Any]]]:
    rows = csv.DictReader(io.StringIO(content(file).decode("utf-8-sig"), newline=""))
    if not set(_COLUMNS) <= set(rows.fieldnames or ()):
        raise InputError(f"{file.name}: no VIA file, its header has no {_COLUMNS[1]}; save it with VIA")
    images: dict[str, list[Any]] = {}
    for row in rows:
        regions = images.setdefault(row["filename"] or "", [])
        shape, attributes = (_parsed(row.get(f"region_{kind}_attributes")) for kind in ("shape", ""))
        attributes = _parsed(row.get("region_attributes"))
        if shape:  # an image without regions has a row, too
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return list(images.items())


def _parsed(cell: str | None) -> Any:
    try:
        return json.loads(cell or "{}")
    except (ValueError, RecursionError):
        return {"name": "text that is no JSON"}


def _load(where: str, regions: list[Any], shape: Shape | None) -> Nuclei:
    drawing = Drawing(where, known_shape(shape, where))
    for place, region in enumerate(regions, start=1):
        region = region if isinstance(region, dict) else {}
        with drawing.annotation(f"region {place}", _class_of(region.get("region_attributes"))):
            _draw(drawing, region.get("shape_attributes") or {})
    return drawing.nuclei()


def _class_of(attributes: Any) -> str:
    if not isinstance(attributes, dict):
        return ""
    values = [attributes[key] for key in _CLASSES if attributes.get(key)] or list(attributes.values())
    value = values[0] if len(values) > 0 else ""
    if isinstance(value, dict):  # ticked boxes
        value = "+".join(text(key) for key, ticked in value.items() if ticked)
    return text(value)


def _draw(drawing: Drawing, shape: dict[str, Any]) -> None:
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        drawing.polygons([[ring(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))]])
    elif kind == "rect":
        x, y, width, height = (number(shape[key]) for key in ("x", "y", "width", "height"))
        drawing.polygons([[rectangle(x, y, x + width, y + height)]])
    elif kind == "circle":
        drawing.ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    elif kind == "ellipse":
        drawing.ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], number(shape.get("theta") or 0))
    else:
        raise InputError(f"a {text(kind) or 'shape of no kind'} has no area; draw a polygon")
