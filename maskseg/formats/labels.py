"""Label images: 0 for background, one whole number for each nucleus."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole

SUFFIXES = (".tif", ".tiff", ".png", ".npy")


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
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.int32
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
        return np.load(path, allow_pickle=False)
    if suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    # Some kinds of TIFF name other files that they go on in, which may be any.
    return tifffile.imread(path, _multifile=False, is_ndtiff=False, is_mmstack=False)
