import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from maskseg.core.figures import save_figure


# A modality or class from outside; the first is no formula that matplotlib can read, the others are one.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["$\\x{$", "$x^2$", "a $1 $2 b"])
def test_names_in_a_figure_are_text_and_no_formulas(name):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label=name)
    axes.set_title(name)
    axes.set_xticks([0, 1], [name, name])
    axes.legend()
    file = io.BytesIO()
    save_figure(figure, file, format="png", dpi=50)
    assert np.ptp(np.asarray(Image.open(file))) > 0
    # The user's own settings stay.
    assert mpl.rcParams["text.parse_math"]


def test_labels_of_ticks_are_text_too():
    figure = Figure()
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.bar(["$\\x{$"], [3])
    save_figure(figure, io.BytesIO(), format="png")
