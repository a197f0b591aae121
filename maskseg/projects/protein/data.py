"""Protein localisation: images of up to four channels, each image with some of 28 classes.

The layout is that of the competition (Kaggle 2018, Human Protein Atlas): ``DIR/train.csv`` with the columns Id and
Target (class numbers, spaces between them) beside ``DIR/train/ID_green.png``, ``ID_red.png`` and so on. Source:
https://www.kaggle.com/c/human-protein-atlas-image-classification/data
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.tables import write_csv
from maskseg.data.dataset import folder_and_part
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile

logger = logging.getLogger(__name__)

# Microtubules, the protein, the nucleus, the endoplasmic reticulum.
CHANNELS = ("red", "green", "blue", "yellow")
CLASSES = (
    "Nucleoplasm", "Nuclear membrane", "Nucleoli", "Nucleoli fibrillar center", "Nuclear speckles", "Nuclear bodies",
    "Endoplasmic reticulum", "Golgi apparatus", "Peroxisomes", "Endosomes", "Lysosomes", "Intermediate filaments",
    "Actin filaments", "Focal adhesion sites", "Microtubules", "Microtubule ends", "Cytokinetic bridge",
    "Mitotic spindle", "Microtubule organizing center", "Centrosome", "Lipid droplets", "Plasma membrane",
    "Cell junctions", "Mitochondria", "Aggresome", "Cytosol", "Cytoplasmic bodies", "Rods & rings",
)  # fmt: skip
# Columns of the table of the training images, and of a submission.
TARGETS, HEADER = ("Id", "Target"), ("Id", "Predicted")


def group_channels(files: Iterable[ImageFile]) -> dict[str, dict[str, ImageFile]]:
    """Files of each image by channel: ``ID_green.png`` is the channel green of the image ID."""
    images: dict[str, dict[str, ImageFile]] = {}
    for file in files:
        image_id, _, channel = file.id.rpartition("_")
        # A file of another name is an image that has no channel at all.
        image_id, channel = (image_id, channel) if channel in CHANNELS else (file.id, "")
        images.setdefault(image_id, {})[channel] = file
    return images


def require_channels(image_id: str, files: Mapping[str, ImageFile], channels: Iterable[str]) -> None:
    """Raise InputError if an image lacks one of the channels."""
    for channel in channels:
        if channel not in files:
            raise InputError(
                f"{image_id}_{channel}.png: no such file beside {next(iter(files.values())).name}; get it, or train "
                f"without it: INPUT.CHANNELS names the channels ({', '.join(filter(None, files)) or 'none'} here)"
            )


def read_channels(image_id: str, files: Mapping[str, ImageFile], channels: Sequence[str]) -> NDArray[np.uint8]:
    """Some channels of an image, uint8 (H, W, C); InputError if one is missing, damaged or of another size."""
    require_channels(image_id, files, channels)
    planes = [files[channel].read()[:, :, 0] for channel in channels]
    if len(sizes := {plane.shape for plane in planes}) > 1:
        raise InputError(f"{files[channels[0]].name}: its channels are of different sizes, {sizes}; get them again")
    return np.stack(planes, axis=2)


def read_targets(path: Path, columns: tuple[str, str] = TARGETS) -> dict[str, tuple[int, ...]]:
    """Class numbers of each image of a table; InputError names a line with an unknown class, with none, or a second."""
    targets: dict[str, tuple[int, ...]] = {}
    numbers = {str(number): number for number in range(len(CLASSES))}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in (reader := csv.DictReader(file)):
                image_id, text = (row.get(column) or "" for column in columns)
                if not image_id or image_id in targets or not text.split() or set(text.split()) - numbers.keys():
                    raise InputError(
                        f"{path}: line {reader.line_num}: {image_id},{text}: each image needs one row, "
                        f"{','.join(columns)}, with class numbers from 0 to {len(CLASSES) - 1}"
                    )
                targets[image_id] = tuple(sorted({numbers[number] for number in text.split()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); it is a CSV table, {','.join(columns)}") from error
    return targets


def class_table(targets: Collection[Sequence[int]]) -> NDArray[np.bool_]:
    """Class numbers of N images as bool (N, 28)."""
    table = np.zeros((len(targets), len(CLASSES)), bool)
    for row, numbers in zip(table, targets, strict=True):
        row[list(numbers)] = True
    return table


def in_dev(labels: NDArray[np.bool_], share: float = 0.2, seed: int = 1) -> NDArray[np.bool_]:
    """Which of N images with K classes make a part with its share of every class: bool (N,), from bool (N, K).

    A class of two images or more is in the part and outside it, for which rare classes may make it somewhat larger.
    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011): the images of the rarest class are
    given out first, each to the side that lacks most of it.
    """
    rng = np.random.default_rng(seed)
    counts = labels.sum(axis=0)
    dev = np.where(counts > 1, np.maximum(share * counts, 1), 0)
    wanted, room = np.stack([counts - dev, dev]), len(labels) * np.array([1 - share, share])
    side = np.full(len(labels), -1)
    while (left := labels & (side < 0)[:, None]).any():
        rarest = np.where(left.any(axis=0), left.sum(axis=0), len(labels) + 1).argmin()
        for image in rng.permutation(np.flatnonzero(left[:, rarest])):
            side[image] = max((0, 1), key=lambda one: (wanted[one, rarest], room[one]))
            wanted[side[image]] -= labels[image]
            room[side[image]] -= 1
    return side == 1


def protein_dicts(names: Iterable[str]) -> list[dict[str, Any]]:
    """Records of data sets, of those images of their tables that are there; InputError where there are none.

    Parameters
    ----------
    names : iterable of str
        Each ``DIR`` or ``DIR:part``; parts are those of ``DIR/split.csv``, or without it train and dev by `in_dev`.

    Returns
    -------
    list of dict
        ``image_id``, ``file_name``, ``files`` (channel to ImageFile), ``height`` and ``width`` (of the first image),
        ``labels`` (class numbers), ``modality`` (name of the rarest of them), ``dataset`` (number) and ``odds``,
        float32 (28,): images of the table without a class for each that has it.
    """
    return [record for number, name in enumerate(names) for record in _records(number, *folder_and_part(name))]


def _records(number: int, folder: str, part: str) -> list[dict[str, Any]]:
    table, split_file = Path(folder) / "train.csv", Path(folder) / SPLIT_FILE
    targets = read_targets(table)
    files = group_channels(find_images([table.parent / "train"]))
    images = sorted(files.keys() & targets.keys())
    if not images:
        raise InputError(f"{table.parent / 'train'}: no image that {table} names; unpack the images there")
    if len(images) < len(targets):
        logger.warning("%s: %d of its %d images are there, and used", table, len(images), len(targets))
    labels = class_table(targets.values())
    odds = (len(labels) / np.maximum(labels.sum(axis=0), 1) - 1).astype(np.float32)
    first = {name: next(iter(files[name].values())) for name in images}
    height, width = first[images[0]].size()
    if part:
        if split_file.is_file():
            split = read_split(split_file)
        else:
            dev = in_dev(class_table([targets[name] for name in images]))
            split = {name: {"part": "dev" if chosen else "train"} for name, chosen in zip(images, dev, strict=True)}
        images = sorted(images_of_part(split, part, split_file) & set(images))
    return [
        {
            "image_id": name,
            "file_name": first[name].name,
            "files": files[name],
            "height": height,
            "width": width,
            "labels": targets[name],
            "modality": CLASSES[max(targets[name], key=odds.__getitem__)],
            "dataset": number,
            "odds": odds,
        }
        for name in images
    ]


def write_predicted(path: str | os.PathLike[str], predicted: Iterable[tuple[str, Iterable[int]]]) -> None:
    """Write a submission, one row an image: its id and class numbers with spaces between them."""
    write_csv(path, HEADER, ((name, " ".join(map(str, numbers))) for name, numbers in predicted), exact=True)


def check_predicted(path: Path, images: Collection[str]) -> bool:
    """Whether a file is such a submission, by its header; InputError if it has not one sound row for each image."""
    with path.open("rb") as file:
        if file.readline().strip() != ",".join(HEADER).encode():
            return False
    predicted = read_targets(path, HEADER)
    for name in sorted(predicted.keys() ^ set(images)):
        raise InputError(f"{path}: image {name} is {'unknown' if name in predicted else 'missing'}")
    return True
