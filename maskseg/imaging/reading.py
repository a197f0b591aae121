"""Images in: found in folders, globs and zip files, and read to what the model eats.

The one rule
------------
Every image becomes uint8 RGB (H, W, 3):

1. alpha is dropped; grey is repeated to three channels; palettes (but not ImageJ's, which are for display only), CMYK,
   YCbCr and L*a*b* become RGB; what the file says of its turn is done;
2. 8-bit values stay as they are, 1-bit becomes 0 and 255;
3. all other kinds (16-bit, 32-bit, float) are mapped linearly by their `maskseg.imaging.intensity.limits`, with room at
   either end: cameras use only a part of such a range. What is not a number becomes black.

Which channel and plane of an image with several it is made of, and which are colours: `maskseg.imaging.channels`.
"""

from __future__ import annotations

import builtins
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.files import check_file
from maskseg.core.limits import check_claim
from maskseg.imaging import intensity
from maskseg.imaging.boundary import check_pixels, stored_bytes, untrusted
from maskseg.imaging.channels import Choice, Chosen
from maskseg.imaging.containers import header_size, open_stored
from maskseg.imaging.names import printable
from maskseg.imaging.tiff_metadata import ome_file_names
from maskseg.imaging.windows import Box, ManyChannels


def read_image(
    source: str | os.PathLike[str] | bytes, name: str | None = None, choice: Choice | None = None
) -> NDArray[np.uint8]:
    """Read an image by the rule above.

    Parameters
    ----------
    source : path or bytes
        An image file of any container that is known (see `maskseg.imaging.containers`), or its content.
    name : str, optional
        What errors call it; the path where not given.
    choice : Choice, optional
        The channel and the plane, of an image that holds several.

    Returns
    -------
    uint8 array (H, W, 3)
        RGB.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut short, or no single 2-D image and none is chosen of it.

    Examples
    --------
    >>> import cv2
    >>> file = cv2.imencode(".png", np.full((4, 6), 200, np.uint8))[1].tobytes()  # or a path
    >>> image = read_image(file)
    >>> image.shape, image[0, 0].tolist()
    ((4, 6, 3), [200, 200, 200])
    """
    name = name or (printable(source) if not isinstance(source, bytes) else "image")
    return load_image(source if isinstance(source, bytes) else Path(source), name, choice).image


class Loaded(NamedTuple):
    """An image in memory.

    Attributes
    ----------
    image : uint8 array (H, W, 3)
    values : array (H, W, 1 or 3)
        As they are in the file: what to measure on.
    mpp : float or None
        Side of a pixel in micrometres, where the file says so.
    every : ManyChannels or None
        The values in every channel of the file, where it has more than those.
    """

    image: NDArray[np.uint8]
    values: NDArray[Any]
    mpp: float | None
    every: ManyChannels | None = None


def load_image(source: Path | bytes, name: str, choice: Choice | None = None) -> Loaded:
    """An image with its values and the size of its pixels; see `read_image`."""
    stored = open_stored(source, name, choice.image if choice else None)
    with closing(stored), untrusted(name):
        chosen = Chosen(stored, choice)
        height, width = chosen.shapes[0]
        check_pixels((height, width, chosen.count), chosen.dtype.itemsize, stored_bytes(source))
        values = chosen.values(0, (0, 0, width, height))
        channels = chosen.all_channels
        every = _EveryChannel(source, name, choice, channels) if len(channels) > values.shape[2] else None
        return Loaded(to_rgb8(values), values, chosen.mpp, every)


class _EveryChannel:
    """The values of a file in every channel, read when they are asked for; a `ManyChannels`."""

    def __init__(self, source: Path | bytes, name: str, choice: Choice | None, channels: list[str]) -> None:
        self._source, self._name, self._choice = source, name, choice
        self.channels: Sequence[str] = channels
        self._values: NDArray[Any] | None = None

    def all_values(self, box: Box) -> NDArray[Any]:
        """See `ManyChannels`."""
        if self._values is None:
            stored = open_stored(self._source, self._name, self._choice.image if self._choice else None)
            with closing(stored), untrusted(self._name):
                chosen = Chosen(stored, self._choice)
                height, width = chosen.shapes[0]
                size = (height, width, len(chosen.all_channels))
                check_pixels(size, chosen.dtype.itemsize, stored_bytes(self._source))
                self._values = chosen.all_values(0, (0, 0, width, height))
        x0, y0, x1, y1 = box
        if self._values.shape[2] != len(self.channels) or self._values.shape[0] < y1 or self._values.shape[1] < x1:
            raise InputError(f"{self._name}: was changed while it was read; run it again")
        return self._values[y0:y1, x0:x1]


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
        If the shape or the type is none of these, or no value is finite.
    """
    pixels = _channels(pixels)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "uif":
            raise InputError(f"pixels of type {pixels.dtype} are not supported; save as 8-bit, 16-bit or float")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
            raise InputError("it holds no value that is finite; get it again")
        pixels = intensity.in_8_bits(pixels, *intensity.limits(pixels))
    if pixels.shape[2] == 1:
        # NumPy's broadcast takes ten times as long.
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels[:, :, 0]), cv2.COLOR_GRAY2RGB), np.uint8)
    return np.ascontiguousarray(pixels)


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
    choice : Choice
        Which channel and plane of it is the image.
    """

    id: str
    path: Path
    member: str | None = None
    choice: Choice = field(default_factory=Choice)

    @property
    def name(self) -> str:
        """Path for messages."""
        return printable(f"{self.path}:{self.member}" if self.member else self.path)

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
            if self.member:
                return _member(_zip(self.path), self.member)
            check_claim(check_file(self.path, self.name), 1 << 60)
            return self.path.read_bytes()
        except InputError as error:
            raise InputError(located(self.name, error)) from error
        except MemoryError as error:
            raise InputError(f"{self.name}: too large for the memory there is; unpack it") from error
        except Exception as error:  # zipfile has a dozen kinds of errors; all mean the same here
            raise InputError(f"{self.name}: cannot be read ({error}); get it again") from error

    def open(self) -> Chosen:
        """The image, of which nothing is read yet; close it after use."""
        stored = open_stored(self._source(), self.name, self.choice.image)
        try:
            with untrusted(self.name):
                return Chosen(stored, self.choice)
        except BaseException:
            stored.close()
            raise

    def read(self) -> NDArray[np.uint8]:
        """The image, uint8 (H, W, 3); see `read_image`."""
        return self.load().image

    def read_values(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """The image, uint8 (H, W, 3), and its values as they are in the file, (H, W, 1 or 3): what to measure on."""
        loaded = self.load()
        return loaded.image, loaded.values

    def load(self) -> Loaded:
        """The image, its values and the size of its pixels."""
        return load_image(self._source(), self.name, self.choice)

    def size(self) -> tuple[int, int]:
        """Height and width, from the header where the format has one."""
        return header_size(self._source(), self.name, self.choice.image)

    def planes(self) -> Mapping[str, int]:
        """How many planes there are along ``z`` and ``t``, where there are several."""
        stored = open_stored(self._source(), self.name, self.choice.image)
        stored.close()
        return stored.planes

    def images(self) -> int:
        """How many images of full size the file holds."""
        stored = open_stored(self._source(), self.name, 0)
        stored.close()
        return len(stored.images)

    def _source(self) -> Path | builtins.bytes:
        if not self.member:
            return self.path
        content = self.bytes()
        if _is_part(content, self.path, self.member):
            raise InputError(f"{self.name}: is part of an OME image in several files; unpack the zip file to read it")
        return content


@lru_cache(maxsize=8)
def _open_zip(path: str, changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _zip(path: Path) -> zipfile.ZipFile:
    """An open zip file; one that has changed on disk is opened again."""
    check_file(path, printable(path))
    try:
        # A str is looked up faster than a Path, which counts over 27,000 members.
        return _open_zip(str(path), path.stat().st_mtime_ns)
    except Exception as error:  # zipfile has a dozen kinds of errors; all mean the same here
        raise InputError(f"{printable(path)}: not a readable zip file ({error}); get it again") from error


def _check_packing(entry: zipfile.ZipInfo) -> None:
    # The others are unpacked by Python in steps that have no bound.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError("is compressed in another way than deflate; pack it again with deflate")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a zip member, of which no more is unpacked than is to be believed."""
    entry = archive.getinfo(name)
    _check_packing(entry)
    check_claim(entry.file_size, entry.compress_size)
    return archive.read(entry)


def _is_part(content: bytes, archive: Path, member: str) -> bool:
    """Whether a zip member is one file of an OME image whose files are all in the zip file."""
    # In every such file, and in hardly any other: a TIFF is opened for it.
    if b"UUID" not in content or b"FileName" not in content:
        return False
    try:
        with tifffile.TiffFile(io.BytesIO(content), _multifile=False) as file:
            names = ome_file_names(file)
    except Exception:  # of whatever kind: reading it says what is wrong with it
        return False
    folder, known = member.removesuffix(member_path(member).name), _zip(archive).NameToInfo
    return (
        len(names) > 1 and member in (folder + name for name in names) and all(folder + name in known for name in names)
    )


def zip_members(path: Path) -> list[str]:
    """Names in a zip file, those of folders with a slash at the end, each once.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    return list(dict.fromkeys(_zip(path).namelist()))


def zip_size(path: Path, member: str) -> tuple[int, int]:
    """Bytes that a file in a zip file has when it is unpacked, and packed; zipfile gives no more than the first.

    Raises
    ------
    InputError
        If there is no such file.
    """
    try:
        found = _zip(path).getinfo(member)
    except KeyError as error:
        raise InputError(f"{path}: no {member} in it; check the path") from error
    return found.file_size, found.compress_size


def zip_beginning(path: Path, member: str, count: int) -> bytes:
    """The first bytes of a file in a zip file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    archive = _zip(path)
    try:
        _check_packing(archive.getinfo(member))
        with archive.open(member) as file:
            return file.read(count)
    except InputError:
        raise
    except Exception as error:  # zipfile has a dozen kinds of errors; all mean the same here
        raise InputError(f"{path}:{member}: cannot be read ({error}); get it again") from error


def member_path(member: str) -> PurePosixPath:
    """The name of a zip member as a path, also where it was written with backslashes."""
    return PurePosixPath(member.replace("\\", "/"))


def leads_outside(member: str) -> bool:
    """Whether the name of a zip member is a path to somewhere outside the folder that it would be unpacked into."""
    if ".." not in member and member[:1] not in ("/", "\\") and ":" not in member:
        return False
    parts = member_path(member).parts
    return bool(parts) and (parts[0].startswith("/") or ".." in parts or parts[0].endswith(":"))
