"""YOLO's segmentation labels: a text file for each image, ``class x y x y ...`` a line, as shares of its sides.

Files that YOLO writes have a score at the end of a line. A line of four numbers is a box, which is no outline. What is
written are outer outlines along the edges of pixels: holes are lost, and each piece of a nucleus is one of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import outlines
from maskseg.formats.drawing import Drawing, flat_ring, number
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.sources import FIRST_BYTES, content, files_of, first_bytes, inner_path
from maskseg.formats.writer import WholeWriter
from maskseg.imaging.reading import ImageFile

# The class and two points.
_FEWEST_WORDS = 5
# Digits of the number of a class, and one more.
_LONGEST_NUMBER = 10
_QUOTES = ("'", '"')
# Beside the labels, with names of classes and of images.
_NO_LABELS = re.compile(r"classes|(train|val|valid|test)\d*|(readme|requirements|notes)\b.*", re.IGNORECASE)
# Written beside the labels where there are several classes.
NAMES = "data.yaml"
# Digits of a share: a hundredth of a pixel of a slide.
_DIGITS = 9


def recognises(source: Path) -> bool:
    """Whether a path is a label file, or a folder or zip file with such files."""
    try:
        files = _label_files(source)
    except InputError:
        return False
    for file in files[:20]:  # those of images without nuclei are empty
        lines = first_bytes(file).splitlines()
        if lines:
            return _is_line(lines[0])
    return bool(files) and bool(files_of(source, ".yaml", ".yml"))


def _is_line(line: bytes) -> bool:
    """Whether a line is a class and the numbers of points."""
    kind, *words = line.split() or [b""]
    # The first bytes of a file may end within a number.
    words = words[:-1] if len(line) == FIRST_BYTES else words
    return kind.isdigit() and len(words) >= _FEWEST_WORDS - 1 and all(map(_is_number, words))


def _is_number(word: bytes) -> bool:
    try:
        return math.isfinite(float(word)) and b"_" not in word
    except ValueError:
        return False


def _label_files(source: Path) -> list[ImageFile]:
    return [file for file in files_of(source, ".txt") if not _NO_LABELS.fullmatch(file.id)]


def read(source: Path) -> Iterator[Item]:
    """The label files of a folder or zip file, or one of them; each is for the image of the same name.

    Classes have the names of ``data.yaml`` or ``classes.txt``, where there is one.

    Raises
    ------
    InputError
        If there are none.
    """
    files = _label_files(source)
    if not files:
        raise InputError(f"{source}: no .txt file there; check the path")
    names = _class_names(source)
    for file in files:
        path = inner_path(file, source)
        # train/labels/a.txt is for train/images/a.jpg; an image of any ending will do.
        parts = ["images" if part == "labels" else part for part in path.parent.parts]
        near = "/".join([*parts, f"{path.stem}.png"])
        yield Item(path.stem, partial(_load, file, names), file.name, file_name=near, needs_shape=True)


def _class_names(source: Path) -> dict[int, str]:
    """Names of the classes: lines ``0: nucleus`` or ``names: [nucleus]`` of a YAML file, or those of classes.txt."""
    where = source if source.is_dir() or source.suffix.lower() == ".zip" else source.parent
    for file in files_of(where, "classes.txt", "data.yaml", "dataset.yaml", ".yaml"):
        text = content(file).decode("utf-8-sig", errors="replace") if first_bytes(file) else ""
        if file.name.lower().endswith(".txt"):
            return {place: line.strip() for place, line in enumerate(text.splitlines()) if line.strip()}
        if names := _names_of_yaml(text):
            return names
    return {}


def _names_of_yaml(text: str) -> dict[int, str]:
    """Names of the classes in a YAML file, found line by line: a file of any length takes time by its length alone."""
    for line in text.splitlines(keepends=True):
        key, colon, _ = line.partition(":")
        if colon and key.rstrip() == "names":
            text = text[text.index(line) + len(key) + 1 :]
            break
    else:
        text = text.partition("names:")[2]
    beginning = text.lstrip()
    inner, closed, _ = beginning[1:].partition("]")
    if beginning.startswith("[") and closed:
        return {place: name.strip(" '\"\n") for place, name in enumerate(inner.split(","))}
    numbered, listed = {}, []
    for line in map(str.strip, text.splitlines()):
        key, _, name = line.partition(":")
        key, name = _bare(key.rstrip()), name.strip()
        if key.isdecimal() and len(key) < _LONGEST_NUMBER and name:
            numbered[int(key)] = _unquoted(name)
        elif line.startswith("-") and (name := _bare(line[1:].strip())):
            listed.append(name)
    return numbered or dict(enumerate(listed))


def _bare(text: str) -> str:
    """A text without one quotation mark at each of its ends."""
    text = text[1:] if text[:1] in _QUOTES else text
    return text[:-1] if text[-1:] in _QUOTES else text


def _unquoted(name: str) -> str:
    """A name as YAML has it, in quotes or not."""
    if name.startswith('"'):
        with suppress(ValueError):  # JSON is YAML, too
            return str(json.loads(name))
    return name.strip("'\"")


def _load(file: ImageFile, names: dict[int, str], shape: Shape | None) -> Nuclei:
    height, width = known_shape(shape, file.name)
    drawing = Drawing(file.name, (height, width))
    for line, text in enumerate(content(file).decode("utf-8-sig", errors="replace").splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        name = (
            names.get(int(words[0]), words[0]) if words[0].isdecimal() and len(words[0]) < _LONGEST_NUMBER else words[0]
        )
        with drawing.annotation(f"line {line}", name[:200]):
            if len(words) == 5:
                raise InputError("a box and no outline; train and export for segmentation")
            if len(words) % 2 == 0:  # a score at the end
                drawing.score(number(words.pop()))
            drawing.polygons([[flat_ring(words[1:], (width, height))]])
    return drawing.nuclei()


class YoloWriter(WholeWriter):
    """A label file of each image."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`; what is lost is in `left_out`."""
        height, width = masks.shape
        lines = []
        for bitmap, box, kind in zip(masks.bitmaps, masks.boxes.tolist(), masks.classes.tolist(), strict=True):
            polygons = outlines(bitmap, (box[0], box[1]))
            for outer, *_ in polygons:
                shares = np.round(outer / np.array([width, height]), _DIGITS)
                lines.append(" ".join([str(kind), *(f"{share:.{_DIGITS}g}" for share in shares.ravel())]))
            if not polygons:
                self.left_out.append("without a pixel")
            self.notes += ["of nuclei with holes the holes are lost"] * any(len(polygon) > 1 for polygon in polygons)
            self.notes += ["each piece of a nucleus in pieces is one of its own"] * (len(polygons) > 1)
        with write_whole(self.path, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        if self.image.classified:
            # The same of every image; what writes last writes no other.
            names = "".join(
                f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
                for number, name in enumerate(self.image.class_names)
            )
            with write_whole(self.path.parent / NAMES, "w", encoding="utf-8") as file:
                file.write(f"names:\n{names}")
