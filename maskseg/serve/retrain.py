"""From corrections to a model: the reviewed regions as a data set, and which of them are held back."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks, trim
from maskseg.data.split import SPLIT_FILE, write_split
from maskseg.formats.coco import ANNOTATIONS, to_annotations, write_coco
from maskseg.formats.reviewed import REVIEWED
from maskseg.serve.nuclei import Box
from maskseg.serve.session import Session
from maskseg.serve.workspace import Item, Workspace, read_settings

# Parts of the data set: what is trained on, and what is held back to score the models before and after.
TRAIN, HELD = "train", "held"
_DIVISION = "division.json"


class Region(NamedTuple):
    """A reviewed region: the image's key, its name in the data set, the box, the pixels and the nuclei."""

    key: str
    name: str
    box: Box
    pixels: NDArray[np.uint8]
    masks: CropMasks


class DataSet(NamedTuple):
    """What was made of the corrections.

    Attributes
    ----------
    folder : Path
    train, held, nuclei : int
        Number of regions to train on and held back, and of nuclei to train on.
    left_out : dict of str to str
        Keys of images that cannot be read, and why.
    """

    folder: Path
    train: int
    held: int
    nuclei: int
    left_out: dict[str, str]


def regions(workspace: Workspace, left_out: dict[str, str]) -> Iterator[Region]:
    """The reviewed regions of all images, one at a time; images that cannot be read come into `left_out`."""
    for item in workspace.items:
        try:
            yield from _regions_of(workspace, item)
        except InputError as error:
            left_out[item.key] = str(error)


def _regions_of(workspace: Workspace, item: Item) -> Iterator[Region]:
    session = workspace.known_session(item.key)
    if session is None or not session.reviewed:
        return
    picture = workspace.picture(item.key)
    session.belongs_to(picture.shape)
    with session.lock:
        cut = [(box, nuclei_in(session, box)) for box in session.reviewed]
    # Read first: of an image that is damaged at its end, no region is half of the data.
    for box, masks, pixels in [(box, masks, picture.region(box)) for box, masks in cut]:
        yield Region(item.key, f"{item.file.id}-{item.key}-{box[0]}-{box[1]}", box, pixels, masks)


def nuclei_in(session: Session, box: Box) -> CropMasks:
    """The nuclei of a session cut at the edges of a box, in coordinates of the box."""
    x0, y0, x1, y1 = box
    _, masks = session.nuclei.masks(session.nuclei.near(box))
    boxes, bitmaps, kinds = [], [], []
    nuclei = zip(masks.boxes.tolist(), masks.bitmaps, masks.classes.tolist(), strict=True)
    for (left, top, right, bottom), bitmap, kind in nuclei:
        a, b = max(left, x0), max(top, y0)
        part = bitmap[b - top : min(bottom, y1) - top, a - left : min(right, x1) - left]
        if part.any():
            place, part = trim(part, a - x0, b - y0)
            boxes.append(place)
            bitmaps.append(part)
            kinds.append(kind)
    return CropMasks((y1 - y0, x1 - x0), np.array(boxes, np.int32), bitmaps, classes=np.array(kinds, np.int32))


def make_data_set(workspace: Workspace, folder: Path) -> DataSet:
    """Write the reviewed regions as a data set with the parts `TRAIN` and `HELD`.

    Classes are its categories.

    All regions of an image are in one part, and an image stays in the part it once was put in: what a model was
    trained on never scores it. The second reviewed image is held back, and then every fourth.

    Raises
    ------
    InputError
        If nothing is reviewed, or it cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    rows: list[dict[str, str]] = []
    kinds: list[int] = []
    division = _division(workspace)
    before = dict(division)
    counts = {TRAIN: 0, HELD: 0}
    nuclei = 0
    left_out: dict[str, str] = {}
    for region in regions(workspace, left_out):
        part = division.setdefault(region.key, _next_part(division))
        counts[part] += 1
        nuclei += len(region.masks) * (part == TRAIN)
        data = io.BytesIO()
        Image.fromarray(region.pixels).save(data, "PNG")
        with write_whole(folder / "images" / f"{region.name}.png", sync=False) as file:
            file.write(data.getbuffer())
        height, width = region.masks.shape
        number = len(images) + 1
        # Cut out of its image, all of it is reviewed.
        size = {"height": height, "width": width}
        images.append({"id": number, "file_name": f"{region.name}.png", **size, REVIEWED: True})
        kinds += region.masks.classes.tolist()
        for body in to_annotations(region.masks):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **body})
        rows.append({"image_id": region.name, "part": part, "modality": ""})
    if not counts[TRAIN]:
        raise InputError(
            next(iter(left_out.values()), "nothing to learn from yet: correct an image and mark it as reviewed")
        )
    if not nuclei:
        raise InputError("the reviewed images hold no nucleus to learn from: review one that does")
    if division != before:
        with write_whole(workspace.folder / _DIVISION, "w", encoding="utf-8") as file:
            json.dump(division, file)
    categories, names = workspace.classes.listed(kinds)
    for annotation, category in zip(annotations, categories, strict=True):
        annotation["category_id"] = 1 + category
    write_coco(folder / ANNOTATIONS, images, annotations, names)
    write_split(folder / SPLIT_FILE, rows)
    return DataSet(folder, counts[TRAIN], counts[HELD], nuclei, left_out)


def _division(workspace: Workspace) -> dict[str, str]:
    """Image key -> part, of all images that were ever in a data set."""
    return read_settings(workspace.folder / _DIVISION)


def _next_part(division: dict[str, str]) -> str:
    held = sum(part == HELD for part in division.values())
    return HELD if held < (len(division) + 3) // 4 else TRAIN


def progress(run: Path) -> tuple[int, int, list[tuple[int, float]]]:
    """Iterations done, iterations wanted, and the loss at some of them, of a training that may still run."""
    config = run / "config.yaml"
    wanted = _iterations(config) if config.is_file() else 0
    losses: list[tuple[int, float]] = []
    metrics = run / "metrics.json"
    if metrics.is_file():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # being written
            if "total_loss" in row:
                losses.append((int(row["iteration"]) + 1, float(row["total_loss"])))
    return (losses[-1][0] if losses else 0), wanted, losses


@cache
def _iterations(config: Path) -> int:
    """SOLVER.MAX_ITER of a config, which is written whole and once."""
    return int(yaml.safe_load(config.read_text(encoding="utf-8"))["SOLVER"]["MAX_ITER"])


def next_folder(workspace: Workspace) -> Path:
    """A folder for the next training, made at once so that no other gets it."""
    number = 1
    while True:
        folder = workspace.folder / "trainings" / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({os.strerror(error.errno or 0)}); free space") from error
        else:
            return folder
