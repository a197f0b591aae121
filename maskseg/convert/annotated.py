"""Annotations in any format of `maskseg.formats.registry` to a COCO data set."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.convert.conversion import Converted, ConvertedImage, PendingImage, Summary, convert_images
from maskseg.convert.pairing import with_images
from maskseg.core.errors import InputError
from maskseg.formats.classes import ClassRule
from maskseg.formats.coco import to_annotations
from maskseg.formats.reader import Classes, Item, LeftOut, Note, Selection
from maskseg.formats.registry import get, readable
from maskseg.formats.reviewed import REVIEWED, as_field, separate_reviewed, within
from maskseg.formats.sources import files_of
from maskseg.imaging.channels import Choice
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import load_image, member_path

# Annotations that are left out and were never nuclei.
_NO_NUCLEI = ("region",)
# What is known of an image that a data set keeps.
_FIELDS = ("modality", "microns_per_pixel")


def convert_annotations(
    source: str | Path,
    out: str | Path,
    form: str,
    images: str | Path | None = None,
    modalities: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
    choice: Choice | None = None,
    rule: ClassRule | None = None,
    reviewed: bool = False,
    **options: Any,
) -> Summary:
    """Convert annotations to a COCO data set with run lengths; classes become categories, nucleus where there are none.

    Images are copied as they are. What is bad is left out and listed: nothing else is lost to it.

    Parameters
    ----------
    source : path
        What the reader of the format takes.
    out : path
        Gets ``images/`` and, at the end, ``annotations.json``.
    form : str
        One of `maskseg.formats.registry.readable`.
    images : path, optional
        Folder of the images, which may lie in folders below, for a format that does not say where they are; where not
        given, ``images`` beside the annotations if there is such a folder, otherwise their own folder.
    modalities : mapping of image id to str, optional
        Put into the image records.
    workers : int
        Processes; see `maskseg.convert.conversion.convert_images`.
    progress : bool
        Show a bar on a terminal.
    choice : Choice, optional
        Channel and plane of the images: what it chooses is written, as TIFF, in place of a copy of each.
    rule : ClassRule, optional
        What the classes are called.
    reviewed : bool
        Take only the images, and of these only the regions, that annotations called "reviewed" mark.
    **options
        Of the reader of the format.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If the source is not of the format, or no image can be converted.
    """
    source = Path(source)
    reader = get(form, "convert", readable())
    reader.require(f"convert {form}")
    if images and not (Path(images).is_dir() or (Path(images).is_file() and Path(images).suffix.lower() == ".zip")):
        raise InputError(f"{images}: no such folder or zip file; check --images")
    summary = Summary(reader.unit)
    items = _listed(reader.imported("reader")(source, **options), summary)
    summary.classes = list(dict.fromkeys(map(rule or ClassRule(), summary.classes)))
    folder = Path(images) if images else _beside(source)
    if any(item.image is None for item in items):
        items = with_images(items, folder)
    if choice:
        items = [
            item if item.image is None else replace(item, image=replace(item.image, choice=choice)) for item in items
        ]
    pending = [PendingImage(item.where, item, item.image_id, item.annotation_count) for item in items]
    expected = f"{reader.layout or form} in {source}"
    if reviewed:
        expected += ', with annotations called "reviewed" around what was looked at; without --reviewed all is taken'
    return convert_images(
        pending,
        partial(_read, rule=rule or ClassRule(), reviewed=reviewed),
        Path(out),
        summary,
        expected=expected,
        modalities=modalities,
        workers=workers,
        progress=progress,
        rule=rule,
    )


def _beside(source: Path) -> Path:
    """Where the images of annotations are looked for: in their folder or zip file, or in ``images`` beside them."""
    if source.is_file() and source.suffix.lower() == ".zip" and files_of(source, *SUFFIXES):
        return source
    beside = source if source.is_dir() else source.parent
    return beside / "images" if (beside / "images").is_dir() else beside


def _listed(given: Any, summary: Summary) -> list[Item]:
    """The items of a reader; what it left out goes into the summary."""
    items: list[Item] = []
    for one in given:
        if isinstance(one, LeftOut):
            summary.left_out.append(one)
            summary.annotation_count += one.annotation_count
        elif isinstance(one, Note):
            summary.notes[one.text] += 0
        elif isinstance(one, Selection):
            summary.unit += f" {one.which}"
        elif isinstance(one, Classes):
            summary.classes += one.names
        else:
            items.append(one)
    return items


def _read(item: Item, rule: ClassRule, reviewed: bool) -> Converted:
    if item.image is None:
        item.read()  # says what is wrong
        raise InputError("no image for it; give the folder of the images with --images")
    name = member_path(item.image.member or item.image.path.name).name
    if item.image.choice:
        name, loaded = f"{item.image.id}.tif", item.image.load()
        data = _as_tiff(loaded.values)
    else:
        data = item.image.bytes()
        loaded = load_image(data, name)
    height, width = loaded.image.shape[:2]
    if item.shape is not None and item.shape != (height, width):
        sizes = f"{height}x{width} pixels, the annotations say {item.shape[0]}x{item.shape[1]}"
        raise InputError(f"{name} has {sizes}; give the images that were annotated")
    nuclei = item.read((height, width))
    if nuclei.masks.shape != (height, width):
        sizes = f"{height}x{width} pixels, its nuclei lie in {nuclei.masks.shape[0]}x{nuclei.masks.shape[1]}"
        raise InputError(f"{name} has {sizes}; give the images that were annotated")
    if nuclei.left_out and not len(nuclei.masks) and not all(one.kind in _NO_NUCLEI for one in nuclei.left_out):
        # Trained on, its nuclei would be background.
        first = nuclei.left_out[0].reason
        raise InputError(f"none of its {len(nuclei.left_out)} annotations can be used (the first: {first}); mend them")
    # What the annotations say of the size of a pixel goes before what the image does.
    fields = {**({"microns_per_pixel": loaded.mpp} if loaded.mpp else {}), **item.fields, **nuclei.fields}
    count, left_out, notes = nuclei.annotation_count, nuclei.left_out, [*nuclei.notes]
    nuclei, region = separate_reviewed(replace(nuclei, fields=fields))
    fields = {key: value for key, value in fields.items() if key in _FIELDS}
    names = nuclei.class_names()
    seen, names = frozenset(names), [rule(one) for one in names]
    if region is not None and (reviewed or REVIEWED in item.fields):
        kept, region = within(nuclei.masks, region)
        if len(kept) < len(names):
            notes.append("nuclei outside of what is reviewed left out")
        nuclei, names = replace(nuclei, masks=nuclei.masks[kept]), [names[index] for index in kept]
        fields[REVIEWED] = as_field(region)
    elif reviewed:
        return Converted([], count, left_out, notes=["not marked as reviewed, left out"], seen=seen)
    elif region is not None:
        notes.append("regions marked as reviewed, and all taken; to take only what lies in them: --reviewed")
    classes = list(dict.fromkeys(names)) or [""]
    nuclei.masks.classes = np.array([classes.index(one) for one in names], np.int32)
    file_name = item.image.id + member_path(name).suffix.lower()
    image = ConvertedImage(file_name, data, (height, width), to_annotations(nuclei.masks), fields, classes)
    return Converted([image], count, left_out, notes=notes, seen=seen)


def _as_tiff(values: NDArray[Any]) -> bytes:
    """Values (H, W, 1 or 3) as the content of a TIFF."""
    file = io.BytesIO()
    grey = values.shape[2] == 1
    kind = "minisblack" if grey else "rgb"
    tifffile.imwrite(file, values[..., 0] if grey else values, photometric=kind, compression="zlib", metadata=None)
    return file.getvalue()
