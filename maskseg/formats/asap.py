"""ASAP's XML: outlines on a slide or an image, in the pixels of its full size; groups become classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.core.xml_files import read_xml
from maskseg.formats.drawing import Drawing, ring
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.reviewed import REVIEWED, is_mark
from maskseg.formats.sources import begins_with, content, some_files_of
from maskseg.imaging.reading import ImageFile

_SIGN = re.compile(rb"<ASAP_Annotations")
_OUTLINES = ("Polygon", "Spline", "Rectangle")
# The group of what is in no group.
_NONE = "None"


def recognises(source: Path) -> bool:
    """Whether a path is an XML file of ASAP, or a folder or zip file with such files."""
    return begins_with(source, _SIGN, ".xml")


def read(source: Path) -> Iterator[Item]:
    """The XML files of a folder or zip file, or one of them; each is for the image of the same name.

    Raises
    ------
    InputError
        If there are none.
    """
    for file in some_files_of(source, ".xml"):
        yield Item(file.id, partial(_load, file), file.name, needs_shape=True)


def _load(file: ImageFile, shape: Shape | None) -> Nuclei:
    root = read_xml(content(file), file.name)
    if root.tag != "ASAP_Annotations":
        raise InputError(f"{file.name}: no file of ASAP (it holds {root.tag[:40]!r}); save it with ASAP")
    drawing = Drawing(file.name, known_shape(shape, file.name))
    for place, one in enumerate(root.iterfind("Annotations/Annotation"), start=1):
        group = one.get("PartOfGroup", "")
        name = REVIEWED if is_mark(one.get("Name", "")) else "" if group == _NONE else group[:200]
        with drawing.annotation(f"annotation {place}", name):
            kind = one.get("Type", "Polygon")
            if kind not in _OUTLINES:
                raise InputError(f"a {kind[:40]} has no area; draw a polygon")
            # Some locales have decimal commas.
            points = [
                (point.get("X", "").replace(",", "."), point.get("Y", "").replace(",", "."))
                for point in one.iterfind("Coordinates/Coordinate")
            ]
            drawing.polygons([[ring(points)]])
    return drawing.nuclei()
