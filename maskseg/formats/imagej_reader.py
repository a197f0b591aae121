"""ImageJ's regions of interest to nuclei: ROI zips, single ``.roi`` files, and overlays in TIFF files.

A zip is for the image of its name, without the ``RoiSet`` that ImageJ puts before or after it, or for the one image
beside it; ``.roi`` files of a folder are for the image of the same name as the folder, or as the file where there is
such an image.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from maskseg.core.errors import InputError
from maskseg.core.files import check_file
from maskseg.core.limits import TEXT, check_claim
from maskseg.core.outlines import Ring
from maskseg.formats.drawing import Drawing, number, rectangle, ring
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.reviewed import REVIEWED, is_mark
from maskseg.formats.sources import content, files_of, inner_path, parsing
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.tiff_structure import check_structure

_TIFFS = (".tif", ".tiff")
# Images that are looked at for an overlay, to recognise a folder of them.
_FEW = 20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# ImageJ's names around that of the image.
_BEFORE = re.compile(r"^roi[ _-]?(set|s|manager)?[ _-]+(?=.)", re.IGNORECASE)
_AFTER = re.compile(r"(?<=[^ _-])[ _-]+(roi[ _-]?(set|s|manager)?|overlays?)$", re.IGNORECASE)
_AREAS = {ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL}
# Numbers of a segment of a composite region, without its kind.
_POINTS = {0: 1, 1: 1, 2: 2, 3: 3}
_CLOSE = 4
# Steps in which a curve of a composite region is drawn.
_STEPS = np.linspace(0, 1, 17)[1:, None, None]
# What roifile says of odd files stands in the error, too.
logging.getLogger("roifile").addHandler(logging.NullHandler())
logging.getLogger("roifile").propagate = False


def recognises(source: Path) -> bool:
    """Whether a path is an ROI file or zip, or a folder with such files."""
    try:
        if files_of(source, ".roi") or any(map(_is_zip, _zips(source)[:1])):
            return True
        images = files_of(source, *_TIFFS)
        return bool(images) and all(map(_overlays, images[:_FEW]))
    except InputError:
        return False


def _is_zip(file: ImageFile) -> bool:
    """Whether a file is a zip file of regions, or an empty one, as of an image without nuclei."""
    try:
        data = content(file) if file.member else b""
        if not file.member:
            check_file(file.path)
        with zipfile.ZipFile(io.BytesIO(data) if file.member else file.path) as archive:
            names = archive.namelist()
            return not names or any(name.lower().endswith(".roi") for name in names)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):  # InputError is a ValueError
        return False


def _zips(source: Path) -> list[ImageFile]:
    """The zip files in a folder or zip file."""
    if not source.is_dir() and source.suffix.lower() == ".zip":
        return [file for file in files_of(source, ".zip") if file.member]
    return files_of(source, ".zip")


def read(source: Path) -> Iterator[Item]:
    """The ROI files of a folder, a zip file of ROI files, or one file; groups become classes.

    Raises
    ------
    InputError
        If there are none.
    """
    named: dict[str, list[ImageFile]] = {}
    beside: dict[PurePosixPath, list[str]] = {}
    for file in files_of(source, *SUFFIXES):
        beside.setdefault(inner_path(file, source).parent, []).append(file.id)
    images = {name for names in beside.values() for name in names}
    for file in files_of(source, ".roi"):
        folder = inner_path(file, source).parent
        alone = source.is_file() and file.member is None
        own = alone or file.id in images
        named.setdefault(file.id if own else folder.name or _image_id(_stem(source)), []).append(file)
    for file in filter(_is_zip, _zips(source)):
        name = _image_id(file.id)
        if re.fullmatch(r"roi[ _-]?sets?|rois?", name, re.IGNORECASE):
            # The one image beside it has the name, or the folder.
            folder = inner_path(file, source).parent
            near = beside.get(folder, [])
            name = near[0] if len(near) == 1 else folder.name or _stem(source)
        named.setdefault(name, []).append(file)
    if not named:
        named = {file.id: [file] for file in files_of(source, *_TIFFS) if _overlay(file)}
    if not named:
        raise InputError(f"{source}: no ImageJ regions there, neither .roi nor .zip files of them; check the path")
    for name, files in sorted(named.items()):
        where = files[0].name if len(files) == 1 else str(files[0].path if files[0].member else files[0].path.parent)
        image = files[0] if files[0].path.suffix.lower() in _TIFFS else None
        yield Item(name, partial(_load, tuple(files), where), where, image=image, needs_shape=True)


def _class_of(region: ImagejRoi) -> str:
    """The class that maskseg wrote, or the group; a region may be named as reviewed."""
    if is_mark(region.name or ""):
        return REVIEWED
    written = re.search(r"^class: (.+)$", region.props or "", re.MULTILINE)
    return written[1].strip()[:200] if written else f"group {region.group}" if region.group else ""


def _stem(source: Path) -> str:
    return source.stem if source.is_file() else source.resolve().name


def _image_id(name: str) -> str:
    return _AFTER.sub("", _BEFORE.sub("", name))


def _load(files: tuple[ImageFile, ...], where: str, shape: Shape | None) -> Nuclei:
    drawing = Drawing(where, known_shape(shape, where))
    with parsing(where, "save it again"):
        regions: list[tuple[str, ImagejRoi]] = []
        for place, data in _all_bytes(files):
            try:
                with parsing("", "save it again"):
                    regions.append((place, ImagejRoi.frombytes(data)))
            except InputError as error:
                drawing.leave_out(place, str(error))
        slices = {_slice(region) for _, region in regions} - {(0, 0)}
        if len(slices) > 1:
            raise InputError(f"{where}: its regions lie on {len(slices)} slices of a stack; save those of each alone")
        for place, region in regions:
            with drawing.annotation(place, _class_of(region)):
                _draw(drawing, region)
                drawing.score(_score(region))
    return drawing.nuclei()


def _all_bytes(files: tuple[ImageFile, ...]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each region."""
    for file in files:
        if file.path.suffix.lower() in _TIFFS and not file.member:
            yield from ((f"region {place}", data) for place, data in enumerate(_overlay(file), start=1))
            continue
        data = content(file)
        if data[:4] not in _ZIP:
            yield f"region {file.id}", data
            continue
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if info.filename.lower().endswith(".roi")]
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members):
                raise InputError(f"{file.name}: compressed in another way than deflate; pack it again with deflate")
            try:
                check_claim(sum(info.file_size for info in members), len(data), TEXT)
            except InputError as error:
                raise InputError(f"{file.name}: {error}") from error
            for info in members:
                yield f"region {info.filename}", archive.read(info)


def _overlay(file: ImageFile) -> list[bytes]:
    """The regions that ImageJ keeps in a TIFF file: its overlay, or else what was selected in it."""
    return _overlays(file) or [data for data in [_kept_by_imagej(file).get("ROI")] if isinstance(data, bytes)]


def _overlays(file: ImageFile) -> list[bytes]:
    overlays = _kept_by_imagej(file).get("Overlays") or []
    overlays = overlays if isinstance(overlays, list | tuple) else [overlays]
    return [data for data in overlays if isinstance(data, bytes)]


def _kept_by_imagej(file: ImageFile) -> dict[str, Any]:
    try:
        check_file(file.path)
        check_structure(file.path)
        with tifffile.TiffFile(file.path, _multifile=False) as opened:
            return opened.imagej_metadata or {}
    except Exception:  # tifffile has errors of its own; it is no such file
        return {}


def _slice(region: ImagejRoi) -> tuple[int, int]:
    """Where in a stack a region lies; 0 for none. Its channel does not matter."""
    if region.z_position or region.t_position or region.c_position:
        return region.z_position, region.t_position
    return region.position, 0


def _score(region: ImagejRoi) -> float:
    for line in (region.props or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "score":
            return number(value)
    return 1.0


def _draw(drawing: Drawing, region: ImagejRoi) -> None:
    if region.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE) or region.roitype not in _AREAS:
        kind = region.subtype if region.subtype else region.roitype
        raise InputError(f"a {kind.name.lower()} has no outline; draw a polygon or trace the nucleus")
    if region.multi_coordinates is not None:
        drawing.even_odd(_rings(region.multi_coordinates.astype(np.float64)))
        return
    left, top, right, bottom = map(float, (region.left, region.top, region.right, region.bottom))
    if region.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL) and region.subpixelrect:
        left, top, right, bottom = region.xd, region.yd, region.xd + region.widthd, region.yd + region.heightd
    if region.roitype == ROI_TYPE.RECT:
        drawing.polygons([[rectangle(left, top, right, bottom)]])
    elif region.roitype == ROI_TYPE.OVAL:
        drawing.ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    elif region.subpixel_coordinates is None and region.integer_coordinates is None:
        raise InputError("it has no points; draw it again")
    else:
        # Where a line crosses itself ImageJ leaves the pixels between out.
        drawing.even_odd([ring(np.asarray(region.coordinates(), np.float64))])


def _rings(numbers: np.ndarray) -> list[Ring]:
    """Outlines of a composite region, from ImageJ's kinds of segments and their points."""
    rings: list[list[np.ndarray]] = []
    at = 0
    while at < len(numbers):
        kind = int(numbers[at])
        count = 0 if kind == _CLOSE else _POINTS[kind]
        points = numbers[at + 1 : at + 1 + 2 * count].reshape(count, 2)
        at += 1 + 2 * count
        if kind == 0:
            rings.append([points])
        elif count == 1:
            rings[-1].append(points)
        elif count:
            rings[-1].append(_curve(np.concatenate([rings[-1][-1][-1:], points])))
    return [ring(points) for points in map(np.concatenate, rings) if len(points) > 2]


def _curve(control: np.ndarray) -> np.ndarray:
    """Points of a Bézier curve after its first one, by de Casteljau's rule."""
    points = np.broadcast_to(control, (len(_STEPS), *control.shape))
    while points.shape[1] > 1:
        points = points[:, :-1] * (1 - _STEPS) + points[:, 1:] * _STEPS
    return points[:, 0]
