"""What is wrong with a data set: every image, every nucleus, and the images among each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.morphology import components
from maskseg.core.overlaps import covered as pixels_of_any
from maskseg.core.overlaps import overlaps_within
from maskseg.core.processes import in_order
from maskseg.core.tables import write_csv
from maskseg.curate.mask_faults import open_holes, readable_masks
from maskseg.curate.near_duplicates import near_duplicates, thumbnail
from maskseg.data.dataset import CocoData, image_id, load_coco
from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.formats.coco_checks import is_box, leads_outside_folder
from maskseg.imaging.reading import read_image

# Pixels below which a nucleus is a speck; prediction drops such masks, too (POSTPROCESS.MIN_AREA).
MIN_AREA = 10
# IoU above which two annotations are one nucleus annotated twice.
DUPLICATE_IOU = 0.8
# Share of the image; the largest nucleus of DSB 2018 covers 0.08.
COVER = 0.5
# Grey levels between the darkest and the brightest pixel; the faintest image of DSB 2018 has 29.
BLANK_RANGE = 8
# Share of the nuclei's pixels that are all white or all black; at most 0.17 in DSB 2018.
CLIPPED = 0.25


class FindingKind(NamedTuple):
    """A kind of finding.

    Attributes
    ----------
    description : str
        What is wrong.
    unit : str
        Of the measure.
    remedy : str
        With "(--fix)" where `maskseg.curate.repair` does it; the others need a person.
    smallest_worst : bool
        Whether a small measure is worse than a large one.
    """

    description: str
    unit: str
    remedy: str
    smallest_worst: bool = False


FINDING_KINDS = {
    "missing-image": FindingKind("the image file is not there", "", "put it there, or leave the image out (--fix)"),
    "unreadable-image": FindingKind(
        "the image file cannot be read", "", "get it again, or leave the image out (--fix)"
    ),
    "repeated-image": FindingKind(
        "an id or a name that an image before it has", "", "leave it out (--fix) or rename it"
    ),
    "sizes-differ": FindingKind(
        "image file, image record and masks are not of one size",
        "masks that do not fit",
        "convert again; where only the record is wrong --fix corrects it, otherwise it leaves the image out",
    ),
    "unknown-image": FindingKind(
        "an annotation of an image that is not listed", "", "drop it (--fix) or list the image"
    ),
    "bad-mask": FindingKind("run lengths that cannot be read", "", "drop it (--fix) or annotate it again"),
    "bad-box": FindingKind("bbox is not x, y, width and height", "", "take that of its mask (--fix)"),
    "blank": FindingKind("hardly any contrast", "grey levels", "look whether anything can be seen; remove it"),
    "saturated": FindingKind(
        "many pixels of the nuclei are all white or all black",
        "share of the nuclei's pixels",
        "take the image with less exposure, or remove it",
    ),
    "no-nuclei": FindingKind("no nucleus is annotated", "", "right if none can be seen; otherwise annotate"),
    "covers-image": FindingKind("covers most of the image", "share of the image", "look; remove or redraw it"),
    "pieces": FindingKind("in several pieces", "px outside the largest", "divide it, drop stray pixels (--fix)"),
    "hole": FindingKind("has holes that no other nucleus fills", "px", "fill them (--fix)"),
    "duplicate": FindingKind("annotated twice", "IoU", "keep the larger (--fix)"),
    "overlap": FindingKind(
        "shares pixels with another", "share of the smaller", "the smaller keeps the pixels (--fix)"
    ),
    "speck": FindingKind("too small for a nucleus", "px", "drop it (--fix)", smallest_worst=True),
    "near-duplicate": FindingKind("shows the same as an image of another part", "correlation", "put both in one part"),
}


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes
    ----------
    image : str
        Name of the image; the id that is not listed for an unknown image.
    kind : str
        One of `FINDING_KINDS`.
    annotation : int or None
        Id of the annotation.
    measure : float or None
        In the unit of the kind.
    other : str
        Id of the other annotation, name of the other image, or the reason.
    """

    image: str
    kind: str
    annotation: Any = None
    measure: float | None = None
    other: str = ""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes
    ----------
    data : CocoData
        What was checked.
    findings : list of Finding
        By kind in the order of `FINDING_KINDS`, the worst first.
    """

    data: CocoData
    findings: list[Finding]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind found, in the order of `FINDING_KINDS`."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in FINDING_KINDS if counted[kind]}

    def without(self, kinds: Collection[str]) -> Report:
        """The report without findings of some kinds.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        unknown = set(kinds) - FINDING_KINDS.keys()
        if unknown:
            raise InputError(f"{min(unknown)!r} is no kind of finding; they are {', '.join(FINDING_KINDS)}")
        return Report(self.data, [finding for finding in self.findings if finding.kind not in kinds])


def check(
    dataset: str | os.PathLike[str],
    min_area: int = MIN_AREA,
    workers: int = 1,
    progress: bool = True,
) -> Report:
    """Look for everything in `FINDING_KINDS`.

    Near duplicates are looked for where ``split.csv`` lies beside the annotations, across its parts.

    Parameters
    ----------
    dataset : path
        A data set folder or its JSON file.
    min_area : int
        Pixels; a smaller nucleus is a speck.
    workers : int
        Processes; the result is the same whatever their number.
    progress : bool
        Show a bar on a terminal.

    Raises
    ------
    InputError
        If there is no data set or a record lacks a field.
    """
    data = load_coco(dataset, refuse_faults=False)
    findings = _unknown_images(data)
    images, repeated = distinct_images(data)
    findings += repeated
    tasks = [(data.path.parent / "images", image, data.annotations.get(image["id"], [])) for image in images]
    seen = []
    with closing(in_order(partial(_inspect, min_area), tasks, workers)) as done:
        for image, (of_image, small) in zip(
            images,
            tqdm(done, "check", len(tasks), unit="image", disable=None if progress else True),
            strict=True,
        ):
            findings += of_image
            if small is not None:
                seen.append((image_id(image), small))
    split = data.path.parent / SPLIT_FILE
    if split.is_file():
        findings += _across_parts(seen, {name: row["part"] for name, row in read_split(split).items()})
    order = {kind: place for place, kind in enumerate(FINDING_KINDS)}
    # Sorted stably: of one measure in the order of the data set.
    findings.sort(key=lambda finding: (order[finding.kind], -_badness(finding)))
    return Report(data, findings)


def write_findings(path: str | os.PathLike[str], findings: Sequence[Finding]) -> None:
    """Write findings as CSV: image, kind, annotation, other, measure, unit, remedy."""
    rows = []
    for finding in findings:
        kind = FINDING_KINDS[finding.kind]
        measure = "" if finding.measure is None else f"{finding.measure:.4g}"
        rows.append([finding.image, finding.kind, finding.annotation, finding.other, measure, kind.unit, kind.remedy])
    write_csv(path, ["image", "kind", "annotation", "other", "measure", "unit", "remedy"], rows)


# ---- one image ----


def _inspect(
    min_area: int, task: tuple[Path, dict[str, Any], list[dict[str, Any]]]
) -> tuple[list[Finding], NDArray[np.float32] | None]:
    """Findings of one image, and its thumbnail if the image can be read."""
    folder, record, annotations = task
    name, path = image_id(record), folder / record["file_name"]
    shape = (record["height"], record["width"])
    image, findings = None, []
    if leads_outside_folder(record["file_name"]):
        findings.append(Finding(name, "unreadable-image", other="its name leads outside the folder images"))
    elif not path.is_file():
        findings.append(Finding(name, "missing-image"))
    else:
        try:
            image = read_image(path, path.name)
        except InputError as error:
            findings.append(Finding(name, "unreadable-image", other=str(error)))
    true_shape = shape if image is None else image.shape[:2]
    masks, good, unfit, bad = readable_masks(annotations, true_shape)
    if unfit or true_shape != shape:
        sizes = f"file {true_shape[0]} x {true_shape[1]}, record {shape[0]} x {shape[1]}"
        findings.append(Finding(name, "sizes-differ", measure=len(unfit), other=sizes if image is not None else ""))
    findings += [Finding(name, "bad-mask", item.get("id")) for item in bad]
    findings += [Finding(name, "bad-box", item.get("id")) for item in good if not is_box(item.get("bbox"))]
    if not annotations:
        findings.append(Finding(name, "no-nuclei"))
    covered, of_masks = _of_masks(name, masks, [item.get("id") for item in good], min_area)
    findings += of_masks
    if image is None:
        return findings, None
    return findings + _of_pixels(name, image, covered), thumbnail(image)


def _of_pixels(name: str, image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> list[Finding]:
    findings = []
    low, high, _, _ = cv2.minMaxLoc(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if high - low < BLANK_RANGE:
        findings.append(Finding(name, "blank", measure=high - low))
    elif covered.any():
        pixels = image[covered]
        clipped = float(((pixels == 255).all(axis=1) | (pixels == 0).all(axis=1)).mean())
        if clipped > CLIPPED:
            findings.append(Finding(name, "saturated", measure=clipped))
    return findings


def _of_masks(
    name: str, masks: CropMasks, ids: Sequence[Any], min_area: int
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """All pixels of the masks, and findings that need nothing but the masks."""
    findings = []
    areas = masks.areas
    covered = pixels_of_any(masks)
    for index, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes, masks.bitmaps, strict=True)):
        area = int(areas[index])
        if area < min_area:
            findings.append(Finding(name, "speck", ids[index], area))
        if area > COVER * covered.size:
            findings.append(Finding(name, "covers-image", ids[index], area / covered.size))
        if area == 0:
            continue
        _, sizes = components(bitmap)
        if len(sizes) > 1:
            text = " + ".join(map(str, sorted(sizes.tolist(), reverse=True))) + " px"
            findings.append(Finding(name, "pieces", ids[index], area - int(sizes.max()), text))
        hole = int(np.count_nonzero(open_holes(bitmap, covered[y0:y1, x0:x1])))
        if hole:
            findings.append(Finding(name, "hole", ids[index], hole))
    pairs = overlaps_within(masks)
    for i, j, shared, iou in zip(*(column.tolist() for column in pairs), strict=True):
        if iou > DUPLICATE_IOU:
            findings.append(Finding(name, "duplicate", ids[j], iou, str(ids[i])))
        else:
            findings.append(Finding(name, "overlap", ids[j], shared / int(min(areas[i], areas[j])), str(ids[i])))
    return covered, findings


# ---- the images among each other ----


def _unknown_images(data: CocoData) -> list[Finding]:
    known = {image["id"] for image in data.images}
    return [
        Finding(str(number), "unknown-image", item.get("id"))
        for number, items in data.annotations.items()
        if number not in known
        for item in items
    ]


def distinct_images(data: CocoData) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Images with an id and a name of their own, and a finding for each of the others.

    Raises
    ------
    InputError
        If a record lacks a field.
    """
    ids, names, images, findings = set(), set(), [], []
    for image in data.images:
        lacking = {"id", "file_name", "height", "width"} - image.keys()
        if lacking:
            raise InputError(
                f"{data.path}: image record {image.get('id')} has no {min(lacking)}; make it with maskseg convert"
            )
        if image["id"] in ids or image_id(image) in names:
            findings.append(Finding(image_id(image), "repeated-image", other=f"id {image['id']}"))
            continue
        ids.add(image["id"])
        names.add(image_id(image))
        images.append(image)
    return images, findings


def _across_parts(seen: Sequence[tuple[str, NDArray[np.float32]]], parts: Mapping[str, str]) -> list[Finding]:
    findings = []
    for first, second, similarity in near_duplicates([small for _, small in seen]):
        a, b = seen[first][0], seen[second][0]
        if parts.get(a, "") != parts.get(b, ""):
            findings.append(Finding(a, "near-duplicate", measure=similarity, other=b))
    return findings


def _badness(finding: Finding) -> float:
    sign = -1 if FINDING_KINDS[finding.kind].smallest_worst else 1
    return sign * (finding.measure or 0.0)
