"""Label images: 0 for background, one whole number for each nucleus.

Written as TIFF; one that is larger than memory is written as a tiled TIFF, row by row of tiles, as the nuclei come.
Read as TIFF, PNG or .npy from two layouts, at any depth below a folder:

- StarDist's, and what ``maskseg predict`` writes: ``images/STEM.*`` with ``masks/STEM.*`` or ``labels/STEM.*``;
- Cellpose's: ``STEM.*`` with ``STEM_masks.*``, ``STEM_cp_masks.*`` or ``STEM_seg.npy`` in the same folder, also
  ``STEM_img.*`` with ``STEM_masks.*``.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.files import named_if_full, write_whole
from maskseg.core.masks import CropMasks
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape
from maskseg.formats.writer import ImageInfo, Writer
from maskseg.imaging.containers import SUFFIXES as IMAGE_SUFFIXES
from maskseg.imaging.reading import ImageFile

SUFFIXES = (".tif", ".tiff", ".png", ".npy")
# Side of the tiles of a tiled TIFF.
TILE = 256
# Bytes of labels that a classic TIFF, which every program opens, has room for even if nothing can be compressed.
_CLASSIC = (1 << 32) - (1 << 26)
# Where label images lie that have no images beside them: in the folder given, as `maskseg predict` writes them, as
# StarDist has them.
_FOLDERS = (".", "labels", "masks")
# Cellpose's names.
_LABEL_ENDINGS = ("_cp_masks", "_masks", "_seg")
_SEG = "_seg.npy"
_IMAGE_ENDING = "_img"
# Pictures that Cellpose writes beside those.
_OTHER_ENDINGS = ("_flows", "_cp_flows", "_outlines", "_cp_outlines", "_cp_output")


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF, whole or not at all.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    labels : integer array (H, W)
        Stored as uint16, which every viewer opens, and as int32 from 65,536 labels on.
    """
    largest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or largest > np.iinfo(np.int32).max:
        raise InputError(f"{path}: labels below 0 or above {np.iinfo(np.int32).max} cannot be stored; renumber them")
    dtype = label_dtype(largest)
    encoded = io.BytesIO()
    tifffile.imwrite(encoded, labels.astype(dtype, copy=False), compression="zlib", photometric="minisblack")
    with write_whole(path) as file:
        file.write(encoded.getbuffer())


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label image.

    Parameters
    ----------
    path : path-like
        TIFF, PNG (grey or palette, 8 or 16 bit: the stored numbers) or NumPy's .npy. Whole numbers stored as float
        become int64.

    Returns
    -------
    integer array (H, W)

    Raises
    ------
    InputError
        The file is missing, broken, in colour, or holds fractions.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a label image is one of {', '.join(SUFFIXES)}")
    try:
        labels = _read(path, suffix)
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist") from error
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable label image ({reason}); write it again") from error
    while labels.ndim > 2 and 1 in labels.shape:
        labels = labels.squeeze(labels.shape.index(1))
    if labels.ndim != 2:
        raise InputError(f"{path}: has the shape {labels.shape}; a label image has one channel, (height, width)")
    if labels.dtype.kind == "f" and np.array_equal(labels, np.trunc(labels)) and np.abs(labels).max(initial=0) < 2**53:
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biu":
        raise InputError(f"{path}: holds {labels.dtype} values; save the labels as whole numbers")
    return labels


def _read(path: Path, suffix: str) -> np.ndarray:
    if suffix == ".npy":
        stored: NDArray[Any] = np.load(path, allow_pickle=False)
        return stored
    if suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    # Some kinds of TIFF name other files that they go on in, which may be any.
    return tifffile.imread(path, _multifile=False, is_ndtiff=False, is_mmstack=False)


# ---- nuclei to label images ----


def label_dtype(at_most: int) -> np.dtype:
    """What that many labels are stored as: uint16, which every viewer opens, and int32 from 65,536 on."""
    return np.dtype(np.uint16 if at_most <= np.iinfo(np.uint16).max else np.int32)


class LabelBands:
    """A label image `TILE` rows at a time, from nuclei that are numbered in the order in which they come.

    What is held are the nuclei that come before their rows are done.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    dtype : integer dtype
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._top = self._count = 0
        self._waiting: list[tuple[list[int], NDArray[np.bool_], int]] = []

    def add(self, masks: CropMasks, settled: int) -> Iterator[NDArray[np.integer]]:
        """Take nuclei without overlap, and give the rows that are done: integer arrays (`TILE`, W), the last one less.

        `settled` is the row above which no later nucleus has a pixel. All that is given is to be taken.
        """
        for box, bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True):
            self._count += 1
            self._waiting.append((box, bitmap, self._count))
        height, width = self._shape
        while self._top < height and (bottom := min(self._top + TILE, height)) <= settled:
            band = np.zeros((bottom - self._top, width), self._dtype)
            for (x0, y0, x1, y1), bitmap, label in self._waiting:
                low, high = max(y0, self._top), min(y1, bottom)
                if low < high:
                    band[low - self._top : high - self._top, x0:x1][bitmap[low - y0 : high - y0]] = label
            self._waiting = [item for item in self._waiting if item[0][3] > bottom]
            self._top = bottom
            yield band


class LabelWriter(Writer):
    """A label image of each image; of nuclei that come tile by tile a tiled TIFF.

    A TIFF of tiles is written from its first tile to its last in one go, so tiles wait, compressed, in a temporary
    file that has no name.
    """

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._labels: NDArray[np.int32] | None = None
        self._tiles: IO[bytes] | None = None
        self._stack = ExitStack()
        self._lengths: list[int] = []
        self._dtype = label_dtype(image.at_most or 0)
        self._bands = LabelBands(image.shape, self._dtype)

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        if self.image.at_most is None:
            self._labels = masks.to_labels()
            areas = np.bincount(self._labels.ravel(), minlength=len(masks) + 1)[1:]
            self.shared = int(masks.areas.sum() - areas.sum())
            self.left_out += ["wholly covered by others"] * int(np.count_nonzero(areas == 0))
            return
        with named_if_full(self.path):
            if self._tiles is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
                self._tiles = self._stack.enter_context(spool)
            for band in self._bands.add(masks, settled):
                for tile in _tiles(band):
                    encoded = imagecodecs.deflate_encode(tile.tobytes())  # as tifffile has it
                    self._lengths.append(len(encoded))
                    self._tiles.write(encoded)

    def close(self) -> None:
        """See `Writer`."""
        if self._tiles is None:
            labels = np.zeros(self.image.shape, np.int32) if self._labels is None else self._labels
            write_labels(self.path, labels)
            return
        self._tiles.seek(0)
        with write_whole(self.path) as file:
            tifffile.imwrite(
                # A temporary file has a number for a name, which tifffile does not expect.
                tifffile.FileHandle(file, mode="wb", name=self.path.name, size=0),
                (self._tiles.read(length) for length in self._lengths),
                shape=self.image.shape,
                dtype=self._dtype,
                tile=(TILE, TILE),
                bigtiff=math.prod(self.image.shape) * self._dtype.itemsize > _CLASSIC,
                compression="zlib",
                photometric="minisblack",
            )
        self.abandon()

    def abandon(self) -> None:
        """See `Writer`."""
        self._stack.close()


def _tiles(rows: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    height, width = rows.shape
    padded = np.zeros((TILE, -(-width // TILE) * TILE), rows.dtype)
    padded[:height, :width] = rows
    for left in range(0, padded.shape[1], TILE):
        yield padded[:, left : left + TILE]


# ---- label images to nuclei ----


def recognises(source: Path) -> bool:
    """Whether a folder holds label images, or pairs of images and label images, in one of the layouts."""
    return source.is_dir() and (bool(_alone(source)) or any(_has_labels(item) for item in _pairs(source)))


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The pairs of images and label images below a folder, or label images that lie there alone.

    The labels need not be consecutive; each becomes one nucleus, also where it lies in several pieces.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; check the path, unpack it if it is a zip file")
    pairs = list(_pairs(source))
    alone = [] if any(map(_has_labels, pairs)) else _alone(source)
    yield from _items_alone(alone) if alone else pairs


def _has_labels(item: Item | LeftOut) -> bool:
    return isinstance(item, Item) and isinstance(item.load, partial) and bool(item.load.args[0])


def _load(files: tuple[Path, ...], paired: bool, shape: Shape | None) -> Nuclei:
    if not files:
        raise InputError("no label image for it; add it, all 0 if there is no nucleus")
    if len(files) > 1:
        raise InputError(f"several label images ({', '.join(path.name for path in files)}); keep one of them")
    (path,) = files
    try:
        labels = read_labels(path)
    except InputError as error:
        if path.name.endswith(_SEG):
            reason = "holds Python objects, which may run code and are not loaded; save the masks as TIFF or PNG"
            raise InputError(f"{path.name} {reason}") from error
        raise
    if paired and shape is not None and labels.shape != shape:
        raise InputError(
            f"{path.name} has {labels.shape[0]}x{labels.shape[1]} pixels, the image {shape[0]}x{shape[1]}; "
            "make them equal"
        )
    try:
        return Nuclei(CropMasks.from_labels(labels))
    except InputError as error:
        raise InputError(f"{path.name}: {error}; write it again") from error


def _alone(source: Path) -> list[Path]:
    """The label images of a folder that lie there without images."""
    for name in _FOLDERS:
        folder = source / name
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file() and file.name[0] != "."]
        if files:
            return files
    return []


def _items_alone(files: list[Path]) -> Iterator[Item]:
    first: dict[str, Path] = {}
    for path in files:
        if first.setdefault(path.stem, path) is not path:
            raise InputError(f"{path} and {first[path.stem].name} are for the same image: keep one of them")
    for path in files:
        yield Item(path.stem, partial(_load, (path,), False), str(path))


def _pairs(source: Path) -> Iterator[Item | LeftOut]:
    """Images with their label images, sorted, after the label images without an image."""
    pairs: list[tuple[Path, tuple[Path, ...]]] = []
    for where, folders, names in os.walk(source):
        folder = Path(where)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        if folder.name in _FOLDERS and (folder.parent / "images").is_dir():
            continue
        files = [folder / name for name in names if not name.startswith(".")]
        files = [path for path in files if not path.stem.endswith(_OTHER_ENDINGS)]
        beside = [folder.parent / name for name in _FOLDERS[1:]] if folder.name == "images" else []
        beside = [path for path in beside if path.is_dir()]
        if beside:
            labels = {path: path.stem for other in beside for path in other.iterdir() if not path.name.startswith(".")}
            images = {path: path.stem for path in files}
        else:
            labels, images = _cellpose(files)
        labels = {path: stem for path, stem in labels.items() if path.suffix.lower() in SUFFIXES}
        images = {path: stem for path, stem in images.items() if path.suffix.lower() in IMAGE_SUFFIXES}
        of: dict[str, list[Path]] = {}
        for path in sorted(labels):
            of.setdefault(labels[path], []).append(path)
        pairs += [(path, tuple(of.get(stem, []))) for path, stem in images.items()]
        for stem in sorted(of.keys() - set(images.values())):
            for path in of[stem]:
                yield LeftOut(str(path), "label image left out", "no image for it; add it")
    for path, found in sorted(pairs):
        image = ImageFile(path.stem, path)
        yield Item(path.stem, partial(_load, found, True), str(path), image=image)


def _cellpose(files: list[Path]) -> tuple[dict[Path, str], dict[Path, str]]:
    """Label images and images of one folder, each with the stem that they have in common."""
    labels: dict[Path, str] = {}
    images: dict[Path, str] = {}
    for path in files:
        ending = next((ending for ending in _LABEL_ENDINGS if path.stem.endswith(ending)), None)
        if ending:
            labels[path] = path.stem.removesuffix(ending)
        else:
            images[path] = path.stem.removesuffix(_IMAGE_ENDING)
    # _seg.npy holds the same masks once more.
    others = {stem for path, stem in labels.items() if not path.name.endswith(_SEG)}
    return {path: stem for path, stem in labels.items() if not (path.name.endswith(_SEG) and stem in others)}, images
