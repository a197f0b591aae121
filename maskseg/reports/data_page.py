"""The page of ``maskseg report data``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.errors import InputError
from maskseg.curate.statistics import (
    FITS,
    Anchors,
    Statistics,
    best_iou,
    collect,
    network_boxes,
    suggest_anchors,
    typical_images,
)
from maskseg.data.dataset import load_record
from maskseg.formats.overlay import overlay
from maskseg.imaging.intensity import stretch
from maskseg.reports.charts import BINS, COLOURS, histogram, new_axes, plain_ticks
from maskseg.reports.page import Item, Page

# Share of the boxes that other anchors must cover more to be worth a change.
_WORTH = 0.01
# Rows of the table of image sizes.
_SIZES = 20


class Setting(NamedTuple):
    """What the network sees: the config's name, its anchors, and the magnification of each image."""

    config: str
    anchors: Anchors
    scales: Sequence[float]


def data_page(name: str, records: Sequence[Mapping[str, Any]], setting: Setting) -> Page:
    """The page about the records of `maskseg.data.dataset.dataset_dicts`.

    Raises
    ------
    InputError
        If there is no record.
    """
    if not records:
        raise InputError(f"{name}: no image to report on; make the data set with maskseg convert")
    statistics = collect(records)
    page = Page(
        "Report on a data set",
        f"{name}: {len(records)} images, {len(statistics.areas)} nuclei, {len(statistics.modalities)} modalities",
    )
    _images(page, statistics)
    if len(statistics.areas):
        _nuclei(page, statistics)
        _anchors(page, statistics, setting)
    page.section("Sample pictures")
    page.text(
        "Of each modality the images with the fewest, a middling number and the most nuclei; true outlines red. "
        "Contrast is stretched."
    )
    for modality in statistics.modalities:
        page.gallery(_samples(records, statistics, modality), modality)
    return page


def _images(page: Page, statistics: Statistics) -> None:
    page.section("Images")
    nuclei = statistics.nuclei
    rows = []
    for modality in statistics.modalities:
        images = statistics.images_of(modality)
        counts, areas = nuclei[images], statistics.areas[statistics.nuclei_of(modality)]
        rows.append(
            [
                modality,
                len(images),
                int(counts.sum()),
                int(counts.min()),
                f"{np.median(counts):g}",
                int(counts.max()),
                f"{np.median(areas):g}" if len(areas) else None,
            ]
        )
    headers = ["modality", "images", "nuclei", "fewest in an image", "median", "most", "median area, px"]
    page.table(headers, rows)
    sizes = Counter((int(width), int(height)) for height, width in statistics.shapes)
    page.table(
        ["width", "height", "images"],
        [[*size, count] for size, count in sizes.most_common(_SIZES)],
        caption=f"Sizes in pixels: {len(sizes)} of them" + (f", the {_SIZES} commonest" if len(sizes) > _SIZES else ""),
    )


def _nuclei(page: Page, statistics: Statistics) -> None:
    page.section("Nuclei")
    extent = statistics.boxes[:, 2:] - statistics.boxes[:, :2]
    of_nuclei = {name: statistics.nuclei_of(name) for name in statistics.modalities}
    of_images = {name: statistics.images_of(name) for name in statistics.modalities}
    counts = statistics.nuclei
    # An image without nuclei stands at the left end of the logarithmic axis.
    page.figure(
        histogram({name: np.maximum(counts[i], 0.9) for name, i in of_images.items()}, "nuclei in an image", "images"),
        "Nuclei per image.",
    )
    page.figure(
        histogram({name: statistics.areas[i] for name, i in of_nuclei.items()}, "area, px", "nuclei"),
        f"Area of a nucleus in pixels of its image; median {np.median(statistics.areas):g}, "
        f"5 % under {np.percentile(statistics.areas, 5):g}, 5 % over {np.percentile(statistics.areas, 95):g}.",
    )
    aspect = extent.max(axis=1) / np.maximum(extent.min(axis=1), 1)
    page.figure(
        histogram({name: aspect[i] for name, i in of_nuclei.items()}, "longer side / shorter side", "nuclei"),
        f"Aspect of the boxes; {100 * (aspect > 2).mean():.1f} % are more than twice as long as wide.",
    )
    side = extent.max(axis=1) / statistics.shapes.max(axis=1)[statistics.image]
    page.figure(
        histogram(
            {name: 100 * side[i] for name, i in of_nuclei.items()},
            "longer side, % of the image's longer side",
            "nuclei",
        ),
        "Size of a nucleus against its image.",
    )


def _anchors(page: Page, statistics: Statistics, setting: Setting) -> None:
    boxes = network_boxes(statistics, setting.scales)
    suggested = suggest_anchors(boxes, setting.anchors)
    now, then = best_iou(boxes, setting.anchors), best_iou(boxes, suggested)
    page.section("Anchors")
    share, possible = (now >= FITS).mean(), (then >= FITS).mean()
    sizes = ", ".join(f"[{size:g}]" for (size,) in suggested.sizes)
    page.text(
        f"Boxes at the input scaling of {setting.config}, each against its best anchor where the network has it, on "
        f"the grid of its level. Those with an IoU of {FITS:g} or more are covered: {100 * share:.1f} % by the "
        f"configured anchors, {100 * possible:.1f} % by the suggested ones.",
        "Suggested is the geometric row of sizes, one a level, with the configured levels and ratios, that covers the "
        "most boxes. "
        + (
            f"In a config: MODEL.ANCHOR_GENERATOR.SIZES [{sizes}]"
            if possible - share >= _WORTH
            else f"It gains less than {100 * _WORTH:g} %: the configured anchors can stay."
        ),
    )
    page.table(
        ["anchors", "sizes by level", "strides", "ratios", f"IoU >= {FITS:g}", "mean best IoU"],
        [
            [name, _row(a.sizes), " ".join(map(str, a.strides)), _row(a.ratios[:1]), _percent(iou), f"{iou.mean():.3f}"]
            for name, a, iou in (("configured", setting.anchors, now), ("suggested", suggested, then))
        ],
    )
    rows = []
    for modality in statistics.modalities:
        chosen = statistics.nuclei_of(modality)
        if chosen.any():
            rows.append([modality, int(chosen.sum()), _percent(now[chosen]), _percent(then[chosen])])
    page.table(["modality", "nuclei", "configured", "suggested"], rows, caption="Share of boxes that are covered.")
    page.figure(
        _shapes(boxes, setting.anchors, suggested),
        "Boxes in network pixels (darker: more) with the anchors' shapes.",
    )
    figure, axes = new_axes("IoU with the best anchor", "nuclei")
    bins = np.linspace(0, 1, BINS + 1).tolist()
    axes.hist(now, bins, histtype="step", color=COLOURS[1], label="configured", linewidth=1.6)
    axes.hist(then, bins, histtype="step", color=COLOURS[0], label="suggested", linewidth=1.6)
    axes.axvline(FITS, color="#888888", linewidth=0.8)
    axes.legend(frameon=False, loc="upper left")
    page.figure(figure, f"How well the best anchor fits; the line is at {FITS:g}.")


def _samples(records: Sequence[Mapping[str, Any]], statistics: Statistics, modality: str) -> Iterator[Item]:
    for index in tqdm(
        typical_images(statistics, modality), f"draw {modality}", unit="image", leave=False, disable=None
    ):
        image, labels = load_record(records[index])
        height, width = labels.shape
        caption = f"{width} x {height}, {statistics.nuclei[index]} nuclei"
        yield Item(None, overlay(stretch(image), labels), statistics.names[index], caption)


# ---- figures ----


def _shapes(boxes: NDArray[np.float64], anchors: Anchors, suggested: Anchors) -> Figure:
    figure, axes = new_axes("width, network px", "height, network px")
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.5).T
    bins = np.geomspace(min(width.min(), height.min()), max(width.max(), height.max(), 2) * 1.001, 60)
    axes.hist2d(width, height, bins=[bins, bins], cmap="Greys", norm="log")
    for kind, name, colour, marker in ((anchors, "configured", 1, "o"), (suggested, "suggested", 0, "x")):
        sizes = [(size, ratio) for s, r in zip(kind.sizes, kind.ratios, strict=True) for size in s for ratio in r]
        size, ratio = np.array(sizes).T
        drawn = COLOURS[colour]
        plain: Any = {"o": {"facecolors": "none", "edgecolors": drawn}, "x": {"color": drawn}}[marker]
        axes.scatter(size / np.sqrt(ratio), size * np.sqrt(ratio), marker=marker, s=34, label=name, **plain)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        plain_ticks(axis)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def _row(levels: Sequence[Sequence[float]]) -> str:
    return " ".join(",".join(f"{size:g}" for size in level) for level in levels)


def _percent(iou: NDArray[np.float64]) -> str:
    return f"{100 * (iou >= FITS).mean():.1f} %"
