"""The containers of images: their suffixes, and which reader opens which."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.imaging import bioio_images
from maskseg.imaging.openslide_images import SlideStored
from maskseg.imaging.pictures import read_picture, upright_size
from maskseg.imaging.stored import Stored
from maskseg.imaging.tiff import TiffStored
from maskseg.imaging.zarr_images import ZarrStored

# Decoded as a whole. JPEG 2000 and PNM by several names.
PICTURE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".jp2", ".j2k", ".jpx", ".j2c",
    ".jpf", ".pgm", ".ppm", ".pnm", ".tga", ".avif",
)  # fmt: skip
# Read in parts by tifffile.
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".stk", ".lsm", ".qptiff")
# What is read as a whole where it is asked for, and so what a data set may hold.
SUFFIXES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)
# Read in parts by OpenSlide; an image in Zarr is a folder.
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
ZARR_SUFFIX = ".zarr"
# Read in parts by bioio, if it is installed.
BIOIO_SUFFIXES = tuple(bioio_images.PACKAGES)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def can_read(suffix: str) -> bool:
    """Whether images of this ending, in small letters, can be read with what is installed."""
    return suffix in (*SUFFIXES, *SLIDE_SUFFIXES, ZARR_SUFFIX) or bioio_images.can_read(suffix)


def in_parts(path: Path) -> bool:
    """Whether the format of a file is read window by window."""
    suffix = path.suffix.lower()
    return suffix in TIFF_SUFFIXES or only_in_parts(path)


def only_in_parts(path: Path) -> bool:
    """Whether a file is a slide, in Zarr, or of a format that bioio reads."""
    return path.suffix.lower() in (*SLIDE_SUFFIXES, ZARR_SUFFIX, *BIOIO_SUFFIXES) or path.is_dir()


def open_stored(source: Path | bytes, name: str) -> Stored:
    """Open an image file of any container; pictures are decoded, all others wait to be read in parts.

    Parameters
    ----------
    source : Path or bytes
        The file, or its content: then a TIFF or a picture. These are known by their first bytes, whatever their name.
    name : str
        What errors call it.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut short, or of no kind that is known.
    """
    if isinstance(source, Path) and only_in_parts(source):
        suffix = source.suffix.lower()
        if suffix in BIOIO_SUFFIXES:
            return bioio_images.BioioStored(source, name)
        if suffix not in SLIDE_SUFFIXES:
            return ZarrStored(source, name)
        if find_spec("openslide") or not _is_tiff(source):
            return SlideStored(source, name)
    try:
        start = source[:4] if isinstance(source, bytes) else _start(source)
        if start in _TIFF:
            return TiffStored(source, name)
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    if not data:
        raise InputError(f"{name}: the file is empty; get it again")
    try:
        return read_picture(data, name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        raise InputError(f"{name}: damaged, cut short or no PNG, JPEG, TIFF or WebP image; get it again") from error


def header_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Height and width of an image, upright, from its header.

    Raises
    ------
    InputError
        As `open_stored`.
    """
    is_picture = isinstance(source, bytes) or not only_in_parts(source)
    if is_picture and (source[:4] if isinstance(source, bytes) else _start(source)) not in _TIFF:
        try:
            return upright_size(source)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        except Exception as error:  # as above
            raise InputError(f"{name}: damaged, cut short or no image; get it again") from error
    stored = open_stored(source, name)
    try:
        return stored.shapes[0]
    finally:
        stored.close()


def _is_tiff(path: Path) -> bool:
    return path.is_file() and _start(path) in _TIFF


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
