"""The containers of images: their suffixes, and which reader opens which."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.core.files import check_file
from maskseg.core.limits import check_claim
from maskseg.imaging import bioio_images
from maskseg.imaging.boundary import Guarded, check_planes, untrusted
from maskseg.imaging.openslide_images import SlideStored
from maskseg.imaging.pictures import read_picture, upright_size
from maskseg.imaging.stored import Stored, choose_image
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

_NO_IMAGE = "damaged, cut short or no PNG, JPEG, TIFF or WebP image; get it again"
_SAVE = "save it as TIFF or PNG, or as OME-TIFF by Fiji, QuPath or bioformats2raw"
# A TIFF by its first bytes, but its pixels lie in files beside it, or it holds a small picture of those it is about.
_TIFF_IN_PART = (".vsi", ".dng", ".nef", ".arw", ".cr2")
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


def _not_read(source: Path | bytes) -> str:
    """What is said of a file that no reader knows."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if not suffix or suffix in (*SUFFIXES, *SLIDE_SUFFIXES, ZARR_SUFFIX, *BIOIO_SUFFIXES):
        return _NO_IMAGE
    return f"damaged, cut short or of a format that is not read ({suffix}); {_SAVE}"


def open_stored(source: Path | bytes, name: str, image: int | None = None) -> Stored:
    """Open an image file of any container; pictures are decoded, all others wait to be read in parts.

    Parameters
    ----------
    source : Path or bytes
        The file, or its content: then a TIFF or a picture. These are known by their first bytes, whatever their name.
    name : str
        What errors call it.
    image : int, optional
        Which image of a file that holds several.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut short, of no kind that is known, claims more than it can hold, or holds
        several images and none is chosen.
    """
    with untrusted(name, _not_read(source)):
        stored = Guarded(_open(source, name, image))
        try:
            check_planes(stored.planes.values(), source)
        except BaseException:
            stored.close()
            raise
        return stored


def _open(source: Path | bytes, name: str, image: int | None) -> Stored:
    if isinstance(source, Path) and only_in_parts(source):
        suffix = source.suffix.lower()
        if not source.is_dir():
            check_file(source, name)
        if suffix in BIOIO_SUFFIXES:
            return bioio_images.BioioStored(source, name, image)
        if suffix not in SLIDE_SUFFIXES:
            choose_image(image, [""])
            return ZarrStored(source, name)
        if find_spec("openslide") or not _is_tiff(source):
            choose_image(image, [""])
            return SlideStored(source, name)
    if isinstance(source, Path) and source.suffix.lower() in _TIFF_IN_PART:
        raise InputError(f"{source.suffix.lower()} files are not read; {_SAVE}")
    if _start(source, name) in _TIFF:
        return TiffStored(source, name, image)
    choose_image(image, [""])
    if isinstance(source, Path):
        check_claim(check_file(source, name), 1 << 60)
        source = source.read_bytes()
    if not source:
        raise InputError("the file is empty; get it again")
    return read_picture(source, name)


def header_size(source: Path | bytes, name: str, image: int | None = None) -> tuple[int, int]:
    """Height and width of an image, upright, from its header.

    Raises
    ------
    InputError
        As `open_stored`.
    """
    is_picture = isinstance(source, bytes) or not only_in_parts(source)
    with untrusted(name, _not_read(source)):
        if is_picture and _start(source, name) not in _TIFF:
            return upright_size(source)
    stored = open_stored(source, name, image)
    try:
        return stored.shapes[0]
    finally:
        stored.close()


def _is_tiff(path: Path) -> bool:
    return path.is_file() and _start(path, str(path)) in _TIFF


def _start(source: Path | bytes, name: str) -> bytes:
    """The first bytes of a file, by which its container is known."""
    if isinstance(source, bytes):
        return source[:4]
    check_file(source, name)
    with source.open("rb") as file:
        return file.read(4)
