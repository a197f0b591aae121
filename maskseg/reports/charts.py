"""Charts of the pages about data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888")
BINS = 40


def new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    """An empty chart with what its axes mean."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def histogram(values: Mapping[str, NDArray[Any]], x: str, y: str) -> Figure:
    """Stacked histogram on a logarithmic axis, one colour for each name."""
    figure, axes = new_axes(x, y)
    together = np.concatenate(list(values.values())).astype(float)
    high = together.max()
    # What is 0 or less has no place on the axis: it stands at its left end.
    low = max(together.min(), min(0.1, high / 100) if high > 0 else 0.1)
    bins = np.geomspace(low, max(high, low * 1.5) * 1.001, BINS + 1).tolist()
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(values))]
    axes.hist([np.maximum(v, low) for v in values.values()], bins, stacked=True, color=colours, label=list(values))
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.legend(frameon=False, fontsize="small")
    return figure


def plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10 and so on."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
