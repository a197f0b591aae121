"""Outlines drawn in Aperio ImageScope: XML files with ``Annotation`` layers of ``Region`` outlines.

Where a vertex lies
-------------------
The published sets of this kind (MoNuSeg and its relatives) count vertices from 1, as their MATLAB readers do: pixel
(0, 0) of the image has its centre at vertex (1, 1). So `OFFSET` = (-1, -1) is added to every vertex, and then pixel
centres lie at whole numbers. These are the masks that published results are measured with, and so the default. With
(-0.5, -0.5), pixel corners at whole numbers, the lines lie where the annotators saw them: on 13 images of MoNuSeg the
edges under the lines are strongest there, if by 1.5 % only.

A pixel belongs to a region when its centre lies inside, that is, when the line winds around it: where a hand
overshoots the start of its line, it leaves no hole.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import Ring, outlines
from maskseg.core.xml_files import XmlWriter, read_xml
from maskseg.formats.aperio_masks import OFFSET, Region, region_masks
from maskseg.formats.classes import colours
from maskseg.formats.drawing import FARTHEST
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, known_shape
from maskseg.formats.sources import begins_with, content, some_files_of
from maskseg.formats.writer import WholeWriter
from maskseg.imaging.reading import ImageFile

# A region attribute of this name joins the regions of one layer that have the same value: pieces and holes of one
# nucleus. Aperio has no outline of several rings.
NUCLEUS = "nucleus number"
# What is written: the layer, and the names of the attributes of its regions.
_LAYER = {
    **{"Id": 1, "Name": "nuclei", "ReadOnly": 0, "NameReadOnly": 0, "LineColorReadOnly": 0, "Incremental": 0},
    **{"Type": 4, "LineColor": 65280, "Visible": 1, "Selected": 1, "MarkupImagePath": "", "MacroName": ""},
}
_HEADERS = {9999: "Region", 9997: "Length", 9996: "Area", 1: NUCLEUS, 2: "score"}
_DESCRIPTIONS = ("", "Description")
_SIGN = re.compile(rb"<Annotations[\s>]")


class AperioFile(NamedTuple):
    """The regions of a file in its order, and the side of a pixel in micrometres where the file has it."""

    regions: list[Region]
    microns_per_pixel: float | None


def read_regions(source: str | os.PathLike[str] | bytes, name: str | None = None) -> AperioFile:
    """Read the outlines of an Aperio XML file.

    Parameters
    ----------
    source : path or bytes
        The file, or its content.
    name : str, optional
        What errors call it; the path where not given.

    Returns
    -------
    AperioFile
        All regions of all layers; one that is no outline (fewer than three points, a vertex that is no number) has
        its `Region.fault`.

    Raises
    ------
    InputError
        If it is missing, malformed, no Aperio file, or defines entities, as only an attack does.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "annotations")
    root = read_xml(source if isinstance(source, bytes) else Path(source), name)
    if root.tag != "Annotations":
        raise InputError(f"{name}: no Aperio file (it holds {root.tag!r}, not Annotations); export it from ImageScope")
    regions = [
        _region(element, _layer_name(layer), number)
        for layer in root.iterfind("Annotation")
        for number, element in enumerate(layer.iterfind("Regions/Region"), start=1)
    ]
    return AperioFile(regions, _positive(root.get("MicronsPerPixel", "")))


def _layer_name(layer: Element) -> str:
    """Its name; where it has none, that of its attribute (MoNuSAC has the class there), otherwise its Id."""
    names = [layer.get("Name")]
    for item in layer.iterfind("Attributes/Attribute"):
        # ImageScope gives every layer an empty description.
        names.append(item.get("Value") if item.get("Name") in _DESCRIPTIONS else item.get("Name"))
    return next(filter(None, names), layer.get("Id", ""))


def _region(element: Element, layer: str, number: int) -> Region:
    attributes = {item.get("Name"): item.get("Value", "") for item in element.iterfind("Attributes/Attribute")}
    vertices = element.findall("Vertices/Vertex")
    try:
        points = np.array([(item.attrib["X"], item.attrib["Y"]) for item in vertices], np.float64).reshape(-1, 2)
        fault = "" if len(points) > 2 else f"{len(points)} points; an outline has three or more"
        if not np.isfinite(points).all():
            raise ValueError
        if points.size and np.abs(points).max() > FARTHEST:
            points, fault = np.zeros((0, 2)), f"a vertex at {np.abs(points).max():g} pixels; draw it again"
    except (KeyError, ValueError):
        points, fault = np.zeros((0, 2)), "a vertex without numbers X and Y; draw it again"
    negative = element.get("NegativeROA") == "1"
    return Region(layer, element.get("Id") or str(number), points, negative, attributes.get(NUCLEUS, ""), fault)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


# ---- nuclei to files ----


def write_aperio_xml(
    path: str | os.PathLike[str],
    masks: CropMasks,
    microns_per_pixel: float | None = None,
    offset: tuple[float, float] = OFFSET,
    names: Sequence[str] = (),
) -> None:
    """Write masks as one layer of regions, whole or not at all; `region_masks` reads them back, exactly.

    Every ring of a nucleus is a region of its own, a hole one with ``NegativeROA``; they carry the number of their
    nucleus, counted from 1, as the attribute `NUCLEUS`. Empty masks have no region.

    Parameters
    ----------
    path : path-like
        Ends in .xml.
    masks : CropMasks
    microns_per_pixel : float, optional
        Side of a pixel in micrometres.
    offset : (float, float)
        What a reader adds to x and y of the vertices so that pixel centres lie at whole numbers.
    names : sequence of str
        Where there are several classes, what they are called: each is a layer in a colour of its own.
    """
    scale = {"MicronsPerPixel": microns_per_pixel} if microns_per_pixel else {}
    with write_whole(path, "w", encoding="utf-8") as file:
        xml = XmlWriter(file, indent="\t")
        with xml.element("Annotations", **scale):
            for kind, layer in enumerate(_layers(names)):
                own = np.arange(len(masks)) if len(names) < 2 else np.flatnonzero(masks.classes == kind)
                with xml.element("Annotation", **layer):
                    with xml.element("Regions"):
                        with xml.element("RegionAttributeHeaders"):
                            for number, name in _HEADERS.items():
                                xml.leaf("AttributeHeader", Id=number, Name=name, ColumnWidth=-1)
                        _write_regions(xml, masks, own.tolist(), microns_per_pixel, np.array(offset))
                    xml.leaf("Plots")
        file.write("\n")


def _layers(names: Sequence[str]) -> list[dict[str, Any]]:
    """Attributes of the layers: the one of all nuclei, or one a class."""
    if len(names) < 2:
        return [_LAYER]
    colour_of = colours(names)
    # ImageScope has a colour as one number, red in its lowest byte.
    numbers = [red | green << 8 | blue << 16 for red, green, blue in colour_of.values()]
    return [
        {**_LAYER, "Id": place, "Name": name, "LineColor": number}
        for place, (name, number) in enumerate(zip(names, numbers, strict=True), start=1)
    ]


def class_of_layer(layer: str) -> str:
    """The class that a layer stands for; the one that maskseg writes for all nuclei is none."""
    return "" if layer == _LAYER["Name"] else layer


def _write_regions(
    xml: XmlWriter, masks: CropMasks, own: Sequence[int], scale: float | None, offset: NDArray[np.float64]
) -> None:
    number = 0
    boxes = masks.boxes.tolist()
    for nucleus, bitmap, box in ((index + 1, masks.bitmaps[index], boxes[index]) for index in own):
        for polygon in outlines(bitmap, (box[0], box[1])):
            for place, ring in enumerate(polygon):
                number += 1
                with xml.element("Region", **_region_attributes(number, ring, place > 0, scale)):
                    with xml.element("Attributes"):
                        xml.leaf("Attribute", Name=NUCLEUS, Id=1, Value=nucleus)
                        xml.leaf("Attribute", Name="score", Id=2, Value=masks.scores[nucleus - 1])
                    with xml.element("Vertices"):
                        for x, y in (ring - 0.5 - offset).tolist():
                            xml.leaf("Vertex", X=x, Y=y)


def _region_attributes(number: int, ring: Ring, hole: bool, scale: float | None) -> dict[str, Any]:
    after = np.roll(ring, -1, axis=0)
    length = np.abs(after - ring).sum()  # along pixel edges
    area = abs(int((ring[:, 0] * after[:, 1].astype(np.int64) - after[:, 0] * ring[:, 1].astype(np.int64)).sum())) / 2
    micrometres = {"LengthMicrons": f"{length * scale:.1f}", "AreaMicrons": f"{area * scale**2:.1f}"} if scale else {}
    return {
        "Id": number,
        **{"Type": 0, "Zoom": 1, "Selected": 0, "ImageLocation": "", "ImageFocus": 0},
        **{"Length": f"{length:.1f}", "Area": f"{area:.1f}", **micrometres},
        **{"Text": "", "NegativeROA": int(hole), "InputRegionId": 0, "Analyze": 1, "DisplayId": number},
    }


class AperioWriter(WholeWriter):
    """An XML file of each image."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`."""
        write_aperio_xml(self.path, masks, self.image.microns_per_pixel, names=self.image.class_names)


# ---- files to nuclei ----


def recognises(source: Path) -> bool:
    """Whether a path is an XML file of ImageScope, or a folder or zip file with such files."""
    return begins_with(source, _SIGN, ".xml")


def read(source: Path) -> Iterator[Item]:
    """The XML files of a folder or zip file, or one file; each is for the image of the same name.

    Layers become classes.

    Raises
    ------
    InputError
        If there are none.
    """
    for file in some_files_of(source, ".xml"):
        yield Item(file.id, partial(_load, file), file.name, needs_shape=True)


def _load(file: ImageFile, shape: Shape | None) -> Nuclei:
    regions, scale = read_regions(content(file), file.name)
    drawn = region_masks(regions, known_shape(shape, file.name))
    lost = [
        LeftOut(f"{file.name}: region {regions[i].id} of layer {regions[i].layer}", "region left out", reason)
        for i, reason in sorted(drawn.lost.items())
    ]
    classes = [class_of_layer(regions[members[0]].layer) for members in drawn.members]
    return Nuclei(drawn.masks, classes, lost, {"microns_per_pixel": scale} if scale else {})
