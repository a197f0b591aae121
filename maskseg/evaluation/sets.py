"""Sets of nuclei to compare, whatever form they are stored in: one label image at a time.

Where masks of an image overlap, as COCO and run-length files allow, a pixel counts for the smaller one
(`CropMasks.to_labels`), so that every pixel has one nucleus; a mask that is wholly covered does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskseg.data.coco import ANNOTATIONS, image_id, load_coco
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.errors import InputError
from maskseg.evaluation.dsb import image_scores
from maskseg.output.labels import SUFFIXES, read_labels
from maskseg.output.submission import read_encoded

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
    other_ids : frozenset of str
        Images of the data set that are in another part than the one asked for.
    """

    source: str
    ids: tuple[str, ...]
    labels: Callable[[str, tuple[int, int] | None], np.ndarray]
    modalities: Mapping[str, str] = field(default_factory=dict)
    other_ids: frozenset[str] = frozenset()


def open_set(source: str, sizes: Mapping[str, tuple[int, int]] | None = None) -> LabelSet:
    """Open nuclei in any form that `maskseg` writes or converts.

    Parameters
    ----------
    source : str
        A folder of label images (STEM.tif, .tiff, .png or .npy), a folder with such a folder `labels` in it
        (what `maskseg predict` writes), a dataset folder or one part of it (DIR:PART), a COCO JSON file or a
        run-length CSV file.
    sizes : mapping of image_id to (height, width), optional
        For run-length files without the columns Height and Width.

    Returns
    -------
    LabelSet

    Raises
    ------
    InputError
        There is nothing of the kind at `source`.
    """
    path = Path(source)
    folder, _, part = source.rpartition(":")
    if path.is_dir():
        if (path / ANNOTATIONS).is_file():
            return _coco_set(source, path, "")
        return _label_folder(source, path if _label_files(path) else path / "labels")
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return _run_length_set(source, sizes or {})
        if path.suffix.lower() == ".json":
            return _coco_set(source, path, "")
        raise InputError(f"{source}: give a folder of label images, a dataset folder, a .json or a .csv file")
    if folder and Path(folder).is_dir():
        return _coco_set(source, Path(folder), part)
    raise InputError(f"{source}: does not exist")


def compare(
    truth: LabelSet, prediction: LabelSet, progress: Callable[[Sequence[str]], Iterable[str]] = iter
) -> tuple[dict[str, dict], list[str]]:
    """Score every image of the truth.

    Parameters
    ----------
    truth, prediction : LabelSet
    progress : function, optional
        Wraps the loop over the images, as tqdm does.

    Returns
    -------
    scores : dict of image_id to dict
        `maskseg.evaluation.dsb.image_scores` of each image. An image without prediction counts as one in
        which nothing was found.
    problems : list of str
        What did not fit, a line each: images without prediction, predictions without truth, images left out
        since the two sides differ in size or cannot be read.

    Raises
    ------
    InputError
        The two sets have no image in common.
    """
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
    scores = {}
    for name in progress(truth.ids):
        try:
            expected = truth.labels(name, None)
            found = prediction.labels(name, expected.shape) if name in predicted else np.zeros_like(expected)
            scores[name] = image_scores(expected, found)
        except InputError as error:
            problems.append(f"{name} left out: {error}")
    return scores, problems


def _label_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _label_folder(source: str, folder: Path) -> LabelSet:
    files: dict[str, Path] = {}
    for path in _label_files(folder):
        if path.stem in files:
            raise InputError(f"{path} and {files[path.stem].name} are for the same image: keep one of them")
        files[path.stem] = path
    if not files:
        raise InputError(f"{source}: holds neither annotations.json nor label images ({', '.join(SUFFIXES)})")
    return LabelSet(source, tuple(files), lambda name, _: read_labels(files[name]))


def _coco_set(source: str, path: Path, part: str) -> LabelSet:
    data = load_coco(path)
    images = {image_id(image): image for image in data.images}
    split_file = data.path.parent / SPLIT_FILE
    split = read_split(split_file) if part or split_file.is_file() else {}
    wanted = images_of_part(split, part, split_file) if part else set(images)
    ids = tuple(name for name in images if name in wanted)
    if not ids:
        raise InputError(f"{source}: holds no image of part {part!r}; make the split again with maskseg split")
    modalities = {
        name: split.get(name, {}).get("modality") or image.get("modality") or ""
        for name, image in images.items()
    }
    return LabelSet(
        source,
        ids,
        lambda name, _: data.masks(images[name]).to_labels(),
        modalities if any(modalities.values()) else {},
        frozenset(images) - set(ids),
    )


def _run_length_set(source: str, sizes: Mapping[str, tuple[int, int]]) -> LabelSet:
    images = read_encoded(source)

    def labels(name: str, shape: tuple[int, int] | None) -> np.ndarray:
        image = images[name]
        try:
            return image.masks(image.shape or sizes.get(name, shape)).to_labels()
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    return LabelSet(source, tuple(images), labels)


def _some(names: Iterable[str]) -> str:
    """Name the first few of many."""
    names = list(names)
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{len(names)} images ({shown} ...)"
