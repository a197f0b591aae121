"""A report as one HTML file: text, tables, figures and galleries, all of it inside, nothing from the network."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

import maskseg
from maskseg.core.figures import save_figure
from maskseg.core.files import write_whole
from maskseg.core.text import printable

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

# Longest sides in pixels, beyond which pictures are shrunk, and the WebP quality: 5 to 10 pictures make a megabyte.
FULL_SIDE = 1200
THUMBNAIL_SIDE = 240
QUALITY = 80
# Of matplotlib figures: twice what a plain screen shows, for dense screens and print.
_DPI = 192
_SCREEN_DPI = 96


class Item(NamedTuple):
    """A picture of a gallery.

    Attributes
    ----------
    thumbnail : uint8 array (h, w, 3) or (h, w), or None
        Shown in the gallery; the full picture made smaller where None.
    full : uint8 array (H, W, 3) or (H, W)
        Shown, with the caption, when the thumbnail is clicked.
    title, caption : str
    """

    thumbnail: NDArray[np.uint8] | None
    full: NDArray[np.uint8]
    title: str
    caption: str = ""


@dataclass(frozen=True)
class _Picture:
    """A picture as a data URI; width and height in pixels of the screen."""

    uri: str
    width: int
    height: int


class _Cell(NamedTuple):
    """What a cell shows, and the number that it is sorted by, if it is one."""

    text: str
    number: float | None


class Page:
    """An HTML page to which blocks are added from top to bottom. Every text is escaped.

    Parameters
    ----------
    title, subtitle : str

    Examples
    --------
    >>> page = Page("Nuclei", "datasets/sample")
    >>> page.section("Sizes")
    >>> page.table(["image", "nuclei"], [["a.png", 12], ["b.png", 7]], caption="Click a heading to sort.")
    >>> page.write("sizes.html")
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[dict[str, Any]] = []

    def section(self, title: str) -> None:
        """Begin a section; sections are linked at the top of the page."""
        self._blocks.append({"kind": "section", "title": title})

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs of plain text."""
        self._blocks.append({"kind": "text", "paragraphs": paragraphs})

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> None:
        """Add a table that a click on a heading sorts.

        Parameters
        ----------
        headers : sequence of str
        rows : iterable of sequences
            Texts and numbers, and None for nothing. Floats get four significant digits. A column of numbers, or of
            texts that are numbers ("0.50", "12 %", "1,024"), stands on the right.
        caption : str

        Raises
        ------
        ValueError
            If a row has not one cell for each heading.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        for row in cells:
            if len(row) != len(headers):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(headers)} columns")
        numeric = [
            any(row[column].text for row in cells)
            and all(row[column].number is not None or not row[column].text for row in cells)
            for column in range(len(headers))
        ]
        self._blocks.append(
            {"kind": "table", "headers": headers, "rows": cells, "numeric": numeric, "caption": caption}
        )

    def figure(self, picture: Figure | NDArray[np.uint8], caption: str = "") -> None:
        """Add a matplotlib figure, or a picture, uint8 (H, W, 3) or (H, W); those that fit stand side by side."""
        shown = _encoded(picture, FULL_SIDE) if isinstance(picture, np.ndarray) else _drawn(picture)
        self._blocks.append({"kind": "figure", "picture": shown, "caption": caption})

    def gallery(self, items: Iterable[Item | tuple[Any, ...]], title: str = "") -> None:
        """Add thumbnails that a click enlarges; arrow keys then go from one to the next, Escape goes back.

        Parameters
        ----------
        items : iterable of `Item`, or of tuples like it
            Taken one by one: a generator need not hold all pictures at once.
        title : str
        """
        shown = []
        for item in items:
            thumbnail, full, name, caption = Item(*item)
            small = _encoded(full if thumbnail is None else thumbnail, THUMBNAIL_SIDE)
            shown.append({"thumbnail": small, "full": _encoded(full, FULL_SIDE), "title": name, "caption": caption})
        self._blocks.append({"kind": "gallery", "items": shown, "title": title})

    def html(self) -> str:
        """The page as text."""
        sections = [block["title"] for block in self._blocks if block["kind"] == "section"]
        return _template().render(
            title=self.title,
            subtitle=self.subtitle,
            blocks=self._blocks,
            sections=sections if len(sections) > 1 else [],
            thumbnail_side=THUMBNAIL_SIDE,
            version=maskseg.__version__,
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        html = self.html()
        with write_whole(path, "w", encoding="utf-8") as file:
            file.write(html)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("maskseg.reports").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_as_text
    )
    return environment.from_string(source)


def _as_text(value: Any) -> Any:
    """What is put into the page: names from elsewhere may hold what no text can, such as halves of characters."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _cell(value: Any) -> _Cell:
    if value is None:
        return _Cell("", None)
    if isinstance(value, bool | np.bool_):
        return _Cell("yes" if value else "no", None)
    if isinstance(value, int | np.integer):
        return _Cell(str(int(value)), float(value))
    if isinstance(value, float | np.floating):
        return _Cell(f"{value:.4g}", float(value)) if np.isfinite(value) else _Cell("", None)
    text = str(value)
    try:
        number = float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return _Cell(text, None)
    return _Cell(text, number if np.isfinite(number) else None)


def _encoded(picture: NDArray[np.uint8], side: int) -> _Picture:
    """A picture as WebP, its longest side at most `side` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=QUALITY)
    return _Picture(_uri(data), *image.size)


def _drawn(figure: Figure) -> _Picture:
    """A matplotlib figure as lossless WebP, which is smaller than PNG."""
    data = io.BytesIO()
    save_figure(figure, data, format="webp", dpi=_DPI, facecolor="white", pil_kwargs={"lossless": True})
    width, height = figure.get_size_inches() * _SCREEN_DPI
    return _Picture(_uri(data), round(width), round(height))


def _uri(data: io.BytesIO) -> str:
    # Markup: base64 has nothing to escape, and looking for it would take a second for every 100 MB.
    return Markup("data:image/webp;base64,") + Markup(base64.b64encode(data.getvalue()).decode("ascii"))
