"""Reports as one HTML file."""

from __future__ import annotations

import base64
import io
import re
import weakref
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from maskseg.reports.page import FULL_SIDE, THUMBNAIL_SIDE, Item, Page

NASTY = '<script>alert("x")</script> & \'"> </dialog>'


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the cells of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def picture(height: int, width: int) -> np.ndarray:
    """A smooth ramp of colours."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // width, 255 * y // height, np.full_like(x, 90)], axis=2).astype(np.uint8)


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def everything(text: str) -> Page:
    page = Page(text, text)
    for _ in range(2):
        page.section(text)
    page.text(text)
    page.table([text], [[text]], caption=text)
    page.figure(picture(20, 30), text)
    page.gallery([Item(None, picture(20, 30), text, text)], text)
    return page


def test_texts_are_shown_and_never_run():
    plain, nasty = Elements(everything("text").html()), Elements(everything(NASTY).html())
    assert [tag for tag, _ in nasty.found] == [tag for tag, _ in plain.found]
    assert len(nasty.all("script")) == 1
    # Title twice, subtitle, two sections and their links, text, heading, cell, and six about pictures.
    assert nasty.texts.count(NASTY) == plain.texts.count("text") > 10
    assert nasty.all("img")[0]["alt"] == NASTY


def test_the_file_needs_nothing_else(tmp_path):
    everything("text").write(tmp_path / "new" / "page.html")
    html = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    page = Elements(html)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not page.all("link")
    for _, attributes in page.found:
        for name in ("src", "href", "data-full"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "http://" not in html
    assert "https://" not in html
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.slow
def test_a_picture_is_kept_up_to_its_longest_side():
    page = Page("pictures")
    page.figure(picture(60, 100))
    page.figure(picture(FULL_SIDE, 3 * FULL_SIDE))
    small, large = [decoded(image["src"]) for image in Elements(page.html()).all("img") if image.get("src")]
    assert small.shape == (60, 100, 3)
    assert np.abs(small.astype(int) - picture(60, 100)).mean() < 4
    assert large.shape == (FULL_SIDE // 3, FULL_SIDE, 3)


def test_grey_pictures_and_figures_are_drawn():
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot([0, 1])
    page = Page("pictures")
    page.figure(np.full((8, 9), 77, np.uint8))
    page.figure(figure, "a line")
    grey, plot = [image for image in Elements(page.html()).all("img") if image.get("src")]
    assert np.abs(decoded(grey["src"]).astype(int) - 77).max() <= 2
    assert (plot["width"], plot["height"], plot["alt"]) == ("384", "288", "a line")
    assert decoded(plot["src"]).shape == (576, 768, 3)
    assert decoded(plot["src"])[0, 0].tolist() == [255, 255, 255]


def test_a_gallery_has_its_own_thumbnails_or_makes_them():
    page = Page("pictures")
    own = np.zeros((30, 40, 3), np.uint8)
    page.gallery([(own, picture(500, 900), "a", "first"), Item(None, picture(500, 900), "b")])
    elements = Elements(page.html())
    thumbnails = [decoded(image["src"]).shape for image in elements.all("img") if image.get("src")]
    assert thumbnails == [(30, 40, 3), (round(THUMBNAIL_SIDE * 5 / 9), THUMBNAIL_SIDE, 3)]
    full = [decoded(button["data-full"]).shape for button in elements.all("button") if "data-full" in button]
    assert full == [(500, 900, 3)] * 2


def test_a_gallery_takes_pictures_one_by_one():
    alive = []

    def items():
        pictures = []
        for number in range(4):
            full = picture(10, 10)
            pictures.append(weakref.ref(full))
            yield Item(None, full, str(number))
            del full
            alive.append(sum(reference() is not None for reference in pictures))

    page = Page("pictures")
    page.gallery(items())
    assert len(re.findall("data-full=", page.html())) == 4
    assert max(alive) == 1


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        (3, "3", "3.0"),
        (np.int64(3), "3", "3.0"),
        (0.123456, "0.1235", "0.123456"),
        (float("nan"), "", None),
        (None, "", None),
        ("0.50", "0.50", "0.5"),
        ("12 %", "12 %", "12.0"),
        ("1,024", "1,024", "1024.0"),
    ],
)
def test_numbers_stand_on_the_right_and_are_sorted_as_numbers(value, text, number):
    page = Page("table")
    page.table(["n"], [[value], [7]])
    elements = Elements(page.html())
    assert elements.all("th")[0].get("class") == "number"
    first = elements.all("td")[0]
    assert (first["class"], first.get("data-number")) == ("number", number)
    assert f">{text}</td>" in page.html()


@pytest.mark.parametrize("values", [["a", 1], ["nan", "inf"], [True, False], [None, None]])
def test_a_column_that_holds_a_text_is_text(values):
    page = Page("table")
    page.table(["n"], [[value] for value in values])
    assert "class" not in Elements(page.html()).all("th")[0]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells in a table of 2 columns"):
        Page("table").table(["a", "b"], [[1]])


def test_sections_are_linked_when_there_are_several():
    page = Page("sections")
    page.section("one")
    assert not Elements(page.html()).all("nav")
    page.section("two")
    elements = Elements(page.html())
    assert [link["href"] for link in elements.all("a")] == ["#section-1", "#section-2"]
    assert [heading["id"] for heading in elements.all("h2")] == ["section-1", "section-2"]


def test_what_is_no_text_is_shown_as_escapes(tmp_path):
    page = Page("a\ud800b", "\x1b[31mred")
    page.text("two\nlines", "\u202eback")
    page.write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"a\ud800b" in html and r"\x1b[31mred" in html and "two\nlines" in html and r"\u202eback" in html
    assert "\x1b" not in html
