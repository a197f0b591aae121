"""Ultrasound nerve segmentation to COCO: frame N of subject S in ``S_N.tif``, its nerve in ``S_N_mask.tif``.

Most frames are empty: they show no nerve. The presence of one stands where other data sets have the modality, so that
every table of scores has a line for the frames with a nerve and one for those without. Frames of one subject follow
each other like those of a film, and some that look the same have contradicting masks. Source:
https://www.kaggle.com/c/ultrasound-nerve-segmentation/data
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from tqdm import tqdm

from maskseg.convert.conversion import Converted, ConvertedImage, PendingImage, Summary, convert_images
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.processes import in_order
from maskseg.core.tables import write_csv
from maskseg.curate.groups import inseparable
from maskseg.curate.near_duplicates import NearDuplicate, near_duplicates, thumbnail
from maskseg.data.dataset import CocoData, image_id, load_coco
from maskseg.data.split import SPLIT_FILE, stratified_split, write_split
from maskseg.formats.coco import to_annotations
from maskseg.formats.reader import LeftOut
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile, read_image

NERVE, EMPTY = "nerve", "empty"
CONTRADICTIONS = "contradictions.csv"
# Correlation of thumbnails from which two frames are one. The published way, histograms of blocks, puts the same pairs
# first: of the 50 frames of the sample its nearest 12 pairs are all above 0.99 here.
SIMILARITY = 0.99
# Masks of one frame that agree less contradict each other.
_LEAST_DICE = 0.5
_NAME = re.compile(r"(?:(?P<subject>\d+)_)?\d+(?P<mask>_mask)?")


class Contradiction(NamedTuple):
    """Two frames that look the same, the correlation of their thumbnails, and the Dice of their masks."""

    first: str
    second: str
    similarity: float
    dice: float


class _Pair(NamedTuple):
    frame: ImageFile
    mask: ImageFile | None


def convert_ultrasound(
    source: str | Path, out: str | Path, workers: int = 1, progress: bool = True
) -> tuple[Summary, list[Contradiction]]:
    """Convert the training frames to a COCO data set, with a split and a list of contradictions.

    One fifth of the frames, as far as it can be met, is part ``dev`` and the rest ``train``: whole subjects where
    there are several, otherwise frames of which near duplicates stay together; equal shares of frames with a nerve.

    Parameters
    ----------
    source : path
        A folder or zip file with ``S_N.tif`` and ``S_N_mask.tif``; test images, ``N.tif``, may be there too.
    out : path
        Gets ``images/``, ``annotations.json``, ``split.csv`` and ``contradictions.csv``.
    workers : int
        Processes; see `maskseg.convert.conversion.convert_images`.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Summary, list of Contradiction

    Raises
    ------
    InputError
        If no frame can be converted.
    """
    out = Path(out)
    summary = Summary("mask files", category=("nerve", "nerves"))
    pending = _pending_images(source, summary.left_out)
    expected = f"S_N.tif with S_N_mask.tif in {source}"
    convert_images(pending, _read_pair, out, summary, expected=expected, workers=workers, progress=progress)
    data = load_coco(out)
    files = [out / "images" / image["file_name"] for image in data.images]
    with closing(in_order(_thumbnail, files, workers)) as done:
        looks = list(tqdm(done, "look", len(files), unit="image", leave=False, disable=None if progress else True))
    duplicates = near_duplicates(looks, SIMILARITY)
    _write_split(out, data, duplicates)
    contradictions = _contradictions(data, duplicates)
    rows = [(one.first, one.second, f"{one.similarity:.4f}", f"{one.dice:.4f}") for one in contradictions]
    write_csv(out / CONTRADICTIONS, Contradiction._fields, rows)
    return summary, contradictions


def _pending_images(source: str | Path, left_out: list[LeftOut]) -> list[PendingImage]:
    """The frames with their masks. Masks without a frame, and files of other names, go into `left_out`."""
    frames: list[ImageFile] = []
    masks: dict[str, ImageFile] = {}
    for file in find_images([source]):
        name = _NAME.fullmatch(file.id)
        if name is None:
            reason = "not named S_N (a frame), S_N_mask (its mask) or N (a test image); rename it"
            left_out.append(LeftOut(file.name, "file left out", reason))
        elif name["mask"]:
            masks[file.id.removesuffix("_mask")] = file
        elif name["subject"]:
            frames.append(file)
    # As numbers: frame 2 before frame 10.
    frames.sort(key=lambda file: [int(number) for number in file.id.split("_")])
    pairs = [_Pair(file, masks.pop(file.id, None)) for file in frames]
    pending = [
        PendingImage(pair.frame.name, pair, pair.frame.id, annotation_count=int(pair.mask is not None))
        for pair in pairs
    ]
    left_out += [LeftOut(file.name, "mask left out", "no frame for it; add it") for file in masks.values()]
    return pending


def _read_pair(pair: _Pair) -> Converted:
    if pair.mask is None:
        raise InputError(f"no {pair.frame.id}_mask beside it; add it, all 0 if there is no nerve")
    data = pair.frame.bytes()
    height, width = read_image(data, pair.frame.name).shape[:2]
    mask = pair.mask.read()[:, :, 0]
    if mask.shape != (height, width):
        size = f"{mask.shape[0]}x{mask.shape[1]}"
        raise InputError(f"{pair.mask.id} has {size} pixels, the frame {height}x{width}; make them equal")
    nerve = to_annotations(CropMasks.from_labels((mask != 0).astype(np.int32)))
    file_name = pair.frame.id + Path(pair.frame.member or pair.frame.path).suffix.lower()
    fields = {"modality": NERVE if nerve else EMPTY}
    return Converted([ConvertedImage(file_name, data, (height, width), nerve, fields)], annotation_count=1)


def _thumbnail(file: Path) -> NDArray[np.float32]:
    return thumbnail(read_image(file))


def _write_split(out: Path, data: CocoData, duplicates: Sequence[NearDuplicate]) -> None:
    names = [image_id(image) for image in data.images]
    kinds = [image["modality"] for image in data.images]
    subjects = [name.partition("_")[0] for name in names]
    units = subjects
    if len(set(subjects)) == 1:
        units = [str(unit) for unit in inseparable(len(names), (), [(pair.first, pair.second) for pair in duplicates])]
    folds = min(5, len(set(units)))
    part = dict.fromkeys(names, "train")
    if folds > 1:
        part = stratified_split(names, kinds, units, {"train": 1 - 1 / folds, "dev": 1 / folds})
    rows = zip(names, kinds, subjects, strict=True)
    write_split(
        out / SPLIT_FILE,
        [{"image_id": name, "part": part[name], "modality": kind, "group": subject} for name, kind, subject in rows],
    )


def _contradictions(data: CocoData, duplicates: Sequence[NearDuplicate]) -> list[Contradiction]:
    """Near duplicates of which one is empty and the other is not, or whose masks hardly overlap; the nearest first."""
    contradictions = []
    for pair in duplicates:
        one, other = data.images[pair.first], data.images[pair.second]
        masks = [*data.annotations.get(one["id"], []), *data.annotations.get(other["id"], [])]
        dice = float(not masks)
        if len(masks) == 2:
            common = coco_mask.merge([mask["segmentation"] for mask in masks], intersect=True)
            dice = 2 * float(coco_mask.area(common)) / sum(mask["area"] for mask in masks)
        if dice < _LEAST_DICE:
            contradictions.append(Contradiction(image_id(one), image_id(other), pair.similarity, dice))
    return sorted(contradictions, key=lambda pair: -pair.similarity)
