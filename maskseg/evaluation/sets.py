"""Sets of nuclei to compare, whatever form they are stored in: one label image at a time.

Where masks of an image overlap, as COCO and run-length files allow, a pixel counts for the smaller one
(`CropMasks.to_labels`), so that every pixel has one nucleus; a mask that is wholly covered does not count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskseg.convert.pairing import by_number
from maskseg.core.errors import InputError, located, without_place
from maskseg.core.limits import VARIABLE, allowed, readable
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import folder_and_part
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.evaluation.results import ImageResult, compare_image
from maskseg.formats.classes import NUCLEUS, ClassRule
from maskseg.formats.coco import is_dataset
from maskseg.formats.reader import Item, LeftOut, Note
from maskseg.formats.registry import recognise
from maskseg.formats.reviewed import separate_reviewed

# What is left out of an image without changing its label image.
_HARMLESS = ("empty", "duplicate")
# So many files that a reader left out are named; of the others their number is told.
_SAID = 10
_NAMED = 3  # images that a message about many names


@dataclass(frozen=True)
class LabelSet:
    """The label images of a set.

    Attributes
    ----------
    source : str
        As the user gave it.
    ids : tuple of str
        The images, in the order of the source.
    labels : function (image_id, shape or None) -> integer array (H, W)
        Reads one label image; `shape` (height, width) is for forms that do not store it. Raises InputError.
    modalities : dict
        image_id -> modality, where the set knows it.
    groups : dict
        image_id -> group of one acquisition, where the set knows it.
    detections : function (image_id) -> float32 array (N,), or None
        Scores of the labels 1 ... N of an image; None where the set has no scores.
    other_ids : frozenset of str
        Images of the data set that are in another part than the one asked for.
    classes : function (image_id) -> list of str, or None
        Names of the classes of the labels 1 ... N of an image; None where the set has no classes.
    reviewed : function (image_id) -> bool array (H, W) or None
        What of an image a person has looked at; None where it is all of it.
    seen : set of str
        Names of classes that were read up to now, before a rule changed them.
    notes : Counter of str
        What the reader did that a person should know of, and with how many images up to now; 0 for the whole set.
    """

    source: str
    ids: tuple[str, ...]
    labels: Callable[[str, tuple[int, int] | None], np.ndarray]
    modalities: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    detections: Callable[[str], np.ndarray] | None = None
    other_ids: frozenset[str] = frozenset()
    notes: Counter[str] = field(default_factory=Counter)
    classes: Callable[[str], list[str]] | None = None
    reviewed: Callable[[str], NDArray[np.bool_] | None] | None = None
    seen: set[str] = field(default_factory=set)


def open_set(
    source: str, sizes: Mapping[str, tuple[int, int]] | None = None, rule: ClassRule | None = None
) -> LabelSet:
    """Open nuclei in any form that `maskseg` writes or converts.

    Parameters
    ----------
    source : str
        A file or folder of a format of `maskseg.formats.registry` that is read, such as a folder of label images, a
        folder that `maskseg predict` wrote, a data set folder or one part of it (DIR:PART).
    sizes : mapping of image_id to (height, width), optional
        For formats that do not store them, such as run-length files without the columns Height and Width.
    rule : ClassRule, optional
        What the classes are called.

    Returns
    -------
    LabelSet

    Raises
    ------
    InputError
        There is nothing of the kind at `source`.
    """
    folder, part = folder_and_part(source)
    path = Path(folder)
    form = recognise(path)
    form.require(source)
    given = list(form.imported("reader")(path))
    readable = [item for item in given if isinstance(item, Item)]
    items = {item.image_id or item.where: item for item in readable}
    base = path if path.is_dir() else path.parent
    split_file = base / SPLIT_FILE
    split = read_split(split_file) if part or (is_dataset(base) and split_file.is_file()) else {}
    wanted = images_of_part(split, part, split_file) if part else set(items)
    ids = tuple(name for name in items if name in wanted)
    if not ids:
        missing = f"no image of part {part!r}; make the split again with maskseg split" if part else "no image"
        raise InputError(f"{source}: holds {missing}")
    labels = _of_items(source, items, ids, split, sizes or {}, rule or ClassRule())
    notes = [note for note in given if isinstance(note, Note)]
    left_out = [item for item in given if isinstance(item, LeftOut) and not item.kind.startswith(_HARMLESS)]
    said = [f"{item.file}: {item.kind}: {without_place(item.file, item.reason)}" for item in left_out[:_SAID]]
    if len(left_out) > len(said):
        said.append(f"{len(left_out) - len(said)} more left out")
    labels.notes.update(dict.fromkeys([*(note.text for note in notes), *said], 0))
    return replace(labels, other_ids=labels.other_ids.union(*(note.ids for note in notes)))


def _check_label_image(shape: tuple[int, int]) -> None:
    """Whatever a file claims, it lies in memory as a label image."""
    size = 4 * math.prod(shape)
    if size > allowed(1 << 60):
        raise InputError(
            f"{shape[0]} x {shape[1]} pixels are {readable(size)} as a label image; where there is so "
            f"much memory, set {VARIABLE} to more gigabytes than that"
        )


def _of_items(
    source: str,
    items: Mapping[str, Item],
    ids: tuple[str, ...],
    split: Mapping[str, Mapping[str, str]],
    sizes: Mapping[str, tuple[int, int]],
    rule: ClassRule,
) -> LabelSet:
    modalities = {
        name: split.get(name, {}).get("modality") or item.fields.get("modality") or "" for name, item in items.items()
    }
    groups = {name: row.get("group", "") for name, row in split.items()}

    notes: Counter[str] = Counter()
    seen: set[str] = set()

    # Labels and scores of an image are asked for one after the other.
    @lru_cache(maxsize=1)
    def read(name: str, shape: tuple[int, int] | None) -> tuple[CropMasks, list[str], NDArray[np.bool_] | None]:
        item = items[name]
        known = sizes.get(name)
        if known and item.shape and tuple(item.shape) != tuple(known):
            raise InputError(
                f"{item.where}: of an image of {item.shape[0]} x {item.shape[1]} pixels, it has {known[0]} x "
                f"{known[1]}; give the images that were annotated"
            )
        nuclei = item.read(item.shape or sizes.get(name, shape))
        for one in nuclei.left_out:
            if one.kind.startswith(_HARMLESS):
                continue
            raise InputError(located(one.file, one.reason))
        notes.update(nuclei.notes)
        nuclei, region = separate_reviewed(replace(nuclei, fields={**item.fields, **nuclei.fields}))
        seen.update(nuclei.class_names())
        return nuclei.masks, [rule(one) or NUCLEUS for one in nuclei.class_names()], region

    shapes: dict[str, tuple[int, int] | None] = {}

    def labels(name: str, shape: tuple[int, int] | None) -> NDArray[np.int32]:
        shapes[name] = shape
        masks = read(name, shape)[0]
        _check_label_image(masks.shape)
        return masks.to_labels()

    def detections(name: str) -> NDArray[np.float32]:
        return read(name, shapes.get(name))[0].scores

    def classes(name: str) -> list[str]:
        return read(name, shapes.get(name))[1]

    def reviewed(name: str) -> NDArray[np.bool_] | None:
        return read(name, shapes.get(name))[2]

    return LabelSet(
        source,
        ids,
        labels,
        modalities if any(modalities.values()) else {},
        groups if any(groups.values()) else {},
        detections if any(item.scored for item in items.values()) else None,
        frozenset(items) - set(ids),
        notes,
        classes,
        reviewed,
        seen,
    )


def read_part(source: LabelSet, split_file: str) -> LabelSet:
    """Take modalities, groups and, from FILE:PART, the images of a part from a split table.

    Parameters
    ----------
    source : LabelSet
    split_file : str
        Table with image_id, part and, where known, modality and group (`maskseg split` writes it).

    Raises
    ------
    InputError
        The table cannot be read, has no such part, or names no image of the set.
    """
    path, part = folder_and_part(split_file)
    split = read_split(path)
    wanted = images_of_part(split, part, path) if part else set(split)
    ids = tuple(name for name in source.ids if name in wanted)
    if not ids:
        raise InputError(f"{split_file}: names no image of {source.source}")
    columns = ({name: row.get(key, "") for name, row in split.items()} for key in ("modality", "group"))
    modalities, groups = ({**old, **new} for old, new in zip((source.modalities, source.groups), columns, strict=True))
    others = source.other_ids | (set(source.ids) - set(ids) if part else set())
    # Without a part, the table only tells of the images; those that it does not name stay.
    return replace(source, ids=ids if part else source.ids, modalities=modalities, groups=groups, other_ids=others)


def compare(
    truth: LabelSet, prediction: LabelSet, progress: Callable[[Sequence[str]], Iterable[str]] = iter
) -> tuple[dict[str, ImageResult], list[str]]:
    """Score every image of the truth; one image is in memory at a time.

    Parameters
    ----------
    truth, prediction : LabelSet
    progress : function, optional
        Wraps the loop over the images, as tqdm does.

    Returns
    -------
    results : dict of image_id to ImageResult
        An image without prediction counts as one in which nothing was found.
    problems : list of str
        What did not fit, a line each: images without prediction, predictions without truth, images left out
        since the two sides differ in size or cannot be read.

    Raises
    ------
    InputError
        The two sets have no image in common, or none that can be compared.
    """
    if not set(prediction.ids) & set(truth.ids):
        prediction = _by_number(truth, prediction)
    predicted = set(prediction.ids)
    if not predicted & set(truth.ids):
        raise InputError(
            f"{prediction.source} and {truth.source} have no image in common: "
            f"the one has {_some(prediction.ids)}, the other {_some(truth.ids)}"
        )
    problems = []
    missing = [name for name in truth.ids if name not in predicted]
    if missing:
        problems.append(f"without prediction, counted as nothing found: {_some(missing)}")
    known = {*truth.ids, *truth.other_ids}
    unknown = [name for name in prediction.ids if name not in known]
    if unknown:
        problems.append(f"predicted but not in the truth, left out: {_some(unknown)}")
    results = {}
    for name in progress(truth.ids):
        try:
            results[name] = _compare_image(truth, prediction, name, name in predicted)
        except InputError as error:
            problems.append(f"{name} left out: {error}")
    if not results:
        raise InputError(f"no image of {truth.source} can be compared: {problems[-1]}")
    return results, problems


def _by_number(truth: LabelSet, prediction: LabelSet) -> LabelSet:
    """Predictions that know images by numbers alone, such as COCO's list of results, by the names of the truth."""
    pairs = [(by_number(number, truth.ids), number) for number in prediction.ids]
    names = {name: number for name, number in pairs if name is not None}
    if len(names) < len(prediction.ids):
        return prediction
    prediction.notes["predictions named by numbers are taken for the images with these numbers in their names"] += 0
    detections, classes = prediction.detections, prediction.classes
    return replace(
        prediction,
        ids=tuple(names),
        labels=lambda name, shape: prediction.labels(names[name], shape),
        detections=detections and (lambda name: detections(names[name])),
        classes=classes and (lambda name: classes(names[name])),
    )


def _compare_image(truth: LabelSet, prediction: LabelSet, name: str, predicted: bool) -> ImageResult:
    expected = truth.labels(name, None)
    region = truth.reviewed(name) if truth.reviewed else None
    of_truth = truth.classes(name) if truth.classes and prediction.classes else None
    classes: tuple[list[str], list[str]] | None
    if not predicted:
        nothing = np.zeros(0, np.float32) if prediction.detections else None
        classes = None if of_truth is None else (of_truth, [])
        return compare_image(expected, np.zeros_like(expected), nothing, classes, region)
    predicted_labels = prediction.labels(name, expected.shape)
    scores = prediction.detections(name) if prediction.detections else None
    classes = None if of_truth is None or not prediction.classes else (of_truth, prediction.classes(name))
    return compare_image(expected, predicted_labels, scores, classes, region)


def _some(names: Iterable[str]) -> str:
    """Name the first few of many."""
    names = list(names)
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{len(names)} images ({shown} ...)"
