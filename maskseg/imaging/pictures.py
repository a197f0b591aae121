"""PNG, JPEG, BMP, GIF, JPEG 2000, WebP and the like: decoded as a whole, turned as they say."""

from __future__ import annotations

import atexit
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
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
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
# Bytes of decoded frames that are kept while they are looked at, and afterwards for whoever comes next.
_KEPT, _KEPT_AFTER = 128 << 20, 16 << 20
# The header of PNM up to its greatest value, which follows width and height.
_WIDE_PNM = re.compile(rb"P[2356]" + rb"(?:\s|#[^\n]*\n)+\d+" * 2 + rb"(?:\s|#[^\n]*\n)+(\d+)")
# The start of the pixels in a JPEG 2000 file.
_STREAM = b"\xff\x4f\xff\x51"
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
        # Not the number of frames: that is counted through the whole file.
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            return FramesStored(data, name)
        if image.format in ("JPEG", "MPO"):
            check_scans(data, image.width * image.height)
        pixels = _decode(image, data)
        if image.format == "JPEG2000" and pixels.ndim == 3 and pixels.shape[2] in (2, 4) and not _says_alpha(data):
            colours = image.mode == "RGBA"
            return ArrayStored(pixels, name, mpp, [*COLOURS, ""] if colours else [""] * pixels.shape[2])
        return ArrayStored(_channels(pixels), name, mpp)


def _says_alpha(data: bytes) -> bool:
    """Whether a JPEG 2000 file says that one of its components is alpha: in its channel definition, if it has one."""
    header = data[: data.find(_STREAM)]
    place = header.find(b"cdef") + 4
    if place < 4 or place + 2 > len(header):
        return False
    # Of each component its number, its type and its colour; types 1 and 2 are alpha.
    count = int.from_bytes(header[place : place + 2], "big")
    kinds = [header[place + 4 + 6 * k : place + 6 + 6 * k] for k in range(min(count, 4))]
    return any(kind in (b"\0\1", b"\0\2") for kind in kinds)


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
        # A last number at the very end of the file is none to OpenCV, which says so on the terminal.
        text = b"\n" if data[1:2] in b"23" else b""
        wide = cv2.imdecode(np.frombuffer(data + text, np.uint8), cv2.IMREAD_UNCHANGED)
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


class _Frames:
    """The frames of an animated image: opened once, and gone through forwards.

    A frame is what the frames before it have left: to go back is to begin anew.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._lock = data, threading.Lock()
        self._open = ExitStack()
        self._image: Image.Image | None = None
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        image = self._opened()
        self.count = int(getattr(image, "n_frames", 1))
        if self.count > len(data):
            raise InputError(f"claims {self.count} frames; get it again")
        self.wide = image.format == "PNG" and data[24] == 16
        if self.wide and not image.mode.startswith("I"):
            raise InputError("its frames are in colour or alpha of 16 bits; save each as a PNG or TIFF of its own")
        self._orientation = image.getexif().get(_ORIENTATION, 1)
        self.shape = (image.height, image.width)
        if self._orientation in (5, 6, 7, 8):
            self.shape = self.shape[::-1]

    def _opened(self, number: int = 0) -> Image.Image:
        """The image at this frame or before it."""
        # Pillow does not find the way back in every PNG.
        if self._image is None or self._image.tell() > number:
            self._open.close()
            self._image = self._open.enter_context(opened(self._data))
        return self._image

    def frame(self, number: int) -> NDArray[Any]:
        """A frame, (H, W, 3), or (H, W, 1) where it is grey of 16 bits; upright."""
        with self._lock:
            if number not in self._kept:
                try:
                    image = self._opened(number)
                    image.seek(number)
                    pixels = np.asarray(image) if self.wide else np.asarray(image.convert("RGB"))
                except BaseException:
                    # What is left of it is not to be read on.
                    self._open.close()
                    self._image = None
                    raise
                pixels = pixels.astype(np.uint16)[..., None] if self.wide else pixels
                self._kept[number] = turned(pixels, self._orientation)
            self._kept.move_to_end(number)
            self._drop(_KEPT)
            return self._kept[number]

    def rest(self) -> None:
        """Keep little."""
        with self._lock:
            self._drop(_KEPT_AFTER)

    def _drop(self, most: int) -> None:
        while len(self._kept) > 1 and sum(pixels.nbytes for pixels in self._kept.values()) > most:
            self._kept.popitem(last=False)


# Each time of a series is an image of its own, and asked for after the one before it.
_frames = lru_cache(maxsize=2)(_Frames)
# Some versions of Pillow cannot close an image any more once the interpreter has begun to end.
atexit.register(_frames.cache_clear)


class FramesStored:
    """An animated GIF, PNG, WebP or AVIF, whose frames are times; a `Stored`."""

    pages_unknown = False
    images: Sequence[str] = ("",)

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        with untrusted(name):
            self._frames = _frames(data)
        self.shapes = [self._frames.shape]
        self.planes: Mapping[str, int] = {"t": self._frames.count}
        self.rgb = not self._frames.wide
        self.dtype = np.dtype(np.uint8 if self.rgb else np.uint16)
        self.channels: Sequence[str] = COLOURS if self.rgb else [""]
        self.mpp: float | None = None

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `Stored`."""
        with untrusted(self.name):
            pixels = self._frames.frame(plane.get("t", 0))
        x0, y0, x1, y1 = box
        return pixels[y0:y1, x0:x1, list(channels)]

    def close(self) -> None:
        """See `Stored`."""
        self._frames.rest()
