"""Label images to COCO: an image and, beside it, a picture in which every nucleus has a number of its own.

Two layouts are read, at any depth below the source:

- StarDist's, and what ``maskseg predict`` writes: ``images/STEM.*`` with ``masks/STEM.*`` or ``labels/STEM.*``;
- Cellpose's: ``STEM.*`` with ``STEM_masks.*``, ``STEM_cp_masks.*`` or ``STEM_seg.npy`` in the same folder, also
  ``STEM_img.*`` with ``STEM_masks.*``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tifffile
from numpy.typing import NDArray

from maskseg.convert.convert import LeftOut, Picture, Result, Summary, Task, annotations, run
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats import labels as label_files
from maskseg.imaging.channels import Choice
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, read_image

# Folders of label images, beside images/.
_FOLDERS = ("masks", "labels")
# Cellpose's names.
_LABEL_ENDINGS = ("_cp_masks", "_masks", "_seg")
_SEG = "_seg.npy"
_IMAGE_ENDING = "_img"
# Pictures that Cellpose writes beside those.
_OTHER_ENDINGS = ("_flows", "_cp_flows", "_outlines", "_cp_outlines", "_cp_output")


class _Pair(NamedTuple):
    """An image file and the files that could be its label image."""

    image: Path
    labels: list[Path]


def convert(
    source: str | Path,
    out: str | Path,
    modalities: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
    choice: Choice | None = None,
) -> Summary:
    """Convert label images to a COCO data set.

    The labels need not be consecutive; 0 is background. Each label becomes one nucleus, also where it lies in several
    pieces, and its pixels stay as they are; images are copied as they are. What is bad is left out and listed.

    Parameters
    ----------
    source : path
        A folder in one of the layouts above. Label images are TIFF, PNG or .npy, of any whole-number type; see
        `maskseg.formats.labels.read_labels`.
    out : path
        Gets ``images/`` and, at the end, ``annotations.json``.
    modalities : mapping of image id to str, optional
        Put into the image records.
    workers : int
        Processes; see `maskseg.convert.convert.run`.
    progress : bool
        Show a bar on a terminal.
    choice : Choice, optional
        Channel and plane of the images: what it chooses is written, as TIFF, in place of a copy of each.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If no image can be converted.
    """
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; check the path, unpack it if it is a zip file")
    summary = Summary("labels")
    pairs = _find_pairs(source, summary.left_out)
    tasks = [Task(str(pair.image), pair, pair.image.stem) for pair in sorted(pairs)]
    return run(
        tasks,
        partial(_read_pair, choice or Choice()),
        Path(out),
        summary,
        expected=f"images/STEM.png with masks/STEM.tif, or STEM.png with STEM_masks.tif, in {source}",
        modalities=modalities,
        workers=workers,
        progress=progress,
    )


def _read_pair(choice: Choice, pair: _Pair) -> Result:
    if not pair.labels:
        raise InputError("no label image for it; add it, all 0 if there is no nucleus")
    if len(pair.labels) > 1:
        raise InputError(f"several label images ({', '.join(path.name for path in pair.labels)}); keep one of them")
    (path,) = pair.labels
    file = ImageFile(pair.image.stem, pair.image, choice=choice)
    if choice:
        name, values = f"{pair.image.stem}.tif", file.load().values
        data, (height, width) = _as_tiff(values), values.shape[:2]
    else:
        name, data = pair.image.stem + pair.image.suffix.lower(), file.bytes()
        height, width = read_image(data, pair.image.name).shape[:2]
    try:
        labels = label_files.read_labels(path)
    except InputError as error:
        if path.name.endswith(_SEG):
            reason = "holds Python objects, which may run code and are not loaded; save the masks as TIFF or PNG"
            raise InputError(f"{path.name} {reason}") from error
        raise
    if labels.shape != (height, width):
        raise InputError(
            f"{path.name} has {labels.shape[0]}x{labels.shape[1]} pixels, the image {height}x{width}; make them equal"
        )
    try:
        masks = CropMasks.from_labels(labels)
    except InputError as error:
        raise InputError(f"{path.name}: {error}; write it again") from error
    return Result([Picture(name, data, (height, width), annotations(masks))], len(masks))


def _as_tiff(values: NDArray[Any]) -> bytes:
    """Values (H, W, 1 or 3) as the content of a TIFF."""
    file = io.BytesIO()
    grey = values.shape[2] == 1
    kind = "minisblack" if grey else "rgb"
    tifffile.imwrite(file, values[..., 0] if grey else values, photometric=kind, compression="zlib", metadata=None)
    return file.getvalue()


def _find_pairs(source: Path, left_out: list[LeftOut]) -> list[_Pair]:
    """Images with their label images. Label images without an image go into `left_out`."""
    pairs: list[_Pair] = []
    for where, folders, names in os.walk(source):
        folder = Path(where)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        if folder.name in _FOLDERS and (folder.parent / "images").is_dir():
            continue
        files = [folder / name for name in names if not name.startswith(".")]
        files = [path for path in files if not path.stem.endswith(_OTHER_ENDINGS)]
        beside = [folder.parent / name for name in _FOLDERS] if folder.name == "images" else []
        beside = [path for path in beside if path.is_dir()]
        if beside:
            labels = {path: path.stem for other in beside for path in other.iterdir() if not path.name.startswith(".")}
            images = {path: path.stem for path in files}
        else:
            labels, images = _cellpose(files)
        labels = {path: stem for path, stem in labels.items() if path.suffix.lower() in label_files.SUFFIXES}
        images = {path: stem for path, stem in images.items() if path.suffix.lower() in SUFFIXES}
        of: dict[str, list[Path]] = {}
        for path in sorted(labels):
            of.setdefault(labels[path], []).append(path)
        pairs += [_Pair(path, of.get(stem, [])) for path, stem in images.items()]
        for stem in sorted(of.keys() - set(images.values())):
            left_out += [LeftOut(str(path), "label image left out", "no image for it; add it") for path in of[stem]]
    return pairs


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
