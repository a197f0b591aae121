"""Figures of matplotlib as files."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, file: IO[bytes], **options: Any) -> None:
    """Write a figure, of which every text stays text: names from outside may hold a ``$``, which begins a formula.

    Parameters
    ----------
    figure : Figure
    file : file
    **options
        Of `matplotlib.figure.Figure.savefig`.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # Labels of ticks are made while it is drawn.
    with matplotlib.rc_context({"text.parse_math": False}):
        figure.savefig(file, **options)
