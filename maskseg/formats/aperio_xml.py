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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks, trim
from maskseg.core.outlines import Ring, outlines, rasterise
from maskseg.core.xml_files import XmlWriter, read_xml
from maskseg.formats.classes import colours
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, known_shape
from maskseg.formats.sources import begins_with, content, some_files_of
from maskseg.formats.writer import WholeWriter
from maskseg.imaging.reading import ImageFile

_Crop = tuple[tuple[int, int, int, int], NDArray[np.bool_]]
OFFSET = (-1.0, -1.0)
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


@dataclass(frozen=True)
class Region:
    """One outline.

    Attributes
    ----------
    layer : str
        Name of its ``Annotation``, or that of its attribute, or its Id where it has none.
    id : str
        Its Id, or its place in the layer, counted from 1.
    points : float64 array (V, 2)
        x, y as they are in the file.
    negative : bool
        A hole (``NegativeROA``).
    nucleus : str
        Value of its attribute `NUCLEUS`; empty where it has none.
    fault : str
        Why it is no outline; empty where it is one.
    """

    layer: str
    id: str
    points: NDArray[np.float64]
    negative: bool = False
    nucleus: str = ""
    fault: str = ""


class AperioFile(NamedTuple):
    """The regions of a file in its order, and the side of a pixel in micrometres where the file has it."""

    regions: list[Region]
    microns_per_pixel: float | None


@dataclass
class RegionMasks:
    """Masks of regions as they were drawn: they may overlap.

    Attributes
    ----------
    masks : CropMasks
        One for each nucleus, none of them empty.
    members : list of lists of int
        For each mask, the indices of the regions that it is made of: outlines, and holes cut out of it.
    lost : mapping of region index to str
        Why a region is in no mask.
    beyond : set of int
        Regions of which pixels lie outside the image.
    """

    masks: CropMasks
    members: list[list[int]] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    beyond: set[int] = field(default_factory=set)


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


def region_masks(
    regions: Sequence[Region], shape: tuple[int, int], offset: tuple[float, float] = OFFSET
) -> RegionMasks:
    """Masks of regions, holes cut out.

    A hole (``NegativeROA``) is cut out of every nucleus of its layer that it meets and that is larger than it; smaller
    nuclei inside it stay. One that has the attribute `NUCLEUS` is cut out of that nucleus only.

    Parameters
    ----------
    regions : sequence of Region
    shape : (int, int)
        Height and width of the image; what lies outside is cut off.
    offset : (float, float)
        Added to the x and y of all vertices; pixel centres then lie at whole numbers.
    """
    lost = {i: region.fault for i, region in enumerate(regions) if region.fault}
    crops: dict[int, _Crop] = {}
    beyond = set()
    for i, region in enumerate(regions):
        if i not in lost:
            crops[i], outside = _rasterise(region.points + offset, shape)
            if outside:
                beyond.add(i)
            if not crops[i][1].any():
                del crops[i]
                lost[i] = "no pixel of the image inside it"
    groups: dict[tuple[str, object], list[int]] = {}
    for i in crops:
        if not regions[i].negative:
            groups.setdefault((regions[i].layer, regions[i].nucleus or i), []).append(i)
    unions = {key: _union([crops[i] for i in members]) for key, members in groups.items()}
    areas = {key: np.count_nonzero(bitmap) for key, (_, bitmap) in unions.items()}
    for i, (box, bitmap) in crops.items():
        hole = regions[i]
        if hole.negative:
            lost[i] = "a hole (NegativeROA) in no larger region"
            if hole.nucleus:
                keys: list[tuple[str, object]] = [(hole.layer, hole.nucleus)]
            else:
                keys = [key for key in groups if key[0] == hole.layer and areas[key] > np.count_nonzero(bitmap)]
            for key in keys:
                if key in groups and _subtract(unions[key], box, bitmap):
                    groups[key].append(i)
    for key in [key for key, (_, bitmap) in unions.items() if not bitmap.any()]:
        lost.update(dict.fromkeys(groups.pop(key), "its holes leave no pixel"))
    for i in {i for members in groups.values() for i in members}:
        lost.pop(i, None)  # a hole, in a nucleus that is left
    trimmed = [trim(unions[key][1], *unions[key][0][:2]) for key in groups]
    masks = CropMasks(shape, np.array([box for box, _ in trimmed], np.int32), [bitmap for _, bitmap in trimmed])
    return RegionMasks(masks, list(groups.values()), lost, beyond)


def _rasterise(points: NDArray[np.float64], shape: tuple[int, int]) -> tuple[_Crop, bool]:
    """Pixels of the image inside an outline, and whether there are some beyond the image."""
    height, width = shape
    # With a margin of one pixel, where every outline that leaves the image has pixels. In outlines.py the corners of
    # pixels are whole numbers, so their centres lie at one half.
    (x0, y0, x1, y1), bitmap = rasterise([[points + 1.5]], (height + 2, width + 2))
    if bitmap.size == 0:
        return ((0, 0, 0, 0), bitmap), False
    left, top, right, bottom = max(x0, 1), max(y0, 1), min(x1, width + 1), min(y1, height + 1)
    box, inside = trim(bitmap[top - y0 : bottom - y0, left - x0 : right - x0], left - 1, top - 1)
    return (box, inside), (left, top, right, bottom) != (x0, y0, x1, y1)


def _union(crops: list[_Crop]) -> _Crop:
    """The pixels of all crops in the box around them."""
    boxes = np.array([box for box, _ in crops])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    bitmap = np.zeros((y1 - y0, x1 - x0), bool)
    for (left, top, right, bottom), part in crops:
        bitmap[top - y0 : bottom - y0, left - x0 : right - x0] |= part
    return (x0, y0, x1, y1), bitmap


def _subtract(crop: _Crop, box: tuple[int, int, int, int], hole: NDArray[np.bool_]) -> bool:
    """Clear, in place, the pixels of a crop that a hole has too; whether there were any."""
    (x0, y0, x1, y1), bitmap = crop
    left, top, right, bottom = max(x0, box[0]), max(y0, box[1]), min(x1, box[2]), min(y1, box[3])
    if left >= right or top >= bottom:
        return False
    part = bitmap[top - y0 : bottom - y0, left - x0 : right - x0]
    common = part & hole[top - box[1] : bottom - box[1], left - box[0] : right - box[0]]
    part[common] = False
    return bool(common.any())


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
