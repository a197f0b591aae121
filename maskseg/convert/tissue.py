"""Tissue images with Aperio XML outlines to COCO, cut into pieces.

The rules
---------
1. A pixel of several regions belongs to the smallest of them: a nucleus that lies on a larger one stays whole, and
   the larger one gives way. A region that keeps less than half of its pixels is dropped: it is the same nucleus
   drawn twice, or a line around several.
2. An image is cut into N x N pieces that are equal to within a pixel. A nucleus on a cut is a nucleus in each piece.
3. Connected parts of fewer than `MIN_PIXELS` pixels are dropped: slivers at a cut or beside another nucleus, specks
   where a line crosses itself. A nucleus that was drawn that small stays.

``regions.csv`` says what became of each region: *kept* (pixel by pixel), *clipped* (it lost pixels), *divided* between
pieces, *hole* (cut out of others) or *dropped*; why; and the pieces that it is in.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.convert.conversion import Converted, ConvertedImage, PendingImage, Summary, convert_images
from maskseg.core.errors import InputError
from maskseg.core.files import refuse_closed, walk
from maskseg.core.masks import CropMasks, trim
from maskseg.core.morphology import components
from maskseg.core.tables import write_csv
from maskseg.formats.aperio_masks import OFFSET, Region, RegionMasks, region_masks
from maskseg.formats.aperio_xml import class_of_layer, read_regions
from maskseg.formats.classes import ClassRule
from maskseg.formats.coco import to_annotations
from maskseg.formats.reader import LeftOut
from maskseg.imaging.containers import only_in_parts
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile, member_path, zip_members

MIN_PIXELS = 10  # as after prediction
REGIONS = "regions.csv"
COLUMNS = ("tissue", "layer", "region", "fate", "why", "pieces")
FATES = ("kept", "clipped", "divided", "hole", "dropped")


class _Source(NamedTuple):
    """A tissue image and its outlines, of which one may be missing."""

    image: ImageFile | None
    xml: ImageFile | None


class _Fate(NamedTuple):
    fate: str
    why: str
    pieces: tuple[str, ...] = ()


def convert_tissue(
    tissue: str | Path,
    outlines: str | Path,
    out: str | Path,
    pieces: int = 2,
    offset: tuple[float, float] = OFFSET,
    layers: Collection[str] = (),
    workers: int = 1,
    progress: bool = True,
    rule: ClassRule | None = None,
) -> Summary:
    """Convert tissue images and their outlines to a COCO data set, by the rules above.

    Parameters
    ----------
    tissue : path
        Folder or zip file of images.
    outlines : path
        Folder or zip file with an ``ID.xml`` for each image ``ID``.
    out : path
        Gets ``images/ID_ROW_COLUMN.png`` and, when all is done, ``annotations.json``, in which an image has its tissue
        image as ``group`` and, where the XML gives it, ``microns_per_pixel``; and ``regions.csv``.
    pieces : int
        Pieces along each side; with 1 an image stays whole and keeps its name.
    offset : (float, float)
        Added to the vertices; see `maskseg.formats.aperio_xml`.
    layers : collection of str
        Names of the layers that are wanted (the Id of one without a name); all where empty.
    workers : int
        Processes; see `maskseg.convert.conversion.convert_images`.
    progress : bool
        Show a bar on a terminal.
    rule : ClassRule, optional
        What the layers are called, which become the classes.

    Returns
    -------
    Summary
        Its ``rows`` are those of ``regions.csv``.

    Raises
    ------
    InputError
        If no image can be converted.
    """
    summary = Summary("regions")
    images = _images(tissue, summary)
    xml = _xml_files(Path(outlines), summary)
    _check_layers(xml, layers)
    pending = []
    for name in sorted(images | xml):
        source = _Source(images.get(name), xml.get(name))
        pending.append(PendingImage((source.image or source.xml).name, source, name))  # type: ignore[union-attr]
    rule = rule or ClassRule()
    read = partial(_read_tissue, pieces=pieces, offset=offset, layers=tuple(layers), rule=rule)
    expected = f"images in {tissue} and an XML file for each in {outlines}"
    summary = convert_images(
        pending, read, Path(out), summary, expected=expected, workers=workers, progress=progress, rule=rule
    )
    write_csv(Path(out) / REGIONS, COLUMNS, summary.rows)
    return summary


def fates(summary: Summary) -> str:
    """How many regions met each of `FATES`, as one line."""
    counts = Counter(row["fate"] for row in summary.rows)
    return ", ".join(f"{counts[fate]} {fate}" for fate in FATES)


def _images(tissue: str | Path, summary: Summary) -> dict[str, ImageFile]:
    """Tissue images by their names without the ending; of two of one name the second is left out."""
    images: dict[str, ImageFile] = {}
    # MoNuSAC's own scripts write each slide as a picture, too: pictures come first.
    for file in sorted(find_images([tissue]), key=lambda file: only_in_parts(file.path)):
        path = member_path(file.member) if file.member else file.path
        first = images.setdefault(path.stem, replace(file, id=path.stem))
        if (first.path, first.member) != (file.path, file.member) and not only_in_parts(file.path):
            reason = f"the id of {first.name} once more; rename it"
            summary.left_out.append(LeftOut(file.name, "image left out", reason))
    return images


def _check_layers(xml: dict[str, ImageFile], layers: Collection[str]) -> None:
    """Refuse names of layers that no file has."""
    if not layers:
        return
    known: set[str] = set()
    for file in xml.values():
        with contextlib.suppress(InputError):  # said when it is its turn
            known |= {region.layer for region in read_regions(file.bytes(), file.name).regions}
    unknown = set(layers) - known
    if unknown:
        raise InputError(f"--layer {min(unknown)}: no file has that layer; there are {', '.join(sorted(known))}")


def _xml_files(source: Path, summary: Summary) -> dict[str, ImageFile]:
    """XML files below a folder or in a zip file, by their names without the ending."""
    if source.is_dir():
        below = (Path(where) / name for where, _, names in walk(source, refuse_closed) for name in names)
        xml_files = [ImageFile(path.stem, path) for path in sorted(below) if _is_xml(path.name)]
    elif source.is_file():
        paths = [(member_path(member), member) for member in zip_members(source)]
        xml_files = [ImageFile(path.stem, source, member) for path, member in paths if _is_xml(path.name)]
    else:
        raise InputError(f"{source}: no such folder or zip file; check the path")
    if not xml_files:
        raise InputError(f"{source}: no XML file in it; check the path")
    files: dict[str, ImageFile] = {}
    for file in xml_files:
        first = files.setdefault(file.id, file)
        if first is not file:
            reason = f"the same name as {first.name}; rename one of them"
            summary.left_out.append(LeftOut(file.name, "outlines left out", reason))
    return files


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml") and not name.startswith(".")


def _read_tissue(
    source: _Source, pieces: int, offset: tuple[float, float], layers: tuple[str, ...], rule: ClassRule
) -> Converted:
    if source.xml is None:
        raise InputError(f"no {source.image.id}.xml for it; add it")  # type: ignore[union-attr]
    regions, microns = read_regions(source.xml.bytes(), source.xml.name)
    wanted = [region for region in regions if _is_wanted(region, layers)]
    name = source.xml.id
    try:
        if regions and not wanted:
            layer_names = ", ".join(sorted({region.layer for region in regions}))
            raise InputError(f"{source.xml.name}: its layers are {layer_names}; choose of these")
        if source.image is None:
            raise InputError("no image of that name; add it")
        image = source.image.read()
        drawn = region_masks(wanted, image.shape[:2], offset)
        if wanted and not len(drawn.masks):
            reason = drawn.lost.get(0) or next(iter(drawn.lost.values()))
            raise InputError(f"none of its {len(wanted)} outlines can be used (the first: {reason}); mend them")
        if min(image.shape[:2]) < pieces:
            raise InputError(f"too small to be cut into {pieces} x {pieces} pieces; cut it into fewer")
    except InputError as error:
        # The regions are accounted for also without their image.
        where = (source.image or source.xml).name
        lost = f" ({len(regions)} regions left out with it)" if regions else ""
        rows = [_row(name, region, _Fate("dropped", str(error))) for region in regions]
        return Converted([], len(regions), [LeftOut(where, "image left out", f"{error}{lost}")], rows)

    labels = drawn.masks.to_labels()
    shown = np.bincount(labels.ravel(), minlength=len(drawn.masks) + 1)[1:]
    state = _State(drawn.masks.areas, shown, _above(drawn.masks, labels))
    labels[np.isin(labels, np.flatnonzero(state.covered) + 1)] = 0
    converted = []
    for piece, height, width in _pieces(image.shape[:2], pieces, name):
        numbers, masks = _nuclei(labels[height, width], state.drawn)
        for number, area in zip(numbers, masks.areas, strict=True):
            state.left[number] += area
            state.pieces[number].append(piece)
        data = cv2.imencode(".png", image[height, width, ::-1])[1].tobytes()
        fields = {"group": name} | ({"microns_per_pixel": microns} if microns else {})
        layer = [rule(class_of_layer(wanted[drawn.members[number][0]].layer)) for number in numbers]
        classes = list(dict.fromkeys(layer)) or [""]
        masks.classes = np.array([classes.index(one) for one in layer], np.int32)
        converted.append(ConvertedImage(f"{piece}.png", data, masks.shape, to_annotations(masks), fields, classes))

    unwanted = _Fate("dropped", "its layer is not wanted")
    known = iter(_fates(wanted, drawn, state))
    met = [(region, next(known) if _is_wanted(region, layers) else unwanted) for region in regions]
    left_out = [
        LeftOut(source.xml.name, "region dropped", f"region {region.id}: {fate.why}")
        for region, fate in met
        if fate.fate == "dropped" and fate is not unwanted
    ]
    rows = [_row(name, region, fate) for region, fate in met]
    return Converted(converted, len(regions), left_out, rows, seen=frozenset(region.layer for region in wanted))


def _is_wanted(region: Region, layers: Collection[str]) -> bool:
    return not layers or region.layer in layers


class _State:
    """What is left of each mask of an image.

    Attributes
    ----------
    drawn, shown, left : int64 arrays (N,)
        Pixels of the outline in the image, those that no smaller nucleus lies on, those in the data set.
    above : list of lists of int
        The masks that lie on it.
    covered : bool array (N,)
        More than half of it lies under others.
    pieces : list of lists of str
        Where it is.
    """

    def __init__(self, drawn: NDArray[np.int64], shown: NDArray[np.int64], above: list[list[int]]) -> None:
        self.drawn, self.shown, self.above = drawn, shown, above
        self.covered = 2 * shown < drawn
        self.left = np.zeros_like(drawn)
        self.pieces: list[list[str]] = [[] for _ in drawn]


def _above(masks: CropMasks, labels: NDArray[np.int32]) -> list[list[int]]:
    """For each mask the others that have pixels of it in the label image."""
    above = []
    for i, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes.tolist(), masks.bitmaps, strict=True)):
        here = labels[y0:y1, x0:x1][bitmap] - 1
        above.append(np.unique(here[here != i]).tolist())
    return above


def _pieces(shape: tuple[int, int], pieces: int, name: str) -> Iterator[tuple[str, slice, slice]]:
    """Name, rows and columns of each piece of an image."""
    rows, columns = (np.linspace(0, side, pieces + 1).round().astype(int).tolist() for side in shape)
    for row in range(pieces):
        for column in range(pieces):
            piece = name if pieces == 1 else f"{name}_{row}_{column}"
            yield piece, slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])


def _nuclei(labels: NDArray[np.int32], drawn: NDArray[np.int64]) -> tuple[list[int], CropMasks]:
    """Nuclei of a piece without slivers, and which masks of the image they are."""
    nuclei = CropMasks.from_labels(labels)
    numbers, boxes, bitmaps = [], [], []
    for number, bitmap, box in zip(
        np.unique(labels[labels > 0]) - 1, nuclei.bitmaps, nuclei.boxes.tolist(), strict=True
    ):
        if drawn[number] >= MIN_PIXELS:
            bitmap = _without_slivers(bitmap)
        box, bitmap = trim(bitmap, *box[:2])
        if bitmap.size:
            numbers.append(int(number))
            boxes.append(box)
            bitmaps.append(bitmap)
    return numbers, CropMasks(nuclei.shape, np.array(boxes, np.int32), bitmaps)


def _without_slivers(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask without the 8-connected parts that have fewer than `MIN_PIXELS` pixels."""
    parts, areas = components(bitmap)
    return np.concatenate(([False], areas >= MIN_PIXELS))[parts]


def _fates(regions: list[Region], drawn: RegionMasks, state: _State) -> list[_Fate]:
    """What became of each region."""
    fate_of = {i: _Fate("dropped", why) for i, why in drawn.lost.items()}

    def names(masks: list[int]) -> str:
        return ", ".join(f"region {regions[drawn.members[i][0]].id}" for i in masks)

    holes = defaultdict(list)
    for i, members in enumerate(drawn.members):
        why = ["reaches beyond the image"] if drawn.beyond.intersection(members) else []
        if state.above[i]:
            why.append(f"{state.drawn[i] - state.shown[i]} pixels lie under {names(state.above[i])}")
        if state.covered[i]:
            fate, why = "dropped", [f"more than half of it lies under {names(state.above[i])}"]
        elif not state.pieces[i]:
            fate, why = "dropped", [*why, f"only slivers of fewer than {MIN_PIXELS} pixels are left"]
        else:
            if state.left[i] < state.shown[i]:
                why.append(f"{state.shown[i] - state.left[i]} pixels are slivers")
            fate = "divided" if len(state.pieces[i]) > 1 else "clipped" if why else "kept"
        for member in members:
            if regions[member].negative:
                holes[member].append(i)
            else:
                fate_of[member] = _Fate(fate, "; ".join(why), tuple(state.pieces[i]))
    for member, masks in holes.items():
        pieces = dict.fromkeys(piece for i in masks for piece in state.pieces[i])
        fate_of[member] = _Fate("hole", f"cut out of {names(masks)}", tuple(pieces))
    return [fate_of[i] for i in range(len(regions))]


def _row(tissue: str, region: Region, fate: _Fate) -> dict[str, str]:
    values = (tissue, region.layer, region.id, fate.fate, fate.why, " ".join(fate.pieces))
    return dict(zip(COLUMNS, values, strict=True))
