"""The images in a TIFF: files that belong together, and which of the images in a file is meant.

The rule
--------
1. A smaller copy (by NewSubfileType), a mask, and what is called label, macro, thumbnail or overview is no image of its
   own; nor is any but the first in the files of slide scanners, whose others are those.
2. Of an OME image in several files, each file holds the images of which it has pages.
3. Of a plain TIFF whose other pages are at most half as large and of the same aspect, the largest is the image,
   wherever it stands: the others are previews.
4. Where several images are left, one is chosen by its number.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile

from maskseg.imaging.stored import choose_image
from maskseg.imaging.tiff_metadata import ome_file_names
from maskseg.imaging.tiff_structure import check_structure

# Of slide scanners, as tifffile calls them.
_SCANNERS = ("svs", "ndpi", "scn", "qpi", "bif", "philips", "avs", "indica", "argos")
_GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_NO_IMAGE = re.compile(
    r"(?:.*\W)?(?:label|macro|thumbnail|overview|preview)(?:\W*image)?\W*", re.IGNORECASE | re.DOTALL
)


def open_tiff(source: Path | bytes) -> tifffile.TiffFile:
    """A TIFF that goes on in other files only where these are an OME image in its own folder.

    Some kinds of TIFF name other files, by any path: no file is read for that but those.
    """
    check_structure(source)
    alone: dict[str, Any] = {"_multifile": False, "is_ndtiff": False, "is_mmstack": False}
    file = tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source, **alone)
    names = set(ome_file_names(file))
    if isinstance(source, bytes) or not names - {source.name} or any(not _is_plain(name) for name in names):
        return file
    if any((source.parent / name).is_symlink() for name in names - {source.name}):
        return file
    file.close()
    for name in names - {source.name}:
        if (source.parent / name).is_file():
            check_structure(source.parent / name)
    return tifffile.TiffFile(source, **{**alone, "_multifile": True})


def image_of(file: tifffile.TiffFile, number: int | None) -> tuple[tifffile.TiffPageSeries, Sequence[str]]:
    """The image of a file that is read, and what all of its images are called.

    Raises
    ------
    InputError
        There is no such image, or there are several and none is chosen.
    """
    images = _images(file)
    names = [" ".join((one.name or _size_name(one)).split()) for one in images]
    return images[choose_image(number, names)], names


def _images(file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The images of full size, by the rule at the head of this module."""
    there = [one for one in file.series if any(page is not None and page.parent is file for page in one._pages)]
    there = there or list(file.series)
    full = [one for one in there if not one.keyframe.is_reduced]
    # A mask or a copy of nothing is the image.
    full = [one for one in full if not one.keyframe.is_mask] or full or there[:1]
    if full[0].kind in _SCANNERS:
        return full[:1]
    full = [one for one in full if not _NO_IMAGE.fullmatch(one.name or "")] or full[:1]
    largest = max(full, key=lambda one: _sides(one)[0] * _sides(one)[1])
    previews = full[0].kind != "ome" and all(one is largest or _is_preview(one, largest) for one in full)
    return [largest] if previews else full


def _is_preview(one: tifffile.TiffPageSeries, largest: tifffile.TiffPageSeries) -> bool:
    """Whether an image is as another one of at least twice its size, by its aspect; sides are rounded either way."""
    (height, width), (tall, wide) = _sides(one), _sides(largest)
    smaller = 2 * height <= tall + 1 and 2 * width <= wide + 1 and one.size <= largest.size
    return smaller and abs(height * wide - width * tall) <= tall + wide


def _sides(one: tifffile.TiffPageSeries) -> tuple[int, int]:
    """Height and width."""
    if "Y" in one.axes and "X" in one.axes:
        return one.shape[one.axes.index("Y")], one.shape[one.axes.index("X")]
    return one.keyframe.imagelength, one.keyframe.imagewidth


def _size_name(one: tifffile.TiffPageSeries) -> str:
    """What an image without a name is called."""
    height, width = _sides(one)
    kind = one.keyframe.photometric
    return f"{width}x{height} {'grey' if kind in _GREY else getattr(kind, 'name', str(kind))}"


def _is_plain(name: str) -> bool:
    """Whether a name is that of a TIFF in the same folder."""
    return name == Path(name).name and not set(name) & set("/\\:") and name.lower().endswith((".tif", ".tiff", ".btf"))
