"""PNG, JPEG, BMP, GIF, JPEG 2000, WebP and the like: decoded as a whole, turned as they say."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from maskseg.core.errors import InputError
from maskseg.imaging.boundary import DAMAGED, check_pixels, untrusted
from maskseg.imaging.stored import COLOURS, ArrayStored, Stored, plausible
from maskseg.imaging.tiff_structure import check_scans, jpeg2000_size
from maskseg.imaging.windows import Box

# Bytes of a pixel by the mode of Pillow, as far as they are known from its first letter.
_VALUE_BYTES = {"1": 1, "L": 1, "P": 1}
# A larger image is not decoded: its pixels would fill the memory of a small machine.
MOST_PIXELS = 1 << 29
# Formats whose frames are times; what a camera adds to a JPEG, such as its own small picture, is no frame.
_ANIMATED = ("GIF", "PNG", "WEBP")
# The header of PNM up to its greatest value, which follows width and height.
_WIDE_PNM = re.compile(rb"P[2356]" + rb"(?:\s|#[^\n]*\n)+\d+" * 2 + rb"(?:\s|#[^\n]*\n)+(\d+)")
# EXIF: Orientation.
_ORIENTATION = 0x0112
_LIMIT = threading.Lock()


@contextmanager
def opened(data: bytes | Path) -> Iterator[Image.Image]:
    """An image by its header.

    Raises
    ------
    InputError
        It has more pixels than are decoded.
    """
    with _LIMIT:
        # Pillow's own limit is a third of what is read here.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
        except UnidentifiedImageError:
            _say_what_it_is(data)
            raise
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        width, height = image.size
        stored = len(data) if isinstance(data, bytes) else data.stat().st_size
        check_pixels((height, width), _VALUE_BYTES.get(image.mode[:1], 4), stored)
        if width * height > MOST_PIXELS:
            raise InputError(
                f"{height} x {width} are more pixels than {image.format} is read with; save it as a tiled TIFF, such "
                "as with: vips tiffsave IN OUT.tif --tile --compression deflate --bigtiff"
            )
        yield image


def _say_what_it_is(data: bytes | Path) -> None:
    """Refuse what is often found in the place of an image with the way to the image."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            data = file.read(256)
    start = data[:256].lstrip().lower()
    if not start:
        raise InputError("the file is empty; get it again")
    if start.startswith(b"version https://git-lfs"):
        raise InputError("is a pointer of Git LFS and not the image; get that by: git lfs pull")
    if start.startswith((b"<!doctype html", b"<html")):
        raise InputError("is a web page and not an image; download the image itself")


def upright_size(data: bytes | Path) -> tuple[int, int]:
    """Height and width from the header, after the turn that it asks for."""
    with opened(data) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


def read_picture(data: bytes, name: str) -> Stored:
    """An image of a format that is decoded as a whole; a `Stored`."""
    with opened(data) as image:
        mpp = _microns(image)
        if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
            return FramesStored(data, name)
        if image.format in ("JPEG", "MPO"):
            check_scans(data, image.width * image.height)
        return ArrayStored(_channels(_decode(image, data)), name, mpp)


def _decode(image: Image.Image, data: bytes) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C), upright; of two or four channels the last is alpha."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    if image.format == "PNG" and data[24] == 16:
        check_pixels((image.height, image.width, 1 if image.mode.startswith("I") else 4), 2, len(data))
        image.load()  # a file that is cut short fails here
        # Pillow keeps 8 of the 16 bits of colour; OpenCV keeps all.
        unchanged = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), unchanged)
        if pixels is None:
            raise ValueError("not decoded")
        return turned(pixels if pixels.ndim == 2 else pixels[:, :, 2::-1], orientation)
    if image.format == "PPM" and (header := _WIDE_PNM.match(data[:1024])) and int(header[1]) > 255:
        # As above, and of grey Pillow changes the values.
        check_pixels((image.height, image.width, len(image.getbands())), 4, len(data))
        image.load()
        wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if wide is None:
            raise ValueError("not decoded")
        return np.asarray(wide if wide.ndim == 2 else wide[:, :, ::-1])
    if image.format == "JPEG2000":
        # The stream in the file may say another size than the file.
        size = jpeg2000_size(data)
        if size is None or max(size) > 2 * max(image.size):
            raise InputError(DAMAGED)
        pixels = imagecodecs.jpeg2k_decode(data)
        if pixels.dtype != np.uint8:  # as above
            return turned(pixels, orientation)
    image.load()
    return np.asarray(_simple(ImageOps.exif_transpose(image)))


def _simple(image: Image.Image) -> Image.Image:
    """Palettes and other colours as RGB."""
    if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
        return image.convert("RGB" if image.mode != "La" else "L")
    return image


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels (H, W, ...) turned upright by EXIF's number."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    return pixels[
        :: -1 if orientation in (3, 4, 7, 8) else 1,
        :: -1 if orientation in (2, 3, 6, 7) else 1,
    ]


def _channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C) as (H, W, 1 or 3), without alpha: grey has it second, colour fourth."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return pixels[:, :, : 1 if pixels.shape[2] <= 2 else 3]


def _microns(image: Image.Image) -> float | None:
    """Side of a pixel in micrometres, from the dots an inch."""
    try:
        across, down = (float(number) for number in image.info["dpi"])
        return plausible(25400 / across, 25400 / down)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


class FramesStored:
    """An animated GIF, PNG or WebP, whose frames are times; a `Stored`."""

    pages_unknown = False

    def __init__(self, data: bytes, name: str) -> None:
        self.name, self._data = name, data
        with opened(data) as image:
            self.shapes = [(image.height, image.width)]
            self.planes: Mapping[str, int] = {"t": getattr(image, "n_frames", 1)}
        self.dtype, self.rgb = np.dtype(np.uint8), True
        self.channels: Sequence[str] = COLOURS
        self.mpp: float | None = None
        self._kept: tuple[int, NDArray[Any]] | None = None

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `Stored`."""
        frame = plane.get("t", 0)
        if self._kept is None or self._kept[0] != frame:
            with untrusted(self.name), opened(self._data) as image:
                image.seek(frame)
                self._kept = frame, np.asarray(image.convert("RGB"))
        x0, y0, x1, y1 = box
        return self._kept[1][y0:y1, x0:x1, list(channels)]

    def close(self) -> None:
        """See `Stored`."""
