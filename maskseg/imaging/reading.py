"""Images in: found in folders, globs and zip files, and read to what the model eats.

The one rule
------------
Every image becomes uint8 RGB (H, W, 3):

1. alpha is dropped; grey is repeated to three channels; palettes are resolved; CMYK is converted; EXIF turns are done;
2. 8-bit values stay as they are, 1-bit becomes 0 and 255;
3. all other kinds (16-bit, 32-bit, float) are mapped linearly so that their 0.1 and 99.9 percentiles, over all channels
   together, become 0 and 255: cameras use only a part of such a range.
"""

from __future__ import annotations

import glob
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from maskseg.core.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
# Read in parts only (`maskseg.imaging.slides`); an image in Zarr is a folder.
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
ZARR_SUFFIX = ".zarr"
# Of 16-bit and float images these become 0 and 255.
PERCENTILES = (0.1, 99.9)
_PILLOW_COLOURS = (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB)
# Masks and labels lie beside the images in the layouts that are read; they are no images.
_NOT_IMAGES = ("masks", "labels", "overlays", "__MACOSX")


def read_image(source: str | os.PathLike[str] | bytes, name: str | None = None) -> NDArray[np.uint8]:
    """Read an image by the rule above.

    Parameters
    ----------
    source : path or bytes
        A PNG, JPEG, TIFF or WebP file, or its content.
    name : str, optional
        What errors call it; the path where not given.

    Returns
    -------
    uint8 array (H, W, 3)
        RGB.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut short, or no single 2-D image.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    if not isinstance(source, bytes):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    return _read(source, name)[0]


def _read(source: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """What `read_image` gives, and the values (H, W, 1 or 3) that it was made from."""
    if not source:
        raise InputError(f"{name}: the file is empty; get it again")
    try:
        values = _channels(_decode(source))
        return to_rgb8(values), values
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: too many pixels; cut it into pieces") from error
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        raise InputError(f"{name}: damaged, cut short or no PNG, JPEG, TIFF or WebP image; get it again") from error


def _decode(data: bytes) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C) as they are in the file; C is 1 or 3, and one more where there is alpha."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _decode_tiff(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # a file that is cut short fails here
        if image.format == "PNG" and data[24] == 16:
            # Pillow keeps 8 of the 16 bits of colour; OpenCV keeps all.
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            return pixels if pixels.ndim == 2 else pixels[:, :, 2::-1]
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        return np.asarray(image)


def _decode_tiff(data: bytes) -> NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
        page, series = file.pages.first, file.series[0]
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + size > len(data):
                raise InputError("the file is cut short; get it again")
        if page.photometric in _PILLOW_COLOURS:
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
        pixels = series.asarray()
        # S: samples of a pixel. C: channels that are planes of their own, a colour only if there are three.
        kept = [(axis, size) for axis, size in zip(series.axes, pixels.shape, strict=True) if size > 1 or axis in "YX"]
        axes, sizes = "".join(axis for axis, _ in kept), [size for _, size in kept]
        pixels = pixels.reshape(sizes)
        if axes in ("SYX", "CYX"):
            pixels = np.moveaxis(pixels, 0, 2)
        if axes not in ("YX", "YXS", "SYX", "CYX", "YXC") or ("C" in axes and pixels.shape[2] != 3):
            raise InputError(f"it holds {' x '.join(map(str, sizes))} values ({axes}); save one plane of it")
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return (page.colormap.T[pixels] >> 8).astype(np.uint8)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            return ~pixels
        return pixels


def to_rgb8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of any numeric kind to what the model eats, by the rule above.

    Parameters
    ----------
    pixels : array (H, W) or (H, W, C)
        Grey, grey with alpha, RGB or RGBA, for C from 1 to 4.

    Returns
    -------
    uint8 array (H, W, 3)

    Raises
    ------
    InputError
        If the shape or the type is none of these, or a value is not finite.
    """
    pixels = _channels(pixels)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "uif":
            raise InputError(f"pixels of type {pixels.dtype} are not supported; save as 8-bit, 16-bit or float")
        values = pixels.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError("it holds values that are not finite; replace them")
        low, high = np.percentile(values, PERCENTILES)
        # An image of one value only becomes black.
        pixels = np.rint(np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C) as (H, W, 1 or 3), without alpha."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] > 4 or 0 in pixels.shape:
        raise InputError(f"pixels of shape {pixels.shape} are no grey or colour image; save one plane of it")
    # Grey with alpha has two channels, colour with alpha four.
    return pixels[:, :, : 1 if pixels.shape[2] <= 2 else 3]


@dataclass(frozen=True)
class ImageFile:
    """An image to be read later.

    Attributes
    ----------
    id : str
        Name of the file without its ending.
    path : Path
        The image file, or the zip file it is in.
    member : str or None
        Name inside the zip file.
    """

    id: str
    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Path for messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def bytes(self) -> bytes:
        """Content of the file.

        Raises
        ------
        InputError
            If it cannot be read, is encrypted, or its name leads outside its zip file.
        """
        if self.member and leads_outside(self.member):
            raise InputError(f"{self.name}: leads outside the zip file; rename it")
        try:
            return _zip(self.path).read(self.member) if self.member else self.path.read_bytes()
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{self.name}: cannot be read ({error}); get it again") from error

    def read(self) -> NDArray[np.uint8]:
        """The image, uint8 (H, W, 3); see `read_image`."""
        return read_image(self.bytes(), self.name)

    def read_values(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """The image, uint8 (H, W, 3), and its values as they are in the file, (H, W, 1 or 3): what to measure on."""
        return _read(self.bytes(), self.name)

    def size(self) -> tuple[int, int]:
        """Height and width, from the header where the format has one."""
        try:
            with Image.open(io.BytesIO(self.bytes())) as image:
                return ImageOps.exif_transpose(image).size[::-1] if image.format == "JPEG" else image.size[::-1]
        except OSError:
            return self.read().shape[:2]  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _open_zip(path: str, changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _zip(path: Path) -> zipfile.ZipFile:
    """An open zip file; one that has changed on disk is opened again."""
    try:
        # A str is looked up faster than a Path, which counts over 27,000 members.
        return _open_zip(str(path), path.stat().st_mtime_ns)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip file ({error}); get it again") from error


def zip_members(path: Path) -> list[str]:
    """Names in a zip file, those of folders with a slash at the end, each once.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    return list(dict.fromkeys(_zip(path).namelist()))


def zip_size(path: Path, member: str) -> int:
    """Bytes that a file in a zip file has when it is unpacked; zipfile gives no more than that.

    Raises
    ------
    InputError
        If there is no such file.
    """
    try:
        return _zip(path).getinfo(member).file_size
    except KeyError as error:
        raise InputError(f"{path}: no {member} in it; check the path") from error


def member_path(member: str) -> PurePosixPath:
    """The name of a zip member as a path, also where it was written with backslashes."""
    return PurePosixPath(member.replace("\\", "/"))


def leads_outside(member: str) -> bool:
    """Whether the name of a zip member is a path to somewhere outside the folder that it would be unpacked into."""
    if ".." not in member and member[:1] not in ("/", "\\") and ":" not in member:
        return False
    parts = member_path(member).parts
    return bool(parts) and (parts[0].startswith("/") or ".." in parts or parts[0].endswith(":"))


def find_images(
    inputs: Iterable[str | os.PathLike[str]], doubles: list[tuple[ImageFile, ImageFile]] | None = None
) -> list[ImageFile]:
    """Images in files, folders (with all folders below), globs, DSB image folders and zip files, sorted by id.

    ``set.zip/test`` is the folder ``test`` in a zip file.

    Files below a folder named ``masks``, ``labels`` or ``overlays`` are no images.

    Parameters
    ----------
    inputs : iterable of path-like
    doubles : list, optional
        Gets the images whose id another one has, each with that one: the first in the order of their paths is kept,
        a picture rather than a slide.

    Raises
    ------
    InputError
        If an input is missing or holds no image, or if two images have the same id and `doubles` is not given.
    """
    found: dict[str, ImageFile] = {}
    for item in inputs:
        files = list(_expand(str(item)))
        if not files:
            raise InputError(f"{item}: no image found ({', '.join(SUFFIXES)}); check the path")
        for file in files:
            other = found.setdefault(file.id, file)
            if (other.path.resolve(), other.member) == (file.path.resolve(), file.member):
                continue
            if doubles is None:
                raise InputError(f"{file.name}: the same id as {other.name}; rename one of them")
            if other.name.lower().endswith(SLIDE_SUFFIXES) and not file.name.lower().endswith(SLIDE_SUFFIXES):
                found[file.id], file, other = file, other, file
            doubles.append((file, other))
    return [found[key] for key in sorted(found)]


def _expand(item: str) -> Iterator[ImageFile]:
    path = Path(item)
    if path.is_dir() and path.suffix.lower() == ZARR_SUFFIX:
        yield ImageFile(path.stem, path)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if _is_image(file.relative_to(path)) and (file.is_dir() == (file.suffix.lower() == ZARR_SUFFIX)):
                yield ImageFile(file.stem, file)
    elif path.is_file() and path.suffix.lower() == ".zip":
        for name in zip_members(path):
            if _is_image(member_path(name)) and not name.endswith("/"):
                yield ImageFile(member_path(name).stem, path, name)
    elif path.is_file():
        yield ImageFile(path.stem, path)
    elif archive := next((part for part in path.parents if part.suffix.lower() == ".zip" and part.is_file()), None):
        folder = path.relative_to(archive).as_posix()
        yield from (file for file in _expand(str(archive)) if member_path(file.member).is_relative_to(folder))
    else:
        for match in sorted(glob.glob(item, recursive=True)):  # noqa: PTH207  a pattern may be absolute
            if match != item:
                yield from _expand(match)


def _is_image(path: PurePosixPath | Path) -> bool:
    return (
        path.suffix.lower() in (*SUFFIXES, *SLIDE_SUFFIXES, ZARR_SUFFIX)
        and not path.name.startswith(".")
        and not set(path.parts[:-1]) & set(_NOT_IMAGES)
    )
