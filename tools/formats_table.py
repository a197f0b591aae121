#!/usr/bin/env python
"""Write docs/formats.md, the table of every format, from the registry: ``python tools/formats_table.py``."""

from pathlib import Path

from maskseg.formats.registry import Format, formats

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
_HEAD = """# Formats

Made by `tools/formats_table.py` from the registry of formats; `maskseg predict --formats`, `maskseg export --to` and
`maskseg convert` take the names of the first column. `maskseg convert auto SRC` looks which one a source has, and says
so. What is read may be a folder, a zip file of one or, where all is in one file, that file; `--images` says where the
images are, in a folder or a zip file.

| format | what it is | read | written | what is lost |
|---|---|---|---|---|
"""
_FOOT = """
Pixels are exact where the table says nothing else: what is written is read back pixel by pixel. Outlines have pixel
(0, 0) cover the square from (0, 0) to (1, 1), and a pixel belongs to an outline in which its centre lies (Aperio's are
counted from 1; see `--offset` of `maskseg convert xml`). labelme's own export draws the line of an outline, too, so its
masks are larger by up to a pixel all around.

Of QuPath's objects annotations, detections and the nuclei of cells are read, as every version from 0.2 on writes them;
cores of tissue arrays, tiles, and annotations around other objects are no nuclei. labelme's image within the file is
taken where no file of it is found. A label image is never the image of its own labels: where it lies alone, `--images`
says where the images are.

Nothing in a file is run: Cellpose's `_seg.npy` is a pickle of which only plain arrays, numbers, text and lists are
made, MATLAB files are read for their arrays of numbers alone, and sizes that a file claims are checked before memory is
taken.

What comes in is looked at, and what was done is said in a `note:` line. Masks of 0 and 255, of one bit, of classes or
of interior and border are taken apart into connected pieces (nuclei that touch are one then); colours are taken for
labels; a photograph in place of a label image is refused; run lengths with `iscrowd` 1 throughout are masks, not
crowds; rows of Usage `Ignored` do not count. An image of which no annotation can be used is left out: as background it
would teach the network wrong things.

Classes (QuPath's classifications, categories, labels, layers, groups) are kept by their names, whatever type of JSON
they have; `--class-names A,B` names those that have numbers alone, `--merge-classes NEW=OLD,OLD` takes some for one,
and `--merge-classes all` all. Nuclei without a class are of the class nucleus where no nucleus has another, and else
`unclassified`. What `predict` and `export` write of several classes: GeoJSON has QuPath's classification with
its colour, ImageJ a group and the property `class`, labelme a label, Aperio a layer, COCO and YOLO a category,
`nuclei.csv` a column, SVG and overlays a colour (the overlay with a legend). Of one class nothing but its name is
written.

An annotation called "reviewed", by its name or its class, is no nucleus: it lies around what a person has looked at.
`maskseg convert FORMAT --reviewed` takes only what lies in such annotations (an image without one is left out), and the
rest of the image counts neither as nucleus nor as background, in training and in scores
([the loop](train.md#correct-and-retrain)). For labelme, the flag `reviewed` of a file stands for all of its image.
"""


def page() -> str:
    """The text of the page."""
    return _HEAD + "".join(map(_row, formats().values())) + _FOOT


def _row(item: Format) -> str:
    names = item.exported or item.files
    written = ", ".join(f"`{name.replace('{id}', 'STEM')}`" for name in names) if item.writer is not None else "-"
    layout = item.layout if item.reader is not None else "-"
    return f"| `{item.name}` | {item.about} | {layout} | {written} | {item.lost or 'nothing'} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
