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

from maskseg.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_TIFF = (".tif", ".tiff")
# Masks and labels lie beside the images in the layouts that are read; they are no images.
_NOT_IMAGES = ("masks", "labels", "overlays")


def read_image(source: str | os.PathLike[str] | bytes, name: str | None = None) -> NDArray[np.uint8]:
    """Read an image by the rule above.

    Parameters
    ----------
    source : path or bytes
        A PNG, JPEG or TIFF file, or its content.
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
    if not source:
        raise InputError(f"{name}: the file is empty; get it again")
    try:
        pixels = _decode(source)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        raise InputError(f"{name}: not a readable image ({' '.join(str(error).split())[:80]}); get it again") from error
    try:
        return to_rgb8(pixels)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _decode(data: bytes) -> NDArray[Any]:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return tifffile.imread(io.BytesIO(data))
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # a file that is cut short fails here
        if image.format == "PNG" and data[24] == 16 and image.mode != "I;16":
            # Pillow keeps 8 of the 16 bits of colour; OpenCV keeps all.
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGB")
        return np.asarray(image)


def to_rgb8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The rule above for decoded pixels: (H, W), (H, W, C) or (C, H, W) with 1 to 4 channels, of any numeric kind."""
    pixels = np.squeeze(pixels) if pixels.ndim > 3 else pixels
    if pixels.ndim == 3 and pixels.shape[2] > 4 and pixels.shape[0] <= 4:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] > 4 or 0 in pixels.shape:
        raise InputError(
            f"pixels of shape {pixels.shape} are no single grey or colour image; save one plane as a file of its own"
        )
    # Grey with alpha has two channels, colour with alpha four.
    pixels = pixels[:, :, : 1 if pixels.shape[2] <= 2 else 3]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "uif":
            raise InputError(f"pixels of type {pixels.dtype} are not supported; save as 8-bit, 16-bit or float")
        values = pixels.astype(np.float32)
        low, high = np.percentile(values, (0.1, 99.9)) if np.isfinite(values).all() else (np.nan, np.nan)
        if np.isnan(low):
            raise InputError("it holds values that are not finite; replace them")
        pixels = np.rint(np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


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
        """Content of the file."""
        try:
            return _zip(self.path).read(self.member) if self.member else self.path.read_bytes()
        except (OSError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
            raise InputError(f"{self.name}: cannot be read ({error}); get it again") from error

    def read(self) -> NDArray[np.uint8]:
        """The image, uint8 (H, W, 3); see `read_image`."""
        return read_image(self.bytes(), self.name)

    def size(self) -> tuple[int, int]:
        """Height and width, from the header where the format has one."""
        try:
            with Image.open(io.BytesIO(self.bytes())) as image:
                return ImageOps.exif_transpose(image).size[::-1] if image.format == "JPEG" else image.size[::-1]
        except OSError:
            return self.read().shape[:2]  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip file ({error}); get it again") from error


def zip_members(path: Path) -> list[str]:
    """Names of the files in a zip file.

    Raises
    ------
    InputError
        If it cannot be read, or a name leads outside of it.
    """
    names = [name for name in _zip(path).namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise InputError(
                f"{path}: its member {name!r} leads outside the zip file; make the zip again from a clean folder"
            )
    return names


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[ImageFile]:
    """Images in files, folders (with all folders below), globs, DSB image folders and zip files, sorted by id.

    Files below a folder named ``masks``, ``labels`` or ``overlays`` are no images.

    Raises
    ------
    InputError
        If an input is missing or holds no image, or if two images have the same id.
    """
    found: dict[str, ImageFile] = {}
    for item in inputs:
        files = list(_expand(str(item)))
        if not files:
            raise InputError(f"{item}: no image found ({', '.join(SUFFIXES)}); check the path")
        for file in files:
            other = found.setdefault(file.id, file)
            if other is not file and other != file:
                raise InputError(f"{file.name}: the same id as {other.name}; rename one of them")
    return [found[key] for key in sorted(found)]


def _expand(item: str) -> Iterator[ImageFile]:
    path = Path(item)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if _is_image(file.relative_to(path)) and file.is_file():
                yield ImageFile(file.stem, file)
    elif path.is_file() and path.suffix.lower() == ".zip":
        for name in zip_members(path):
            if _is_image(PurePosixPath(name)):
                yield ImageFile(PurePosixPath(name).stem, path, name)
    elif path.is_file():
        yield ImageFile(path.stem, path)
    else:
        for match in sorted(glob.glob(item, recursive=True))  # noqa: PTH207  a pattern may be absolute:
            if match != item:
                yield from _expand(match)


def _is_image(path: PurePosixPath | Path) -> bool:
    return (
        path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not set(path.parts[:-1]) & set(_NOT_IMAGES)
    )
