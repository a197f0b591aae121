"""Nuclei out: a data set, predictions or label images to each of the forms that the converters read."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from maskseg.convert.convert import LeftOut, Picture, Result, Summary, Task, annotations, run, without_second
from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.processes import in_order
from maskseg.data.dataset import folder_and_part, image_id, is_dataset, load_coco
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.formats.aperio_xml_writer import write_aperio_xml
from maskseg.formats.geojson import write_geojson
from maskseg.formats.labels import SUFFIXES, read_labels, write_labels
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile

FORMS = ("labels", "folders", "coco", "xml", "geojson")
# Of these the images are a part; the files of the others lie beside a folder of images.
_WITH_IMAGES = ("labels", "folders", "coco")
# Where label images lie below the folder given: in it, as `maskseg predict` writes them, as StarDist has them.
_LABEL_FOLDERS = (".", "labels", "masks")


@dataclass
class Exported(Summary):
    """What an export did.

    Attributes
    ----------
    shared : int
        Pixels that overlapping nuclei could not all keep, in label images.
    """

    shared: int = 0

    def __str__(self) -> str:
        if not self.shared:
            return super().__str__()
        return f"{super().__str__()}; {self.shared} shared pixels went to one nucleus (higher score, then smaller)"


class _Source(NamedTuple):
    """An image whose nuclei are to be written: a label image, or a COCO record with its annotations."""

    id: str
    image: ImageFile | None
    labels: Path | None
    record: dict[str, Any]
    items: list[dict[str, Any]]

    @property
    def file_name(self) -> str:
        """Of the image; of the label image where there is no image."""
        known = self.image.path if self.image else self.labels
        return known.name if known else Path(self.record["file_name"]).name


def export(
    source: str, out: str | Path, form: str, images: str | Path | None = None, workers: int = 1, progress: bool = True
) -> Exported:
    """Write nuclei in another form.

    ==========  ==================================================================================
    labels      ``images/``, ``masks/ID.tif``; where nuclei overlap the higher score has the pixel, of equal
                scores the smaller nucleus
    folders     ``ID/images/``, ``ID/masks/0001.png`` ...: 255 in the nucleus
    coco        ``images/``, ``annotations.json`` with run lengths
    xml         ``ID.xml``, Aperio ImageScope
    geojson     ``ID.geojson``, QuPath
    ==========  ==================================================================================

    Parameters
    ----------
    source : str
        A data set folder, one part of it (DIR:PART), a COCO JSON file, or a folder of label images (also one with such
        a folder ``labels`` or ``masks`` in it).
    out : path
        Gets the files.
    form : str
        One of `FORMS`.
    images : path, optional
        Folder of the images, for the forms that hold them; ``images`` in the source where there is such a folder.
        Without images the nuclei are written alone.
    workers : int
        Processes; see `maskseg.core.processes.in_order`.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Exported

    Raises
    ------
    InputError
        If there is nothing to export.
    """
    out = Path(out)
    summary = Exported("nuclei")
    tasks = _tasks(source, Path(images) if images else None, form in _WITH_IMAGES)
    if form == "coco":
        run(tasks, _picture, out, summary, expected=f"images in {source}", workers=workers, progress=progress)
        return summary
    wanted = without_second(tasks, summary)
    with closing(in_order(partial(_work, form, out), wanted, workers)) as done:
        bar = tqdm(done, "export", len(wanted), unit="image", disable=None if progress else True)
        for task, outcome in zip(wanted, bar, strict=True):
            if isinstance(outcome, str):
                summary.lose(task, outcome)
                continue
            summary.images += 1
            summary.masks += outcome.masks
            summary.found += outcome.found
            summary.shared += outcome.shared
            summary.left_out += [LeftOut(task.where, "nucleus left out", reason) for reason in outcome.faults]
    return summary


def _tasks(source: str, images: Path | None, with_images: bool) -> list[Task]:
    folder, part = folder_and_part(source)
    path = Path(folder)
    found = _from_coco(path, part) if path.is_file() or is_dataset(path) else _from_labels(path)
    if not found:
        raise InputError(f"{source}: neither annotations.json nor label images ({', '.join(SUFFIXES)}) in it")
    if images is None:
        images = (path.parent if path.is_file() else path) / "images"
        with_images = with_images and images.is_dir()
    if not with_images:
        return [Task(where, item, item.id, len(item.items)) for where, item in found]
    files = {file.id: file for file in find_images([images])}
    return [
        Task(
            where,
            item._replace(image=files[item.id]) if item.id in files else f"no image {item.id} in {images}; add it",
            item.id,
            len(item.items),
        )
        for where, item in found
    ]


def _from_coco(path: Path, part: str) -> list[tuple[str, _Source]]:
    data = load_coco(path)
    records = data.images
    if part:
        wanted = images_of_part(read_split(path / SPLIT_FILE), part, path / SPLIT_FILE)
        records = [record for record in records if image_id(record) in wanted]
    for record in records:
        missing = {"file_name", "height", "width"} - record.keys()
        if missing:
            raise InputError(
                f"{data.path}: image {record['id']} has no {min(missing)}; make it whole with maskseg convert coco"
            )
    return [
        (
            f"{data.path}: image {record['file_name']}",
            _Source(image_id(record), None, None, record, data.annotations.get(record["id"], [])),
        )
        for record in records
    ]


def _from_labels(path: Path) -> list[tuple[str, _Source]]:
    for name in _LABEL_FOLDERS:
        files = sorted((path / name).glob("*"))
        files = [file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
        if files:
            return [(str(file), _Source(file.stem, None, file, {}, [])) for file in files]
    return []


# ---- one image ----


class _Written(NamedTuple):
    """Nuclei that an image has and that were written, pixels that they shared, and what became of the others."""

    found: int
    masks: int
    shared: int
    faults: list[str]


def _masks(source: _Source | str) -> tuple[CropMasks, list[str]]:
    """The nuclei of an image that are not empty, and a line for each that is."""
    if isinstance(source, str):
        raise InputError(source)
    if source.labels:
        return CropMasks.from_labels(read_labels(source.labels)), []
    shape = (source.record["height"], source.record["width"])
    rles = [item["segmentation"] for item in source.items]
    masks = CropMasks.from_rle(rles, shape, [item.get("score", 1.0) for item in source.items])
    empty = masks.areas == 0
    faults = [f"annotation {source.items[i].get('id')} has no pixel; delete it" for i in np.flatnonzero(empty)]
    return masks[~empty], faults


def _picture(source: _Source | str) -> Result:
    """The image for a data set."""
    masks, faults = _masks(source)
    assert isinstance(source, _Source)
    items = annotations(masks)
    if (masks.scores != 1).any():
        for item, score in zip(items, masks.scores.tolist(), strict=True):
            item["score"] = round(score, 6)
    data = source.image.bytes() if source.image else None
    fields = {key: value for key, value in source.record.items() if key not in ("id", "file_name", "height", "width")}
    left_out = [LeftOut(source.file_name, "nucleus left out", fault) for fault in faults]
    return Result([Picture(source.file_name, data, masks.shape, items, fields)], len(masks) + len(faults), left_out)


def _work(form: str, out: Path, task: Task) -> _Written | str:
    """Write the files of one image; a text says why not."""
    source: _Source = task.source
    try:
        masks, faults = _masks(source)
        found, shared = len(masks) + len(faults), 0
        if form == "xml":
            write_aperio_xml(out / f"{source.id}.xml", masks, source.record.get("microns_per_pixel"))
        elif form == "geojson":
            write_geojson(out / f"{source.id}.geojson", masks)
        elif form == "folders":
            _copy(source, out / source.id)
            _write_folder(out / source.id / "masks", masks)
        else:
            _copy(source, out)
            labels = masks.to_labels()
            areas = np.bincount(labels.ravel(), minlength=len(masks) + 1)[1:]
            shared = int(masks.areas.sum() - areas.sum())
            covered = int(np.count_nonzero(areas == 0))
            faults += ["wholly covered by others"] * covered
            write_labels(out / "masks" / f"{source.id}.tif", labels)
        return _Written(found, found - len(faults), shared, faults)
    except InputError as error:
        return str(error)


def _copy(source: _Source, folder: Path) -> None:
    if source.image:
        with write_whole(folder / "images" / source.file_name, sync=False) as file:
            file.write(source.image.bytes())


def _write_folder(folder: Path, masks: CropMasks) -> None:
    """One PNG a nucleus, 255 on 0, of the size of the image."""
    # Files of a former export would be further nuclei.
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds files already; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    canvas = np.zeros(masks.shape, np.uint8)
    for number, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes, masks.bitmaps, strict=True), start=1):
        inside = canvas[y0:y1, x0:x1]
        inside[bitmap] = 255
        _, encoded = cv2.imencode(".png", canvas, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        inside[:] = 0
        with write_whole(folder / f"{number:04d}.png", sync=False) as file:
            file.write(encoded.data)
