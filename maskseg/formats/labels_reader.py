"""Label images to nuclei: TIFF, PNG, .npy or Cellpose's ``_seg.npy``, at any depth below a folder or in a zip file.

- StarDist's layout, and what ``maskseg predict`` writes: ``images/STEM.*`` with ``masks/STEM.*`` or ``labels/STEM.*``;
- Cellpose's: ``STEM.*`` with ``STEM_masks.*``, ``STEM_cp_masks.*`` or ``STEM_seg.npy`` in the same folder or in
  ``masks/``, also ``STEM_img.*`` with ``STEM_masks.*``; QuPath's ``STEM-labelled.*`` and the like beside ``STEM.*``;
- CVAT's segmentation masks: ``JPEGImages/STEM.*`` with ``SegmentationObject/STEM.png``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.array_pickle import load_array_pickle
from maskseg.core.errors import InputError
from maskseg.core.limits import IMAGE, LABELS
from maskseg.core.masks import CropMasks
from maskseg.formats import imagej_reader, yolo
from maskseg.formats.label_values import instances
from maskseg.formats.labels import SUFFIXES, WRITTEN_BY, read_pixels
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape
from maskseg.formats.sources import content, files_of, inner_path
from maskseg.imaging.containers import SUFFIXES as IMAGE_SUFFIXES
from maskseg.imaging.reading import ImageFile

# Where label images lie that have no images beside them: in the folder given, as `maskseg predict` writes them, as
# StarDist has them, as CVAT exports them (segmentation masks, after Pascal VOC).
_FOLDERS = (".", "labels", "masks", "SegmentationObject")
_IMAGES = ("images", "JPEGImages")
# Beside the last: the classes of the same pixels, in which nuclei that touch are one.
_CLASSES = "SegmentationClass"
# Cellpose's names.
_LABEL_ENDINGS = ("_cp_masks", "_masks", "_seg")
_SEG = "_seg.npy"
_IMAGE_ENDING = "_img"
# Pictures that Cellpose writes beside those.
_OTHER_ENDINGS = ("_flows", "_cp_flows", "_outlines", "_cp_outlines", "_cp_output")
# What others put behind the name of an image.
_ENDING = re.compile(r"[_-](cp_masks?|masks?|labels?|labell?ed|seg|segmentation|instances?|gt)$", re.IGNORECASE)
_OTHERS = (".json", ".txt", ".xml", ".mat", ".roi", ".zip", ".geojson")
_LOSSY = (".jpg", ".jpeg", ".webp")


def recognises(source: Path) -> bool:
    """Whether a folder or zip file holds label images, or pairs of images and label images, in one of the layouts."""
    try:
        alone = _alone(source)
        ours = alone and not _is_of_others(source, alone)
        return bool(ours) or any(_has_labels(item) for item in _pairs(source))
    except InputError:
        return False


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The pairs of images and label images below a folder or in a zip file, or label images that lie there alone.

    The labels need not be consecutive; each becomes one nucleus, also where it lies in several pieces. What is no
    label image is taken as `maskseg.formats.label_values` has it.

    Raises
    ------
    InputError
        If there is no such folder or zip file.
    """
    if not source.is_dir() and source.suffix.lower() != ".zip":
        raise InputError(f"{source}: no such folder or zip file; check the path")
    pairs = list(_pairs(source))
    if any(map(_has_labels, pairs)):
        yield from pairs
        return
    alone = _alone(source)
    yield from _items_alone(alone) if alone else pairs


def _is_of_others(source: Path, alone: list[ImageFile]) -> bool:
    """Whether pictures are photographs beside annotations of another kind, not label images."""
    if {file.id for file in alone} & {file.id for file in files_of(source, *_OTHERS)}:
        return True
    if inner_path(alone[0], source).parent != PurePosixPath():
        return False
    if imagej_reader.recognises(source) or yolo.recognises(source):
        return True
    # Photographs beside files of a program that is not known here.
    return len(files_of(source, "")) > len(files_of(source, *SUFFIXES)) and _is_photograph(alone[0])


def _is_photograph(file: ImageFile) -> bool:
    try:
        load_labels((file,), False, None)
    except InputError:
        return True
    return False


def _has_labels(item: Item | LeftOut) -> bool:
    return isinstance(item, Item) and isinstance(item.load, partial) and bool(item.load.args[0])


# ---- one image ----


def load_labels(files: tuple[ImageFile, ...], paired: bool, shape: Shape | None) -> Nuclei:
    """The nuclei of an image from its one label image; `paired` where its size must be that of the image."""
    if not files:
        raise InputError("no label image for it; add it, all 0 if there is no nucleus")
    if len(files) > 1:
        raise InputError(f"several label images ({', '.join(map(_name, files))}); keep one of them")
    (file,) = files
    name = _name(file)
    if name.lower().endswith(_LOSSY):
        raise InputError(f"{name}: JPEG and WebP change the numbers of labels; save them as PNG or TIFF")
    values, ours = _values(file)
    if paired and shape is not None and values.shape[:2] != shape:
        raise InputError(
            f"{name} has {values.shape[0]}x{values.shape[1]} pixels, the image {shape[0]}x{shape[1]}; make them equal"
        )
    try:
        labels, classes, notes = (values, None, []) if ours else instances(values)
        return Nuclei(CropMasks.from_labels(labels), None if classes is None else list(map(str, classes)), notes=notes)
    except InputError as error:
        raise InputError(f"{name}: {error}; write it again") from error


def _values(file: ImageFile) -> tuple[NDArray[Any], bool]:
    """What a file holds, (H, W) or of colours, and whether maskseg or Cellpose wrote it: these are labels, surely."""
    name = _name(file)
    if name.lower().endswith(_SEG):
        try:
            return seg_masks(content(file, IMAGE)), True
        except InputError as error:
            raise InputError(f"{name} {error}") from error
    values, software = read_pixels(content(file, LABELS), file.name)
    return values, software == WRITTEN_BY


def seg_masks(data: bytes) -> NDArray[np.integer]:
    """The masks in a ``_seg.npy`` of Cellpose: a pickled dict, of which no call is made.

    Raises
    ------
    InputError
        If it holds no masks of one plane, or things that are no numbers, text and lists of them.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            _, _, dtype = np.lib.format.read_array_header_2_0(file)
        if not dtype.hasobject:
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        content = load_array_pickle(file, objects=True)
    except Exception as error:  # NumPy's reader of headers has errors of its own; all mean the same here
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"holds Python objects that are not loaded ({reason}); save the masks as TIFF or PNG"
        ) from error
    content = content[0] if isinstance(content, list) and content else content
    masks = content.get("masks") if isinstance(content, dict) else None
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "biu":
        raise InputError("holds no masks; save them again in Cellpose")
    masks = masks.squeeze()
    if masks.ndim != 2 or not masks.size:
        raise InputError(f"holds masks of shape {masks.shape}; save one plane")
    return masks


# ---- layouts ----


def _name(file: ImageFile) -> str:
    return PurePosixPath(file.member or file.path.name).name


def _suffix(file: ImageFile) -> str:
    return PurePosixPath(_name(file)).suffix.lower()


def _alone(source: Path) -> list[ImageFile]:
    """The label images of a folder that lie there without images."""
    files = files_of(source, *SUFFIXES)
    for name in _FOLDERS:
        inside = [file for file in files if inner_path(file, source).parent == PurePosixPath(name)]
        if inside:
            return inside
    return []


def _items_alone(files: list[ImageFile]) -> Iterator[Item]:
    cellpose = next((end for end in _LABEL_ENDINGS if all(file.id.endswith(end) for file in files)), "")
    first: dict[str, ImageFile] = {}
    for file in files:
        if first.setdefault(file.id, file) is not file:
            raise InputError(f"{file.name} and {_name(first[file.id])} are for the same image: keep one of them")
    for file in files:
        yield Item(file.id.removesuffix(cellpose), partial(load_labels, (file,), False), file.name)


def _pairs(source: Path) -> Iterator[Item | LeftOut]:
    """Images with their label images, sorted, after the label images without an image."""
    by_folder: dict[PurePosixPath, list[ImageFile]] = {}
    for file in files_of(source, *{*SUFFIXES, *IMAGE_SUFFIXES}):
        if not file.id.endswith(_OTHER_ENDINGS):
            by_folder.setdefault(inner_path(file, source).parent, []).append(file)
    pairs: list[tuple[ImageFile, tuple[ImageFile, ...]]] = []
    for folder, files in sorted(by_folder.items()):
        if folder.name in (*_FOLDERS, _CLASSES) and any(folder.parent / name in by_folder for name in _IMAGES):
            continue
        beside = [folder.parent / name for name in _FOLDERS[1:]] if folder.name in _IMAGES else []
        others = [file for other in beside for file in by_folder.get(other, [])]
        if others:
            images = [(file, file.id) for file in files]
            labels = [(file, _stem(file, {file.id for file in files})) for file in others]
        else:
            labels, images = _cellpose(files)
        images = [(file, stem) for file, stem in images if _suffix(file) in IMAGE_SUFFIXES]
        of: dict[str, list[ImageFile]] = {}
        for file, stem in sorted(labels, key=lambda one: one[0].name):
            if _suffix(file) in (*SUFFIXES, *_LOSSY):
                of.setdefault(stem, []).append(file)
        pairs += [(file, tuple(_best(of.get(stem, [])))) for file, stem in images]
        for stem in sorted(of.keys() - {stem for _, stem in images}):
            for file in of[stem]:
                yield LeftOut(file.name, "label image left out", "no image for it; add it")
    for file, own in sorted(pairs, key=lambda pair: pair[0].name):
        yield Item(file.id, partial(load_labels, own, True), file.name, image=file)


def _best(files: list[ImageFile]) -> list[ImageFile]:
    """Without JPEG files where there is another, and without ``_seg.npy``, which holds the same masks once more."""
    exact = [file for file in files if _suffix(file) not in _LOSSY] or files
    return [file for file in exact if not _name(file).endswith(_SEG)] or exact


def _stem(file: ImageFile, images: set[str]) -> str:
    """Name of the image of a label image in a folder of its own."""
    return file.id if file.id in images else _ENDING.sub("", file.id)


def _cellpose(files: list[ImageFile]) -> tuple[list[tuple[ImageFile, str]], list[tuple[ImageFile, str]]]:
    """Label images and images of one folder, each with the stem that they have in common."""
    labels: list[tuple[ImageFile, str]] = []
    images: list[tuple[ImageFile, str]] = []
    ids = {file.id for file in files}
    for file in files:
        ending = next((ending for ending in _LABEL_ENDINGS if file.id.endswith(ending)), None)
        if ending:
            labels.append((file, file.id.removesuffix(ending)))
        elif (stem := _ENDING.sub("", file.id)) != file.id and stem in ids:
            labels.append((file, stem))
        else:
            images.append((file, file.id.removesuffix(_IMAGE_ENDING)))
    return labels, images
