"""MATLAB files with label images, as HoVer-Net's data sets have them: CoNSeP, Kumar, CPM, Lizard.

``inst_map`` numbers the nuclei. Their classes are in ``type_map``, pixel by pixel, or in ``inst_type`` (CoNSeP) or
``class`` (Lizard), nucleus by nucleus; ``inst_type`` as HoVer-Net predicts it has the number of the nucleus before its
class. Only these are read, and only as numbers.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import io as matlab

from maskseg.core.errors import InputError
from maskseg.core.limits import IMAGE, check_claim
from maskseg.core.masks import CropMasks
from maskseg.formats.reader import Item, Nuclei, Shape
from maskseg.formats.sources import content, files_of, parsing, some_files_of
from maskseg.imaging.reading import ImageFile

_MAP, _TYPES, _BY_NUCLEUS, _NUMBERS = "inst_map", "type_map", ("inst_type", "class"), "id"
_NUMERIC = ("double", "single", "logical", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
_VERSION_7_3 = b"MATLAB 7.3"


def recognises(source: Path) -> bool:
    """Whether a path is a MATLAB file, or a folder or zip file with such files."""
    try:
        return bool(files_of(source, ".mat"))
    except InputError:
        return False


def read(source: Path) -> Iterator[Item]:
    """The MATLAB files of a folder or zip file, or one of them; each is for the image of the same name.

    Raises
    ------
    InputError
        If there are none.
    """
    for file in some_files_of(source, ".mat"):
        yield Item(file.id, partial(_load, file), file.name)


def _load(file: ImageFile, shape: Shape | None) -> Nuclei:
    arrays = _numbers(file)
    if _MAP not in arrays:
        raise InputError(f"{file.name}: no {_MAP} in it; save the label image under that name")
    labels = arrays[_MAP]
    if labels.ndim != 2 or not np.isfinite(labels).all() or (labels != np.trunc(labels)).any():
        raise InputError(f"{file.name}: {_MAP} is no label image of whole numbers; save it again")
    labels = labels.astype(np.int64)
    masks = CropMasks.from_labels(labels)
    return Nuclei(masks, _classes(arrays, labels, masks))


def _numbers(file: ImageFile) -> dict[str, NDArray[Any]]:
    """The arrays that are wanted, after a look at what kinds and sizes they claim."""
    data = content(file, IMAGE)
    if data.startswith(_VERSION_7_3):
        raise InputError(f"{file.name}: saved as version 7.3, which is not read; save it in MATLAB with -v7")
    wanted, claimed = [], 0
    with parsing(file.name, "save it again"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened: Any = io.BytesIO(data)
        for name, size, kind in matlab.whosmat(opened):
            if name in (_MAP, _TYPES, *_BY_NUCLEUS, _NUMBERS):
                if kind not in _NUMERIC:
                    raise InputError(f"{file.name}: {name} is a {kind} and no array of numbers; save it as one")
                # MATLAB's numbers are doubles, and so are labels.
                claimed += 8 * math.prod(size)
                wanted.append(name)
        try:
            check_claim(claimed, len(data), IMAGE)
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from error
        arrays = matlab.loadmat(opened, variable_names=wanted) if wanted else {}
    return {name: arrays[name] for name in wanted if isinstance(arrays.get(name), np.ndarray)}


def _classes(arrays: dict[str, NDArray[Any]], labels: NDArray[np.int64], masks: CropMasks) -> list[str] | None:
    """The class of each nucleus, as the number that the file has."""
    types = arrays.get(_TYPES)
    if types is not None and types.shape == labels.shape:
        classes = []
        for bitmap, (x0, y0, x1, y1) in zip(masks.bitmaps, masks.boxes.tolist(), strict=True):
            values, counts = np.unique(types[y0:y1, x0:x1][bitmap], return_counts=True)
            classes.append(f"{values[counts.argmax()]:g}")
        return classes
    for name in _BY_NUCLEUS:
        if name in arrays:
            numbers = np.unique(labels[labels > 0])
            if _is_table(arrays[name], numbers):
                order, values = arrays[name].T
            else:
                values = arrays[name].ravel()
                order = arrays[_NUMBERS].ravel() if _NUMBERS in arrays else np.arange(1, len(values) + 1)
            if len(order) == len(values):
                of = dict(zip(order.tolist(), values.tolist(), strict=True))
                return [f"{of[key]:g}" if key in of else "" for key in numbers.tolist()]
    return None


def _is_table(values: NDArray[Any], numbers: NDArray[np.int64]) -> bool:
    """Whether an array has a row a nucleus, its number and its class."""
    return values.ndim == 2 and values.shape[1] == 2 and np.array_equal(np.sort(values[:, 0]), numbers)
