"""Many images to files: nothing is lost to a bad image, and an interrupted run goes on where it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskseg.errors import InputError
from maskseg.files import write_whole
from maskseg.images import ImageFile
from maskseg.inference.predictor import Predictor
from maskseg.masks import CropMasks
from maskseg.output.coco import write_predictions
from maskseg.output.labels import write_labels
from maskseg.output.overlay import overlay, write_picture
from maskseg.output.submission import write_submission
from maskseg.output.table import failed_row, image_row, write_table

FORMATS = ("rle", "labels", "coco", "overlay", "table")
# One part file an image until the run is whole; the folder goes when it is.
_PARTS = ".parts"


def predict_files(
    predictor: Predictor,
    files: Sequence[ImageFile],
    out: Path,
    formats: Sequence[str] = FORMATS,
    flip: bool | None = None,
    settings: dict[str, Any] | None = None,
) -> list[tuple[str, str]]:
    """Segment images and write the results to a folder.

    Writes ``submission.csv`` (rle), ``labels/ID.tif``, ``predictions.json`` (coco), ``overlays/ID.png`` and
    ``images.csv`` (table). An image that cannot be read is left out and reported; the same call again does only what
    is still to do.

    Parameters
    ----------
    predictor : Predictor
    files : sequence of ImageFile
    out : Path
    formats : sequence of str
        Some of `FORMATS`.
    flip : bool, optional
        See `Predictor.segment`.
    settings : dict, optional
        What the results depend on (model, config); parts written under other settings are not used.

    Returns
    -------
    list of (image_id, reason)
        The images that were left out.
    """
    parts = _parts_folder(out, {"formats": sorted(formats), "flip": flip, **(settings or {})})
    failed: dict[str, str] = {}
    for file in tqdm(files, desc="predict", unit="image", disable=None):
        part = parts / f"{file.id}.json"
        if part.is_file():
            continue
        begin = time.perf_counter()
        try:
            image = file.read()
            masks = predictor.segment(image, flip)
            row = image_row(file.id, masks, time.perf_counter() - begin)
            if "labels" in formats:
                write_labels(out / "labels" / f"{file.id}.tif", masks.to_labels())
            if "overlay" in formats:
                write_picture(out / "overlays" / f"{file.id}.png", overlay(image, prediction=masks))
        except InputError as error:
            failed[file.id] = str(error)
            continue
        with write_whole(part, "w", encoding="utf-8") as handle:
            json.dump(
                {"row": row, "shape": masks.shape, "scores": masks.scores.tolist(), "rle": masks.to_rle()}, handle
            )

    done = [file.id for file in files if file.id not in failed]
    if "rle" in formats:
        write_submission(out / "submission.csv", _each(parts, done, _masks))
    if "coco" in formats:
        names = {file.id: Path(file.member or file.path).name for file in files}
        write_predictions(
            out / "predictions.json", ((names[name], masks) for name, masks in _each(parts, done, _masks))
        )
    if "table" in formats:
        rows = dict(_each(parts, done, lambda part: part["row"]))
        write_table(out / "images.csv", [rows.get(file.id) or failed_row(file.id, failed[file.id]) for file in files])
    if not failed:
        shutil.rmtree(parts)
    return list(failed.items())


def _parts_folder(out: Path, settings: dict[str, Any]) -> Path:
    """The folder of parts, emptied if what is in it was made under other settings."""
    parts = out / _PARTS
    stamp = parts / "settings"
    text = json.dumps(settings, sort_keys=True)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != text:
        if parts.is_dir():
            shutil.rmtree(parts)
        with write_whole(stamp, "w", encoding="utf-8") as file:
            file.write(text)
    return parts


def _masks(part: dict[str, Any]) -> CropMasks:
    return CropMasks.from_rle(part["rle"], part["shape"], part["scores"])


def _each(parts: Path, ids: list[str], take: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[str, Any]]:
    for image_id in ids:
        yield image_id, take(json.loads((parts / f"{image_id}.json").read_text(encoding="utf-8")))
