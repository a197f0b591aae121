"""The figures of the report about a prediction run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from maskseg.evaluation.dsb import THRESHOLDS
from maskseg.evaluation.error_types import ErrorType
from maskseg.formats.overlay import PREDICTION_COLOUR, TRUTH_COLOUR

# Which errors are outlined in the pictures, on which side, in which colour: told apart on black and on stained tissue.
MARKS: dict[ErrorType, tuple[str, tuple[int, int, int]]] = {
    ErrorType.inexact: ("truth", (255, 150, 0)),
    ErrorType.split: ("truth", (0, 255, 255)),
    ErrorType.merged: ("truth", (0, 220, 0)),
    ErrorType.missed: ("truth", (255, 235, 0)),
    ErrorType.extra: ("pred", (255, 0, 255)),
}
_RIGHT = (0.75, 0.75, 0.75)
_SIZE = (5.6, 3.6)
_LEAST = 5  # detections in a bin, below which their share says nothing


def legend() -> Figure:
    """The colours of the outlines."""
    colours = {"true": TRUTH_COLOUR, "predicted": PREDICTION_COLOUR}
    colours |= {kind.name: colour for kind, (_, colour) in MARKS.items()}
    figure = Figure(figsize=(9, 0.4))
    patches = [Patch(color=_unit(colour), label=name) for name, colour in colours.items()]
    both = Patch(facecolor=_unit(PREDICTION_COLOUR), edgecolor=_unit(TRUTH_COLOUR), hatch="////", label="both")
    patches.insert(2, both)
    figure.legend(handles=patches, loc="center", ncols=len(patches), frameon=False, fontsize=9, handlelength=1.2)
    return figure


def precision_curves(curves: Sequence[tuple[str, NDArray[np.float64]]]) -> Figure:
    """Precision TP / (TP + FP + FN) at each IoU threshold: (name, float (10,)) for each run."""
    figure, axis = _axes("IoU", "TP / (TP + FP + FN)")
    thresholds = np.array(THRESHOLDS) / 100
    for name, values in curves:
        axis.plot(thresholds, values, "o-", markersize=4, label=f"{name}: mean {values.mean():.3f}")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    return figure


def score_histogram(scores: Mapping[str, Sequence[float]]) -> Figure:
    """Images by score, stacked by modality."""
    figure, axis = _axes("mean IoU (DSB score)", "images")
    axis.hist(list(scores.values()), bins=np.linspace(0, 1, 21).tolist(), stacked=True, label=list(scores))
    axis.legend(frameon=False, fontsize=9)
    return figure


def kinds_by_size(counts: Mapping[str, NDArray[np.int64]], sizes: Sequence[str], shown: Sequence[ErrorType]) -> Figure:
    """A bar for each size and IoU: shares of the true nuclei by kind, and extra ones above the line of 100 %.

    Parameters
    ----------
    counts : mapping of IoU to int array (sizes, 6)
        Nuclei by size and kind; extra ones in the last column.
    sizes : sequence of str
    shown : sequence of ErrorType
        Of the true nuclei, from the bottom.
    """
    figure, axis = _axes("", "% of the true nuclei")
    at: list[float] = []
    names: list[str] = []
    for column, (iou, table) in enumerate(counts.items()):
        place = np.arange(len(sizes)) + column * (len(sizes) + 0.6)
        share = 100 * table / np.maximum(table[:, : ErrorType.extra].sum(axis=1, keepdims=True), 1)
        bottom = np.zeros(len(sizes))
        for kind in (*shown, ErrorType.extra):
            colour = _RIGHT if kind is ErrorType.right else _unit(MARKS[kind][1])
            axis.bar(place, share[:, kind], 0.8, bottom, color=colour, label=kind.name if column == 0 else None)
            bottom += share[:, kind]
        at.extend(place)
        names.extend(f"{size}\nIoU {iou}" for size in sizes)
    axis.axhline(100, color="black", linewidth=0.8)
    axis.set_xticks(at, names, fontsize=8)
    figure.legend(loc="outside upper center", ncols=len(shown) + 1, frameon=False, fontsize=8, handlelength=1)
    return figure


def calibration(scores: NDArray[np.float32], right: Mapping[int, NDArray[np.bool_]]) -> Figure:
    """Share of right detections by their score, and how many there are.

    Parameters
    ----------
    scores : float array (M,)
    right : mapping of IoU in percent to bool array (M,)
    """
    figure, axis = _axes("score of the detection", "share that is right")
    low = np.floor(20 * scores.min()) / 20
    edges = np.linspace(low, 1, 1 + max(round((1 - low) / 0.05), 5))
    which = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(which, minlength=len(edges) - 1)
    enough = count >= _LEAST
    mean = np.bincount(which, scores, len(count)) / np.maximum(count, 1)
    for percent, hit in right.items():
        share = np.bincount(which, hit, len(count)) / np.maximum(count, 1)
        error = np.abs(share - mean) @ count / count.sum()
        axis.plot(mean[enough], share[enough], "o-", label=f"IoU {percent / 100}: off by {error:.3f} in the mean")
    axis.plot([low, 1], [low, 1], color="0.5", linewidth=1)
    axis.set_ylim(0, 1.02)
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    number = axis.twinx()
    number.bar(edges[:-1], count, np.diff(edges), align="edge", color="0.85", zorder=0)
    number.set_ylim(0, 3 * count.max())
    number.set_ylabel("detections", fontsize=9)
    axis.set_zorder(number.get_zorder() + 1)
    axis.patch.set_visible(False)
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
