"""The page of ``maskseg check``: the worst findings of each kind as pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.curate.check import FINDING_KINDS, Finding, Report
from maskseg.curate.mask_faults import readable_masks
from maskseg.data.dataset import image_id
from maskseg.formats.coco_checks import leads_outside_folder
from maskseg.formats.overlay import PREDICTION_COLOUR, TRUTH_COLOUR, overlay
from maskseg.imaging.intensity import stretch
from maskseg.imaging.reading import read_image
from maskseg.reports.page import THUMBNAIL_SIDE, Item, Page

# Pictures of each kind.
WORST = 12
# Rows of the table of images.
_IMAGES = 50
# Pixels around a nucleus, and the least side of its picture.
_MARGIN, _LEAST_SIDE = 12, 48
_LINE = np.ones((5, 5), np.uint8)
# Kinds that concern another nucleus or image.
_OF_TWO = ("duplicate", "overlap", "near-duplicate")


def check_page(report: Report) -> Page:
    """Counts, the worst of each kind with its nuclei outlined, and the images with the most findings."""
    data = report.data
    nuclei = sum(map(len, data.annotations.values()))
    page = Page("Check of a data set", f"{data.path}: {len(data.images)} images, {nuclei} nuclei")
    if not report.findings:
        page.text("Nothing is wrong.")
        return page
    page.section("What was found")
    page.table(
        ["kind", "findings", "images", "what it is", "remedy"],
        [
            [kind, count, len(_images(report, kind)), FINDING_KINDS[kind].description, FINDING_KINDS[kind].remedy]
            for kind, count in report.counts.items()
        ],
    )
    page.section("The worst of each kind")
    page.text(
        "Red is the nucleus at fault, blue its partner or, where it has none, the other nuclei; a click shows the "
        "whole image. Contrast is stretched."
    )
    for kind, count in report.counts.items():
        of_kind = [finding for finding in report.findings if finding.kind == kind]
        # Not all have a picture: a file may be missing.
        items = list(_pictures(report, of_kind[:WORST]))
        if items:
            page.gallery(items, f"{kind}: {'all' if count <= WORST else f'{WORST} of'} {count}")
    page.section("Images with the most findings")
    counts = Counter(finding.image for finding in report.findings)
    kinds = list(report.counts)
    of_image = Counter((finding.image, finding.kind) for finding in report.findings)
    page.table(
        ["image", "findings", *kinds],
        [
            [name, count, *(of_image[name, kind] or None for kind in kinds)]
            for name, count in counts.most_common(_IMAGES)
        ],
    )
    return page


def _images(report: Report, kind: str) -> set[str]:
    return {finding.image for finding in report.findings if finding.kind == kind}


def _pictures(report: Report, findings: list[Finding]) -> Iterator[Item]:
    """Pictures of findings of one kind; nothing for images that cannot be read."""
    records = {image_id(image): image for image in reversed(report.data.images)}
    for finding in findings:
        shown = [finding.image]
        if finding.kind == "near-duplicate":
            shown.append(finding.other)
        for name in shown:
            record = records.get(name)
            if record is None or leads_outside_folder(record["file_name"]):
                continue
            try:
                image = read_image(report.data.path.parent / "images" / record["file_name"])
            except InputError:
                continue
            yield _picture(finding, name, stretch(image), report.data.annotations.get(record["id"], []))


def _picture(finding: Finding, name: str, image: NDArray[np.uint8], annotations: list[dict[str, Any]]) -> Item:
    masks, good, _, _ = readable_masks(annotations, image.shape[:2])
    ids = [str(item.get("id")) for item in good]
    at_fault = np.array([number == str(finding.annotation) for number in ids], bool)
    if not at_fault.any():
        return Item(None, image, name, _caption(finding))
    partner = np.array([number == finding.other for number in ids], bool)
    red, blue = masks[at_fault], masks[partner if partner.any() else ~at_fault]
    boxes = masks.boxes[at_fault | partner]
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(x1 - x0 + 2 * _MARGIN, y1 - y0 + 2 * _MARGIN, _LEAST_SIDE)
    left, top = max(0, (x0 + x1 - side) // 2), max(0, (y0 + y1 - side) // 2)
    place = np.s_[top : top + side, left : left + side]
    layers = [(blue.to_labels()[place], PREDICTION_COLOUR), (red.to_labels()[place], TRUTH_COLOUR)]
    return Item(_outlined(image[place], layers), overlay(image, red, blue), name, _caption(finding))


def _outlined(
    image: NDArray[np.uint8], layers: Sequence[tuple[NDArray[np.int32], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """A small picture with lines of two pixels, which `overlay` made smaller would not have."""
    factor = -(-THUMBNAIL_SIDE // max(image.shape[:2]))
    drawn = image.repeat(factor, axis=0).repeat(factor, axis=1)
    for labels, colour in layers:
        large = labels.astype(np.float32).repeat(factor, axis=0).repeat(factor, axis=1)
        drawn[(large != 0) & ((cv2.erode(large, _LINE) != large) | (cv2.dilate(large, _LINE) != large))] = colour
    return drawn


def _caption(finding: Finding) -> str:
    texts = [finding.kind]
    if finding.annotation is not None:
        texts.append(f"nucleus {finding.annotation}")
    if finding.other:
        texts.append(f"with {finding.other}" if finding.kind in _OF_TWO else finding.other)
    if finding.measure is not None:
        texts.append(f"{finding.measure:.3g} {FINDING_KINDS[finding.kind].unit}")
    return ", ".join(texts)
