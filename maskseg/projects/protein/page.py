"""The page of ``maskseg report data`` about a data set of protein localisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.intensity import stretch
from maskseg.projects.protein.data import CHANNELS, CLASSES, class_table, read_channels
from maskseg.reports.charts import COLOURS, new_axes
from maskseg.reports.page import Item, Page

# Pictures of a class, rows of the table of pairs.
_PICTURES, _PAIRS = 4, 20
# Red, green and blue of what each channel is painted in: the endoplasmic reticulum is yellow.
_PAINTS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


def protein_page(name: str, records: Sequence[Mapping[str, Any]], targets: Mapping[str, Sequence[int]]) -> Page:
    """The page about a data set.

    Parameters
    ----------
    name : str
    records : of `maskseg.projects.protein.data.protein_dicts`
        The images at hand.
    targets : mapping of image id to class numbers
        All rows of the table, of `read_targets`; the images need not be there.

    Raises
    ------
    InputError
        If there is no record.
    """
    if not records:
        raise InputError(f"{name}: no image to report on; choose another part")
    labels, here = class_table(targets.values()), class_table([record["labels"] for record in records])
    page = Page(
        "Report on a data set",
        f"{name}: {len(records)} images of {len(targets)} in the table, "
        f"{int(labels.any(axis=0).sum())} of {len(CLASSES)} classes",
    )
    _images(page, records)
    _classes(page, labels, here)
    _pairs(page, labels)
    page.section("Sample pictures")
    page.text(
        "Of each class images at hand, those with the fewest other classes first; each channel in its colour, the "
        "contrast of each stretched. Classes without an image at hand have no picture."
    )
    for number in np.argsort(-here.sum(axis=0), kind="stable"):
        if here[:, number].any():
            page.gallery(_samples(records, here, int(number)), f"{number} {CLASSES[number]}")
    return page


def _images(page: Page, records: Sequence[Mapping[str, Any]]) -> None:
    page.section("Images")
    channels = Counter(channel for record in records for channel in record["files"])
    page.table(["channel", "images"], [[name, channels[name]] for name in CHANNELS], caption="Images with a channel.")
    sizes = Counter(next(iter(record["files"].values())).size() for record in records)
    page.table(
        ["width", "height", "images"],
        [[width, height, count] for (height, width), count in sizes.most_common()],
        caption="Sizes in pixels, of the first channel of each image.",
    )


def _classes(page: Page, labels: NDArray[np.bool_], here: NDArray[np.bool_]) -> None:
    page.section("Classes")
    counts, alone = labels.sum(axis=0), (labels & (labels.sum(axis=1) == 1)[:, None]).sum(axis=0)
    page.table(
        ["number", "class", "images in the table", "share", "without another class", "at hand"],
        [
            [number, CLASSES[number], count, f"{100 * count / len(labels):.2f} %", alone[number], here[:, number].sum()]
            for number, count in enumerate(counts)
        ],
    )
    order = np.argsort(counts, kind="stable")
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.barh([CLASSES[number] for number in order], np.maximum(counts[order], 0.5), color=COLOURS[0])
    axes.set(xscale="log", xlabel="images in the table")
    axes.spines[["top", "right"]].set_visible(False)
    rarest = min(counts[counts > 0])
    page.figure(figure, f"The commonest class has {counts.max() / rarest:.0f} times the images of the rarest.")
    figure, axes = new_axes("classes of an image", "images in the table")
    several = np.bincount(labels.sum(axis=1))
    axes.bar(np.arange(1, len(several)), several[1:], color=COLOURS[0])
    axes.set_xticks(np.arange(1, len(several)))
    page.figure(figure, f"Classes of an image; {labels.sum() / len(labels):.2f} in the mean.")


def _pairs(page: Page, labels: NDArray[np.bool_]) -> None:
    page.section("Classes together")
    numbers = labels.astype(np.int64)
    together = numbers.T @ numbers
    counts = np.diag(together)
    shown = np.flatnonzero(counts)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    share = together[np.ix_(shown, shown)] / counts[shown][:, None]
    picture = axes.imshow(np.where(np.eye(len(shown), dtype=bool), np.nan, 100 * share), cmap="viridis")
    names = [f"{CLASSES[number]} {number}" for number in shown]
    axes.set_yticks(range(len(shown)), names, fontsize="x-small")
    axes.set_xticks(range(len(shown)), [str(number) for number in shown], fontsize="x-small")
    figure.colorbar(picture, label="% of the images of the row's class", shrink=0.7)
    page.figure(figure, "How many images of a class (row) have another one too (column).")
    pairs = [(int(together[a, b]), a, b) for a, b in combinations(shown.tolist(), 2) if together[a, b]]
    page.table(
        ["class", "and", "images", "times as many as by chance"],
        [
            [f"{a} {CLASSES[a]}", f"{b} {CLASSES[b]}", count, count * len(labels) / float(counts[a] * counts[b])]
            for count, a, b in sorted(pairs, key=lambda pair: -pair[0])[:_PAIRS]
        ],
        caption=f"The commonest of {len(pairs)} pairs that occur. By chance: if classes came without regard to others.",
    )


def _samples(records: Sequence[Mapping[str, Any]], here: NDArray[np.bool_], number: int) -> Iterator[Item]:
    order = np.argsort(here.sum(axis=1), kind="stable")
    for index in [place for place in order if here[place, number]][:_PICTURES]:
        record = records[index]
        yield Item(
            None,
            painted(record["image_id"], record["files"]),
            record["image_id"],
            ", ".join(CLASSES[label] for label in record["labels"]),
        )


def painted(image_id: str, files: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The channels of an image, each stretched and in its colour, uint8 (H, W, 3); one alone is grey.

    Raises
    ------
    InputError
        If a channel is damaged or of another size.
    """
    names = [name for name in CHANNELS if name in files]
    if not names:
        raise InputError(
            f"{next(iter(files.values())).name}: its name ends in no channel ({', '.join(CHANNELS)}); rename it"
        )
    planes = read_channels(image_id, files, names)
    stretched = [stretch(np.repeat(planes[:, :, k : k + 1], 3, axis=2)) for k in range(len(names))]
    if len(names) == 1:
        return stretched[0]
    paints = np.array([_PAINTS[name] for name in names], np.float32)
    grey = np.stack([plane[:, :, 0] for plane in stretched], axis=2).astype(np.float32)
    return np.clip(grey @ paints, 0, 255).astype(np.uint8)


def is_protein_set(folder: Path) -> bool:
    """Whether a folder has the layout of the competition: a table of classes beside the images."""
    return (folder / "train.csv").is_file() and (folder / "train").is_dir()
