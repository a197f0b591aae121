"""Stacks of images and label images in NumPy's files: PanNuke, CoNIC, TissueNet, or any (N, H, W).

==========  ===============================  ==========================================================================
PanNuke     images.npy, masks.npy            masks (N, H, W, 6): label images of five classes, and the background
CoNIC       images.npy, labels.npy           labels (N, H, W, 2): numbers of the nuclei, and their classes
TissueNet   X and y in one .npz              X (N, H, W, 2): nuclei and membranes; y (N, H, W, 2): cells, and nuclei
others      images and masks or labels       (N, H, W[, 3]) and (N, H, W), also as ``images``, ``masks`` in one .npz
==========  ===============================  ==========================================================================
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import check_file
from maskseg.core.limits import FLOOR, IMAGE, check_claim
from maskseg.core.masks import CropMasks
from maskseg.formats.reader import Item, Nuclei, Shape
from maskseg.formats.sources import files_of, parsing
from maskseg.imaging.reading import ImageFile

_IMAGES, _LABELS = ("images", "x", "imgs"), ("masks", "labels", "y", "annotations")
_PANNUKE = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial")
_CONIC = ("", "Neutrophil", "Epithelial", "Lymphocyte", "Plasma", "Eosinophil", "Connective")
# Bytes of an array in an .npz, which is unpacked as a whole.
_MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class _Array:
    """An array in a file: .npy, or a name in an .npz."""

    path: Path
    name: str = ""


@dataclass(frozen=True)
class StackImage(ImageFile):
    """An image of a stack; `member` is the name that it has as a file."""

    array: _Array | None = None
    index: int = 0

    @property
    def name(self) -> str:
        """Path for messages."""
        return f"{self.path}: image {self.index}"

    def bytes(self) -> bytes:
        """The image as PNG, or as TIFF where its values are not of 8 bits."""
        assert self.array is not None
        values = _opened(self.array)[self.index]
        if values.ndim == 3 and values.shape[2] == 2:  # TissueNet: nuclei, then membranes
            values = values[..., 0]
        if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all():
            values = values.astype(np.uint8)
        if values.dtype == np.uint8:
            return bytes(cv2.imencode(".png", values if values.ndim == 2 else values[..., 2::-1])[1])
        file = io.BytesIO()
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        tifffile.imwrite(file, values, compression="zlib")
        return file.getvalue()

    def size(self) -> tuple[int, int]:
        """Height and width."""
        assert self.array is not None
        return _opened(self.array).shape[1:3]


def recognises(source: Path) -> bool:
    """Whether a path is such a stack, or a folder with one."""
    try:
        return bool(_pairs(source))
    except InputError:
        return False


def read(source: Path) -> Iterator[Item]:
    """The images of the stacks below a folder, or of one .npz file, with their label images.

    Raises
    ------
    InputError
        If there are none, or images and labels do not fit.
    """
    pairs = _pairs(source)
    if not pairs:
        raise InputError(f"{source}: no images.npy with masks.npy or labels.npy, and no .npz of both; check the path")
    for images, labels in pairs:
        pictures, numbers = _opened(images), _opened(labels)
        if pictures.ndim not in (3, 4) or numbers.ndim not in (3, 4) or pictures.shape[:3] != numbers.shape[:3]:
            raise InputError(
                f"{labels.path}: {numbers.shape} labels for {pictures.shape} images; both are (N, H, W, ...)"
            )
        stem = images.path.parent.name if images.path.suffix == ".npy" else images.path.stem
        prefix = "" if len(pairs) == 1 else f"{images.path.parent.parent.name}_{stem}_"
        plain = pictures.dtype == np.uint8 or pictures.dtype.kind == "f"
        for index in range(len(pictures)):
            name = f"{prefix}{index:05d}"
            suffix = ".png" if plain and (pictures.ndim == 3 or pictures.shape[3] == 3) else ".tif"
            image = StackImage(name, images.path, name + suffix, array=images, index=index)
            yield Item(name, partial(_load, labels, index), f"{labels.path}: {index}", numbers.shape[1:3], image)


def _pairs(source: Path) -> list[tuple[_Array, _Array]]:
    """Images and their labels."""
    pairs = []
    if source.suffix.lower() != ".zip":
        by_folder: dict[Path, dict[str, Path]] = {}
        for file in files_of(source, ".npy") if source.is_dir() else []:
            by_folder.setdefault(file.path.parent, {})[file.id.lower()] = file.path
        # PanNuke has images/fold1/images.npy and masks/fold1/masks.npy.
        for folder, files in sorted(by_folder.items()):
            for name in files.keys() & set(_IMAGES):
                other = Path(*("masks" if part == "images" else part for part in folder.parts))
                beside = {**by_folder.get(other, {}), **files}
                labels = next((beside[key] for key in _LABELS if key in beside), None)
                if labels:
                    pairs.append((_Array(files[name]), _Array(labels)))
        for file in files_of(source, ".npz"):
            names = {name.lower(): name for name in _names(file.path)}
            one = next((names[key] for key in _IMAGES if key in names), None)
            other_name = next((names[key] for key in _LABELS if key in names), None)
            if one and other_name:
                pairs.append((_Array(file.path, one), _Array(file.path, other_name)))
    return pairs


def _names(path: Path) -> list[str]:
    try:
        check_file(path)
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):  # InputError is a ValueError
        return []


@lru_cache(maxsize=4)
def _opened(array: _Array) -> NDArray[Any]:
    """An array, of an .npy as it is asked for.

    Raises
    ------
    InputError
        If it is no array of numbers.
    """
    with parsing(str(array.path), "save it again"):
        if not array.name:
            check_file(array.path)
            values = np.load(array.path, mmap_mode="r", allow_pickle=False)
        else:
            check_file(array.path)
            with zipfile.ZipFile(array.path) as archive:
                _check_packed(archive.getinfo(f"{array.name}.npy"), array)
            with np.load(array.path, allow_pickle=False) as opened:
                values = opened[array.name]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif":
            raise InputError(f"{array.path}: no array of numbers; save it again")
        if not values.size:
            raise InputError(f"{array.path}: an array of shape {values.shape} has no pixels; save it again")
        return values


def _check_packed(entry: zipfile.ZipInfo, array: _Array) -> None:
    """Refuse an array in an .npz that becomes more than its packed bytes bear out, or than can be held."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{array.path}: compressed in another way than deflate; save it as .npy")
    if entry.file_size > _MOST_BYTES:
        raise InputError(f"{array.path}: {array.name} is too large; save it as .npy")
    # Large stacks pass, as each byte of them is there.
    if entry.file_size > max(FLOOR, IMAGE * entry.compress_size):
        try:
            check_claim(entry.file_size, entry.compress_size)
        except InputError as error:
            raise InputError(f"{array.path}: {array.name} {error}") from error


def _load(labels: _Array, index: int, shape: Shape | None) -> Nuclei:
    values = np.asarray(_opened(labels)[index])
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise InputError(f"{labels.path}: the labels of image {index} are no whole numbers; save them again")
    values = values if values.dtype.kind in "iu" else values.astype(np.int64)
    if values.ndim == 2 or values.shape[2] == 1:
        return Nuclei(CropMasks.from_labels(values.reshape(values.shape[:2])))
    if values.shape[2] == 6:
        parts = [CropMasks.from_labels(values[..., channel]) for channel in range(5)]
        classes = [name for name, part in zip(_PANNUKE, parts, strict=True) for _ in range(len(part))]
        boxes = np.concatenate([part.boxes for part in parts])
        return Nuclei(CropMasks(values.shape[:2], boxes, [one for part in parts for one in part.bitmaps]), classes)
    if values.shape[2] != 2:
        raise InputError(f"{labels.path}: labels of {values.shape[2]} channels are not known; save one")
    if not labels.name:  # CoNIC
        masks = CropMasks.from_labels(values[..., 0])
        classes = []
        for bitmap, (x0, y0, x1, y1) in zip(masks.bitmaps, masks.boxes.tolist(), strict=True):
            kind = int(np.bincount(np.clip(values[y0:y1, x0:x1, 1][bitmap], 0, 99)).argmax())
            classes.append(_CONIC[kind] if kind < len(_CONIC) else str(kind))
        return Nuclei(masks, classes)
    return Nuclei(CropMasks.from_labels(values[..., 1]))  # TissueNet: cells, then nuclei
