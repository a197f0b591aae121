"""Folders of published sets with label images: NuInsSeg, and the Cell Tracking Challenge.

NuInsSeg has ``ORGAN/tissue images/STEM.png`` with ``ORGAN/label masks/STEM.tif``. The Cell Tracking Challenge has
``01/t000.tif`` with ``01_GT/SEG/man_seg000.tif`` (or ``01_ST``), of some frames and perhaps of some cells only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.formats.labels_reader import load_labels
from maskseg.formats.reader import Item, LeftOut, Note
from maskseg.formats.sources import files_of, inner_path
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile

_TISSUE, _LABELS = "tissue images", ("label masks modify", "label masks")
_FRAME = re.compile(r"^t(\d+)$")
_SEG = re.compile(r"^man_seg_?(\d+)$")
_SLICE = re.compile(r"^man_seg_\d+_\d+$")


def recognises_nuinsseg(source: Path) -> bool:
    """Whether a folder or zip file is laid out as NuInsSeg is."""
    try:
        return any(inner_path(file, source).parent.name in _LABELS for file in files_of(source, *SUFFIXES))
    except InputError:
        return False


def read_nuinsseg(source: Path) -> Iterator[Item | LeftOut]:
    """The images of NuInsSeg with their label masks, those with divided nuclei where there are such.

    Raises
    ------
    InputError
        If there are none.
    """
    labels: dict[tuple[str, str], ImageFile] = {}
    images: dict[tuple[str, str], ImageFile] = {}
    for name in reversed(_LABELS):
        for file in files_of(source, *SUFFIXES):
            path = inner_path(file, source)
            if path.parent.name == name:
                labels[str(path.parent.parent), path.stem] = file
            elif path.parent.name == _TISSUE:
                images[str(path.parent.parent), path.stem] = file
    if not images:
        raise InputError(f"{source}: no folder {_TISSUE!r} in it; unpack NuInsSeg there")
    for key, file in sorted(images.items()):
        own = (labels.pop(key),) if key in labels else ()
        yield Item(file.id, partial(load_labels, own, True), file.name, image=file)
    for file in labels.values():
        yield LeftOut(file.name, "label image left out", "no image for it; add it")


def recognises_ctc(source: Path) -> bool:
    """Whether a folder or zip file is laid out as the sets of the Cell Tracking Challenge are."""
    try:
        return any(file.id.startswith("man_seg") for file in files_of(source, ".tif", ".tiff"))
    except InputError:
        return False


def read_ctc(source: Path) -> Iterator[Item | LeftOut | Note]:
    """The frames of a set of the Cell Tracking Challenge that have outlines; gold truth before silver truth.

    Raises
    ------
    InputError
        If there are none.
    """
    frames: dict[tuple[str, int], ImageFile] = {}
    labels: dict[tuple[str, int], ImageFile] = {}
    for file in files_of(source, ".tif", ".tiff"):
        path = inner_path(file, source)
        if match := _FRAME.match(path.stem):
            frames[str(path.parent), int(match[1])] = file
        elif (match := _SEG.match(path.stem)) and path.parent.name == "SEG":
            truth = path.parent.parent
            sequence = str(truth.with_name(re.sub(r"_(GT|ST|ERR_SEG)$", "", truth.name)))
            if (sequence, int(match[1])) not in labels or truth.name.endswith("_GT"):
                labels[sequence, int(match[1])] = file
        elif _SLICE.match(path.stem):
            yield LeftOut(file.name, "label image left out", "a slice of a volume; only planes are read")
    if not labels:
        raise InputError(f"{source}: no man_seg*.tif of planes in it; unpack the set with its _GT or _ST folders there")
    yield Note("frames of gold truth may have cells without outline; look at them before training")
    for key, file in sorted(labels.items()):
        if key not in frames:
            yield LeftOut(file.name, "label image left out", "no frame for it; add it")
            continue
        sequence, _ = key
        image = frames[key]
        name = "_".join([*Path(sequence).parts, image.id])
        image = ImageFile(name, image.path, image.member)
        yield Item(name, partial(load_labels, (file,), True), file.name, image=image)
