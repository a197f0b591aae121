"""A repaired copy of a data set, with a record of every change.

The rules, in this order; `maskseg.curate.check` says what each kind is.

1. Images that cannot be read or placed, annotations that cannot be read or belong to no image: left out. A record that
   alone has another size is corrected, and an annotation without a box has that of its mask.
2. Specks are dropped.
3. Pieces: one of at least the smallest area becomes a nucleus of its own, since dropping it would teach the network
   that it is background; smaller ones are stray pixels and dropped.
4. Duplicates: the larger stays, since the smaller may have lost pixels to a neighbour; of equal ones the first.
5. Overlaps: the smaller nucleus keeps the pixels, since it may lie upon or inside the larger one; as in
   `CropMasks.to_labels`. What this cuts off from the larger one is a part of a nucleus that has a mask already: only
   the largest piece stays, if it is no speck.
6. Holes that no other nucleus fills are filled, the inner nuclei first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, sync_tree, write_whole
from maskseg.core.locks import alone_and_swept
from maskseg.core.masks import CropMasks, trim
from maskseg.core.morphology import components
from maskseg.core.overlaps import covered as pixels_of_any
from maskseg.core.overlaps import overlaps_within
from maskseg.core.tables import write_csv
from maskseg.curate.check import DUPLICATE_IOU, MIN_AREA, Report, distinct_images
from maskseg.curate.mask_faults import open_holes, readable_masks
from maskseg.data.split import SPLIT_FILE, read_split, write_split
from maskseg.formats.coco import ANNOTATIONS, annotation, image_id, write_coco
from maskseg.formats.coco_checks import is_box
from maskseg.imaging.reading import read_image

CHANGES = "changes.csv"
# Kinds of findings for which an image is left out.
_LEAVES_OUT = ("missing-image", "unreadable-image", "sizes-differ")


class Change(NamedTuple):
    """A change: to which image and annotation, why (a kind of finding), what was done, and to how many pixels."""

    image: str
    annotation: Any
    kind: str
    action: str
    pixels: int | None = None


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes
    ----------
    images, nuclei : int
        In the copy.
    left_out : int
        Images that are not in the copy.
    changes : list of Change
    """

    images: int
    nuclei: int
    left_out: int
    changes: list[Change]


@dataclass
class _Mask:
    """A mask on its way through the rules; `source` is its place in the input."""

    source: int
    box: tuple[int, int, int, int]
    bitmap: NDArray[np.bool_]

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.bitmap))


def write_repaired(report: Report, out: str | os.PathLike[str], min_area: int = MIN_AREA) -> Repaired:
    """Write a repaired copy of a data set: ``annotations.json``, ``images/``, ``split.csv`` and ``changes.csv``.

    Parameters
    ----------
    report : Report
        From `maskseg.curate.check.check`, with all its findings.
    out : path
        A folder other than that of the data set.
    min_area : int
        Pixels; as given to `check`.

    Raises
    ------
    InputError
        If the folder is that of the data set, cannot be written, or no image is left.
    """
    out, folder = Path(out), report.data.path.parent
    if out.resolve() == folder.resolve():
        raise InputError(f"{out}: is the data set itself; give another folder for the repaired copy")
    with alone_and_swept(out):
        return _write_repaired(report, out, folder, min_area)


def _write_repaired(report: Report, out: Path, folder: Path, min_area: int) -> Repaired:
    changes = [
        Change(finding.image, finding.annotation, finding.kind, "annotation dropped")
        for finding in report.findings
        if finding.kind == "unknown-image"
    ]
    distinct, repeated = distinct_images(report.data)
    changes += [Change(finding.image, None, finding.kind, "image left out") for finding in repeated]
    reasons = {finding.image: finding for finding in report.findings if finding.kind in _LEAVES_OUT}
    images, annotations = [], []
    # Ids of other programs may be texts.
    ids = [item.get("id") for items in report.data.annotations.values() for item in items]
    next_id = max((number for number in ids if isinstance(number, int)), default=0) + 1
    for image in distinct:
        name, items = image_id(image), report.data.annotations.get(image["id"], [])
        reason = reasons.get(name)
        if reason is not None and (reason.kind != "sizes-differ" or reason.measure):
            changes.append(Change(name, None, reason.kind, f"image left out, with {len(items)} annotations"))
            continue
        source = folder / "images" / image["file_name"]
        if reason is not None:
            height, width = read_image(source).shape[:2]
            image = {**image, "height": height, "width": width}
            changes.append(Change(name, None, reason.kind, f"record corrected to {height} x {width}"))
        repaired, of_image, next_id = _repair_annotations(image, items, min_area, next_id)
        changes += of_image
        annotations += repaired
        images.append(image)
        _copy(source, out / "images" / image["file_name"])
    if not images:
        raise InputError(f"{report.data.path}: no image is left to make a copy of; check where its images are")
    if (folder / SPLIT_FILE).is_file():
        kept = {image_id(image) for image in images}
        rows = read_split(folder / SPLIT_FILE)
        write_split(out / SPLIT_FILE, [row for name, row in rows.items() if name in kept])
    _write_changes(out / CHANGES, changes)
    data = report.data
    for item in annotations:
        item["category_id"] = 1 + data.class_names.index(data.class_of(item))
    sync_tree(out / "images")
    write_coco(out / ANNOTATIONS, images, annotations, data.class_names)
    return Repaired(len(images), len(annotations), len(report.data.images) - len(images), changes)


def repair_masks(masks: CropMasks, min_area: int = MIN_AREA) -> tuple[CropMasks, NDArray[np.int64], list[Change]]:
    """Rules 2 to 6 on the masks of one image.

    Parameters
    ----------
    masks : CropMasks
    min_area : int
        Pixels.

    Returns
    -------
    repaired : CropMasks
        Each in one piece, without open holes, no two of them sharing a pixel. In the order of the input; what was
        split off comes right after the mask that it was a part of.
    source : int64 array (M,)
        Index of the mask that each was made of; what was split off has it once more.
    changes : list of Change
        Image "" and the index of the mask for the annotation.
    """
    changes: list[Change] = []

    def log(mask: _Mask, kind: str, action: str, pixels: int) -> None:
        changes.append(Change("", mask.source, kind, action, pixels))

    kept = []
    for index, bitmap in enumerate(masks.bitmaps):
        x0, y0, x1, y1 = masks.boxes[index].tolist()
        mask = _Mask(index, (x0, y0, x1, y1), bitmap)
        if mask.area < max(min_area, 1):
            log(mask, "speck", "dropped", mask.area)
        else:
            kept += _in_pieces(mask, min_area, log)
    kept = _without_duplicates(kept, masks.shape, log)
    kept = _without_overlaps(kept, masks.shape, min_area, log)
    _fill(kept, masks.shape, log)
    return _crops(kept, masks.shape), np.array([mask.source for mask in kept], np.int64), changes


def _crops(kept: Sequence[_Mask], shape: tuple[int, int]) -> CropMasks:
    return CropMasks(shape, np.array([mask.box for mask in kept], np.int32), [mask.bitmap for mask in kept])


def _in_pieces(mask: _Mask, min_area: int, log: Any) -> list[_Mask]:
    pieces, areas = components(mask.bitmap)
    if len(areas) == 1:
        return [mask]
    masks = []
    # The largest first, which the id stays with.
    for rank, piece in enumerate(np.argsort(-areas, kind="stable")):
        if areas[piece] < min_area:
            log(mask, "pieces", "a piece dropped", int(areas[piece]))
            continue
        masks.append(_Mask(mask.source, *trim(pieces == piece + 1, *mask.box[:2])))
        if rank:
            log(mask, "pieces", "a piece made a nucleus of its own", int(areas[piece]))
    return masks


def _without_duplicates(kept: list[_Mask], shape: tuple[int, int], log: Any) -> list[_Mask]:
    pairs = overlaps_within(_crops(kept, shape))
    areas = [mask.area for mask in kept]
    # The larger first, then the earlier.
    twice = [
        sorted(pair, key=lambda index: (-areas[index], index))
        for *pair, iou in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.iou.tolist(), strict=True)
        if iou > DUPLICATE_IOU
    ]
    dropped: set[int] = set()
    # From the largest on: a mask that is dropped drops no other.
    for stays, goes in sorted(twice, key=lambda pair: (-areas[pair[0]], *pair)):
        if stays not in dropped and goes not in dropped:
            dropped.add(goes)
            log(kept[goes], "duplicate", "dropped", areas[goes])
    return [mask for index, mask in enumerate(kept) if index not in dropped]


def _without_overlaps(kept: list[_Mask], shape: tuple[int, int], min_area: int, log: Any) -> list[_Mask]:
    crops = _crops(kept, shape)
    if not len(overlaps_within(crops).first):
        return kept
    labels = crops.to_labels()
    masks = []
    for index, mask in enumerate(kept):
        x0, y0, x1, y1 = mask.box
        left = mask.bitmap & (labels[y0:y1, x0:x1] == index + 1)
        before, after = mask.area, int(np.count_nonzero(left))
        if before != after:
            log(mask, "overlap", "pixels left to a smaller nucleus", before - after)
            pieces, areas = components(left)
            if len(areas) > 1:
                left = pieces == 1 + int(np.argmax(areas))
                log(mask, "overlap", "pieces cut off dropped", after - int(areas.max()))
            box, bitmap = trim(left, x0, y0)
            mask = _Mask(mask.source, box, bitmap)
            if mask.area < max(min_area, 1):
                log(mask, "overlap", "dropped: a speck is left", mask.area)
                continue
        masks.append(mask)
    return masks


def _fill(kept: list[_Mask], shape: tuple[int, int], log: Any) -> None:
    covered = pixels_of_any(_crops(kept, shape))
    # A nucleus inside another has the smaller box.
    for mask in sorted(kept, key=lambda mask: (mask.box[2] - mask.box[0]) * (mask.box[3] - mask.box[1])):
        x0, y0, x1, y1 = mask.box
        holes = open_holes(mask.bitmap, covered[y0:y1, x0:x1])
        if holes.any():
            mask.bitmap = mask.bitmap | holes
            covered[y0:y1, x0:x1] |= holes
            log(mask, "hole", "filled", int(np.count_nonzero(holes)))


def _repair_annotations(
    image: dict[str, Any], items: Sequence[dict[str, Any]], min_area: int, next_id: int
) -> tuple[list[dict[str, Any]], list[Change], int]:
    """Annotations of one image, repaired; the changes; and the next id that is free."""
    name, shape = image_id(image), (image["height"], image["width"])
    masks, good, _, bad = readable_masks(items, shape)
    changes = [Change(name, item.get("id"), "bad-mask", "annotation dropped") for item in bad]
    repaired, source, of_masks = repair_masks(masks, min_area)
    changes += [change._replace(image=name, annotation=good[change.annotation].get("id")) for change in of_masks]
    annotations, seen = [], set()
    changed = {change.annotation for change in of_masks}
    for index, box, bitmap in zip(source.tolist(), repaired.boxes, repaired.bitmaps, strict=True):
        item = good[index]
        if index not in seen and not is_box(item.get("bbox")):
            item = {**item, "bbox": annotation(bitmap, box, shape)["bbox"]}
            changes.append(Change(name, item.get("id"), "bad-box", "box of its mask taken"))
        if index in changed:
            item = {**item, **annotation(bitmap, box, shape), "category_id": item.get("category_id")}
            if index in seen:
                item["id"], next_id = next_id, next_id + 1
        seen.add(index)
        annotations.append(item)
    return annotations, changes, next_id


def _copy(source: Path, target: Path) -> None:
    check_file(source)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check the data set again") from error
    with write_whole(target, sync=False) as file:
        file.write(data)


def _write_changes(path: Path, changes: Sequence[Change]) -> None:
    write_csv(path, Change._fields, changes)
