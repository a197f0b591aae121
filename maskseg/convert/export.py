"""Nuclei out: in any format that is read, to any format that is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from maskseg.convert.conversion import PendingImage, Summary, without_repeated_ids
from maskseg.core.errors import InputError, located, or_reason
from maskseg.core.files import write_whole
from maskseg.core.locks import alone_and_swept
from maskseg.core.processes import in_order
from maskseg.data.dataset import folder_and_part
from maskseg.data.split import SPLIT_FILE, images_of_part, read_split
from maskseg.formats.classes import NUCLEUS
from maskseg.formats.reader import Classes, Item, LeftOut, Note
from maskseg.formats.registry import Format, exported, get, recognise, writers
from maskseg.formats.reviewed import REVIEWED, as_field, separate_reviewed
from maskseg.formats.writer import ImageInfo, Joined, write_all
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.windows import ArraySource


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
    """An image whose nuclei are to be written."""

    item: Item
    image: ImageFile | None

    @property
    def file_name(self) -> str:
        """Of the image; where there is none, of the file of its nuclei."""
        return self.image.path.name if self.image else Path(self.item.file_name or self.item.where).name


def export(
    source: str, out: str | Path, form: str, images: str | Path | None = None, workers: int = 1, progress: bool = True
) -> Exported:
    """Write nuclei in another form.

    Each image has its files, or all images have one together, as `maskseg.formats.registry` has them; images are
    copied for formats that hold them.

    Parameters
    ----------
    source : str
        Nuclei in any format that is read, such as a data set folder, one part of it (DIR:PART) or a folder of label
        images.
    out : path
        Gets the files.
    form : str
        One of `maskseg.formats.registry.exported`.
    images : path, optional
        Folder of the images, for the forms that hold or need them; those of the source where not given. Without
        images the nuclei are written alone.
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
        If there is nothing to export, or the form needs images and there are none.
    """
    out = Path(out)
    chosen = get(form, "--to", exported())
    chosen.require(f"--to {form}")
    summary = Exported("nuclei")
    pending = _pending_images(source, Path(images) if images else None, chosen, summary)
    wanted = without_repeated_ids(pending, summary)
    work = partial(_work, chosen, out, tuple(summary.classes))
    with alone_and_swept(out), closing(in_order(work, wanted, workers)) as done:
        bar = tqdm(done, "export", len(wanted), unit="image", disable=None if progress else True)
        joined = _account(summary, zip(wanted, bar, strict=True))
        if chosen.joined:
            chosen.imported("join")(chosen.joined_paths(out, export=True), joined)
        for _ in joined:
            pass
    return summary


def _account(summary: Exported, outcomes: Iterable[tuple[PendingImage, _Written | str]]) -> Iterator[Joined]:
    """Note what became of each image, and give what the file of all images has of it."""
    for image, outcome in outcomes:
        if isinstance(outcome, str):
            summary.leave_out(image, outcome)
            yield Joined(image.id or image.where, "", reason=outcome)
            continue
        summary.images += 1
        summary.masks += outcome.masks
        summary.annotation_count += outcome.annotation_count
        summary.shared += outcome.shared
        summary.notes.update(outcome.notes)
        summary.left_out += [LeftOut(image.where, "nucleus left out", reason) for reason in outcome.faults]
        yield Joined(image.id or "", image.source.file_name, outcome.record)


def _pending_images(source: str, images: Path | None, form: Format, summary: Exported) -> list[PendingImage]:
    folder, part = folder_and_part(source)
    path = Path(folder)
    reader = recognise(path)
    reader.require(source)
    items: list[Item] = []
    for one in reader.imported("reader")(path):
        if isinstance(one, Item):
            items.append(one)
        elif isinstance(one, LeftOut):
            summary.left_out.append(one)
        elif isinstance(one, Note):
            summary.notes[one.text] += 0
        elif isinstance(one, Classes):
            summary.classes += one.names
    if part:
        wanted = images_of_part(read_split(path / SPLIT_FILE), part, path / SPLIT_FILE)
        items = [item for item in items if item.image_id in wanted]
    if not items:
        raise InputError(f"{source}: no nuclei in it; check the path")
    if images is None:
        beside = (path.parent if path.is_file() else path) / "images"
        images = beside if beside.is_dir() else None
    files = {file.id: file for file in find_images([images])} if images else {}
    return [_pending_image(item, files.get(item.image_id or "") or item.image, images, form) for item in items]


def _pending_image(item: Item, image: ImageFile | None, images: Path | None, form: Format) -> PendingImage:
    if image is None and item.needs_shape and item.shape is None:
        raise InputError(f"{item.where}: the size of its image is not known; give the images with --images")
    # As a text: why there is nothing to write.
    source: _Source | str = _Source(item, image)
    if image is None and (form.images or form.pixels) and item.image_id:
        if images:
            source = f"no image {item.image_id} in {images}; add it"
        elif form.pixels:
            raise InputError(f"--to {form.name}: needs the images of {item.where}; give their folder with --images")
    return PendingImage(item.where, source, item.image_id, item.annotation_count)


# ---- one image ----


class _Written(NamedTuple):
    """How many nuclei an image has and how many were written, pixels that they shared, faults, and its record."""

    annotation_count: int
    masks: int
    shared: int
    faults: list[str]
    record: Any
    notes: list[str]


def _work(form: Format, out: Path, names: tuple[str, ...], pending: PendingImage) -> _Written | str:
    """Write the files of one image; a text says why not."""
    if isinstance(pending.source, str):
        return pending.source
    return or_reason(partial(_write, form, out, names, pending.source))


def _write(form: Format, out: Path, names: tuple[str, ...], source: _Source) -> _Written:
    item, image = source
    pixels = _pixels(image) if form.pixels and image else None
    shape = item.shape or (pixels.shape if pixels else image.size() if image and item.needs_shape else None)
    nuclei = item.read(shape)
    count, fields = nuclei.annotation_count, {**item.fields, **nuclei.fields}
    nuclei, region = separate_reviewed(replace(nuclei, fields=fields))
    if region is not None:
        fields[REVIEWED] = as_field(region)
    masks = nuclei.masks
    # As the whole set numbers them, where that is known; a class that has no name is a nucleus.
    own = [name or NUCLEUS for name in nuclei.class_names()]
    names = tuple(dict.fromkeys([*names, *own])) or (NUCLEUS,)
    masks.classes = np.array([names.index(name) for name in own], np.int32)
    info = ImageInfo(
        item.image_id or "",
        masks.shape,
        source.file_name,
        pixels,
        microns_per_pixel=fields.get("microns_per_pixel"),
        scored=bool((masks.scores != 1).any()),
        fields=fields,
        class_names=names,
    )
    ((_, writer),) = writers([form], info, out, export=True).items()
    if form.images and image:
        folder = out / form.images.replace("{id}", info.image_id)
        with write_whole(folder / source.file_name, sync=False) as file:
            file.write(image.bytes())
    (record,) = write_all([writer], [(masks, masks.shape[0])])
    faults = [located(one.file, one.reason) for one in nuclei.left_out] + writer.left_out
    # A note is said once an image.
    notes = list(dict.fromkeys([*nuclei.notes, *writer.notes]))
    return _Written(count, len(masks) - len(writer.left_out), writer.shared, faults, record, notes)


def _pixels(image: ImageFile) -> ArraySource:
    loaded = image.load()
    return ArraySource(loaded.image, image.name, loaded.values, loaded.every)
