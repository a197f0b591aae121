"""What a TIFF says of its channels and of the size of its pixels: OME, ImageJ, Aperio, Zeiss, MetaMorph and plain."""

from __future__ import annotations

import math
import re
from typing import Any

import tifffile
from defusedxml import ElementTree

from maskseg.core.errors import InputError
from maskseg.imaging.stored import plausible

# Micrometres in a unit, as OME and ImageJ write them, in small letters.
_UNITS = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6, "meter": 1e6,
    "pm": 1e-6, "å": 1e-4, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
# Planes of an OME image.
_MOST_PLANES = 1_000_000
# ResolutionUnit: an inch and a centimetre.
_RESOLUTION_UNITS = {2: 25400.0, 3: 1e4}


def microns_in(unit: str | None) -> float | None:
    """Micrometres in a unit of length; None where it is no unit, such as "pixel"."""
    text = (unit or "").strip()
    # ImageJ escapes the sign.
    text = text.replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    return _UNITS.get(text.lower())


def microns(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> float | None:
    """Side of a pixel in micrometres, where the file says so."""
    for read_size in (_ome, _aperio, _imagej, _lsm, _stk, _resolution):
        try:
            size = read_size(file, series)
        except Exception:  # of metadata that is not as it should be
            size = None
        if size is not None:
            return plausible(*size)
    return None


def channel_names(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, count: int) -> list[str]:
    """The names of `count` channels of an image; empty where the file has none, or as many as are not there."""
    names: list[str] = []
    try:
        if file.is_ome:
            names = [channel.get("Name", "") for channel in _pixels(file, series).iter() if _tag(channel) == "Channel"]
        elif file.is_imagej:
            names = _imagej_names(file, count)
        elif file.is_lsm:
            names = list((file.lsm_metadata or {})["ChannelColors"]["ColorNames"])
        elif file.shaped_metadata:
            described, number = file.shaped_metadata, _number(file, series)
            names = list(described[number if len(described) == len(file.series) else 0].get("Channel", {})["Name"])
        elif file.is_qpi:
            names = _qptiff_names(file)
    except Exception:  # of metadata that is not as it should be
        names = []
    names = [" ".join(str(name).split()) for name in names]
    return names if len(names) == count else [""] * count


def ome_file_names(file: tifffile.TiffFile, own: str | None = None) -> list[str]:
    """The files that OME images lie in, as their description names them; empty where it names none.

    Parameters
    ----------
    file : tifffile.TiffFile
    own : str, optional
        The name of this file, where only those count that hold parts of the same images.
    """
    try:
        root = ElementTree.fromstring(file.ome_metadata or "") if file.is_ome else None
    except Exception:  # of metadata that is not as it should be
        return []
    if root is None:
        return []
    images = [root] if own is None else [element for element in root.iter() if _tag(element) == "Image"]
    each = [[element.get("FileName") for element in image.iter() if _tag(element) == "UUID"] for image in images]
    return list(dict.fromkeys(name for names in each if own is None or own in names for name in names if name))


def check_ome_planes(file: tifffile.TiffFile) -> None:
    """Refuse an OME image of more planes than anything holds: a list is made of all of them.

    Raises
    ------
    InputError
    """
    try:
        root = ElementTree.fromstring(file.ome_metadata or "") if file.is_ome else None
    except Exception:  # of metadata that is not as it should be
        return
    for element in () if root is None else root.iter():
        if _tag(element) == "Pixels":
            sizes = [element.get(f"Size{axis}", "1") for axis in "ZCT"]
            planes = math.prod(int(size) if size.isdecimal() and len(size) < 12 else 1 for size in sizes)
            if planes > _MOST_PLANES:
                raise InputError(f"claims {planes} planes; get it again")


def _tag(element: Any) -> str:
    return element.tag.rpartition("}")[2]


def _number(file: tifffile.TiffFile, series: Any) -> int:
    """Which of the images of a file one is."""
    return next(number for number, one in enumerate(file.series) if one is series)


def _pixels(file: tifffile.TiffFile, series: Any) -> Any:
    """OME's description of an image."""
    root = ElementTree.fromstring(file.ome_metadata or "")
    images = [element for element in root.iter() if _tag(element) == "Image"]
    if len(images) != len(file.series):  # tifffile leaves out those without pages
        images = [image for image in images if len(images) == 1 or image.get("Name") == series.name]
        number = 0 if len(images) == 1 else len(images)
    else:
        number = _number(file, series)
    return next(element for element in images[number].iter() if _tag(element) == "Pixels")


def _imagej_names(file: tifffile.TiffFile, count: int) -> list[str]:
    labels = (file.imagej_metadata or {}).get("Labels") or []
    # A label a plane, channels first: "c:1/3 - DAPI", "DAPI" or "c:1/3 z:1/5 - name"; of one plane no list.
    labels = [labels] if isinstance(labels, str) else list(labels)
    names = [re.sub(r"^(?:[czt]:\d+/\d+\s*)+-\s*", "", str(label)) for label in labels]
    # What differs from plane to plane of the only channel is not its name.
    return names[:count] if count > 1 else list(dict.fromkeys(names))


def _qptiff_names(file: tifffile.TiffFile) -> list[str]:
    told = (page.description for page in file.series[0].pages if isinstance(page, tifffile.TiffPage))
    return [ElementTree.fromstring(text).findtext("Name", "") for text in told if text]


def _ome(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    if not file.is_ome:
        return None
    pixels = _pixels(file, series)
    sizes = []
    for axis in "XY":
        size, unit = pixels.get(f"PhysicalSize{axis}"), microns_in(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is None or unit is None:
            return None
        sizes.append(float(size) * unit)
    return sizes[0], sizes[1]


def _aperio(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    match = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", file.pages.first.description or "")
    return (float(match[1]), float(match[1])) if match else None


def _per_unit(series: Any) -> tuple[float, float] | None:
    """XResolution and YResolution."""
    values = []
    for tag in (282, 283):
        ratio = series.keyframe.tags.valueof(tag)
        if not isinstance(ratio, tuple) or len(ratio) != 2 or not ratio[0] or not ratio[1]:
            return None
        values.append(ratio[0] / ratio[1])
    return values[0], values[1]


def _imagej(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    if not file.is_imagej:
        return None
    unit, per_unit = microns_in((file.imagej_metadata or {}).get("unit")), _per_unit(series)
    return (unit / per_unit[0], unit / per_unit[1]) if unit and per_unit else None


def _lsm(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    metadata = file.lsm_metadata
    return (metadata["VoxelSizeX"] * 1e6, metadata["VoxelSizeY"] * 1e6) if metadata else None


def _stk(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    metadata = file.stk_metadata
    if not metadata:
        return None
    unit = microns_in(metadata.get("CalibrationUnits"))
    return (metadata["XCalibration"] * unit, metadata["YCalibration"] * unit) if unit else None


def _resolution(file: tifffile.TiffFile, series: Any) -> tuple[float, float] | None:
    unit, per_unit = _RESOLUTION_UNITS.get(int(series.keyframe.tags.valueof(296, 2))), _per_unit(series)
    return (unit / per_unit[0], unit / per_unit[1]) if unit and per_unit else None
