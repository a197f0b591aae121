"""Run-length tables of Kaggle's competitions to nuclei: submissions, training labels and solutions.

==========================================  =========================================================================
ImageId, EncodedPixels                      DSB 2018: down the columns. A solution has Height, Width and Usage, too:
                                            rows that are ``Ignored`` there do not count, nor do their images.
img, pixels                                 ultrasound nerves: one row an image
id, annotation (or predicted)               Sartorius 2021: along the rows; width, height and cell_type beside them
==========================================  =========================================================================

Columns may be divided by semicolons or tabs, as spreadsheets save them.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.rle import Runs, crop_to_runs, kaggle_to_runs, runs_to_crop
from maskseg.formats.costs import Costs
from maskseg.formats.drawing import Drawing, take_runs
from maskseg.formats.kaggle import HEADER, HEADER_ONE_ROW
from maskseg.formats.reader import Item, Note, Nuclei, Shape, known_shape
from maskseg.formats.sources import FIRST_BYTES, content, files_of, first_bytes, stated_shape
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, member_path

# Along the rows.
_BY_ROWS = (("id", "annotation"), ("id", "predicted"))
_FORMS = (HEADER, HEADER_ONE_ROW, *_BY_ROWS)
# What some competitions write where there is nothing.
_NOTHING = ("", "-1", "nan")
_CLASS = "cell_type"
_LONGEST_FIELD = 2**31 - 1  # a mask of a slide is longer than the 128 KiB that csv allows by itself
_DIVIDERS = ",;\t"


@dataclass(frozen=True)
class SubmissionFault:
    """One thing wrong with a submission; `line` counts from 1, and is None for what the whole file lacks."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass(frozen=True)
class SubmissionRow:
    """A row of the file whose columns are right."""

    line: int
    image_id: str
    pixels: str
    shape: tuple[int, int] | None  # from the columns Height and Width, where the file has them
    one_row: bool  # no other row may be of this image
    by_rows: bool = False  # runs go along the rows
    name: str = ""  # of the class
    ignored: bool = False  # Usage says that it does not count


def recognises(source: Path) -> bool:
    """Whether a path is a CSV file whose header has the columns of a submission, or a zip file or folder of one."""
    try:
        return _table(source) is not None
    except (InputError, OSError):
        return False


def _table(source: Path) -> ImageFile | None:
    """The table of a source; of a folder the only one in it, if it has no data set or predictions besides."""
    files = files_of(source, ".csv")
    if source.is_dir():
        files = [file for file in files if file.path.parent == source]
        if any(source.glob("*.json")):
            return None
    files = [file for file in files if _form(_header(first_bytes(file)))]
    return files[0] if len(files) == 1 else None


def _header(start: bytes) -> list[str]:
    """Names of the columns, from the first bytes of a file."""
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    line = text.splitlines()[0] if text else ""
    return [name.strip() for name in next(csv.reader([line], delimiter=_divider(line)), [])]


def _divider(line: str) -> str:
    return max(_DIVIDERS, key=line.count)


def _form(header: list[str]) -> tuple[str, str] | None:
    return next((form for form in _FORMS if set(form) <= set(header)), None)


def read(source: Path) -> Iterator[Item | Note]:
    """The images of a submission, of labels or of a solution, in the order of the file.

    Raises
    ------
    InputError
        If it is no such file.
    """
    file = _table(source) or ImageFile(source.stem, source)
    images, ignored = _encoded(file)
    if ignored:
        text = f"{len(ignored)} rows of Usage Ignored passed over: they do not count, nor do images without others"
        yield Note(text, frozenset(ignored) - images.keys())
    for image in images.values():
        path = member_path(image.image_id)
        yield Item(
            path.stem if path.suffix.lower() in SUFFIXES else image.image_id,
            partial(_load, file.name, image),
            f"{file.name}: image {image.image_id}",
            image.shape,
            file_name=image.image_id if path.suffix.lower() in SUFFIXES else "",
            annotation_count=sum(bool(text) for _, text in image.rows),
            needs_shape=True,
        )


def _load(where: str, image: EncodedImage, shape: Shape | None) -> Nuclei:
    if image.shape and shape and image.shape != tuple(shape):
        image.masks(shape)  # says so
    drawing = Drawing(where, known_shape(shape or image.shape, f"{where}: image {image.image_id}"))
    for (line, text), name in zip(image.rows, image.names or [""] * len(image.rows), strict=True):
        if text:
            with drawing.annotation(f"line {line}", name):
                if image.by_rows:
                    drawing.runs_along_rows(*kaggle_to_runs(text, drawing.shape[::-1]))
                else:
                    drawing.runs(*kaggle_to_runs(text, drawing.shape))
    return drawing.nuclei()


@dataclass
class EncodedImage:
    """The rows of one image in a run-length file, not yet decoded.

    Attributes
    ----------
    image_id : str
    shape : (height, width) or None
        From the columns Height and Width, where the file has them.
    rows : list of (line, text)
        Line of the file, from 1, and EncodedPixels.
    by_rows : bool
        Runs go along the rows, not down the columns.
    names : list of str
        Class of each row; empty where the file has none.
    """

    image_id: str
    shape: tuple[int, int] | None
    rows: list[tuple[int, str]] = field(default_factory=list)
    by_rows: bool = False
    names: list[str] = field(default_factory=list)

    def runs(self, shape: tuple[int, int] | None = None) -> list[Runs]:
        """Runs (starts, lengths) of each nucleus, counted from 0 down the columns.

        `shape` is the height and width of the image, needed where the file does not have it. InputError names
        the line that cannot be read.
        """
        shape = self._shape(shape)
        decoded, costs = [], Costs(shape)
        for line, text in self.rows:
            try:
                runs = _runs(text, shape, self.by_rows, costs)
            except InputError as error:
                raise InputError(f"line {line}: image {self.image_id}: {error}") from error
            if len(runs[0]):
                decoded.append(runs)
        return decoded

    def masks(self, shape: tuple[int, int] | None = None) -> CropMasks:
        """Make `CropMasks` of the runs, all with the score 1."""
        shape = self._shape(shape)
        decoded, costs = self.runs(shape), Costs(shape)
        for runs in decoded:
            take_runs(costs, runs, shape)
        crops = [runs_to_crop(*runs, shape) for runs in decoded]
        boxes = np.array([box for box, _ in crops], np.int32).reshape(-1, 4)
        return CropMasks(shape, boxes, [bitmap for _, bitmap in crops])

    def _shape(self, given: tuple[int, int] | None) -> tuple[int, int]:
        where = f"line {self.rows[0][0]}: image {self.image_id}"
        if self.shape and given and self.shape != tuple(given):
            raise InputError(
                f"{where}: Height and Width say {self.shape[0]} x {self.shape[1]} pixels, but the image has "
                f"{given[0]} x {given[1]}"
            )
        shape = self.shape or given
        if shape is None:
            raise InputError(
                f"{where}: its size is not known; give the folder of the images (--images) or the columns "
                "Height and Width"
            )
        return shape


def _runs(text: str, shape: Shape, by_rows: bool, costs: Costs) -> Runs:
    if not by_rows:
        return kaggle_to_runs(text, shape)
    turned = shape[1], shape[0]
    runs = kaggle_to_runs(text, turned)
    take_runs(costs, runs, turned)
    (x0, y0, x1, y1), bitmap = runs_to_crop(*runs, turned)
    return crop_to_runs(bitmap.T, (y0, x0, y1, x1), shape)


def read_encoded(path: str | os.PathLike[str]) -> dict[str, EncodedImage]:
    """Read a submission, or a truth file in the same form, without decoding it.

    Parameters
    ----------
    path : path-like
        CSV with the columns ImageId and EncodedPixels, or the others of this module; see there.

    Returns
    -------
    dict
        image_id -> EncodedImage, in the order of the file.

    Raises
    ------
    InputError
        Names the line of the first row whose columns are wrong.
    """
    return _encoded(ImageFile(Path(path).stem, Path(path)))[0]


def _encoded(file: ImageFile) -> tuple[dict[str, EncodedImage], list[str]]:
    """Images that count, and the images of rows that do not."""
    images: dict[str, EncodedImage] = {}
    ignored: list[str] = []
    for row in _rows(file, False):
        if isinstance(row, SubmissionFault):
            raise InputError(f"{file.name}: {row}")
        if row.ignored:
            ignored.append(row.image_id)
            continue
        image = images.setdefault(row.image_id, EncodedImage(row.image_id, row.shape, by_rows=row.by_rows))
        if image.shape != row.shape:
            raise InputError(
                f"{file.name}: line {row.line}: image {row.image_id} has another Height or Width than before"
            )
        image.rows.append((row.line, row.pixels))
        if row.name or image.names:
            image.names += [""] * (len(image.rows) - 1 - len(image.names)) + [row.name]
    return images, ignored


def read_submission(
    path: str | os.PathLike[str], sizes: Mapping[str, tuple[int, int]] | None = None
) -> dict[str, list[Runs]]:
    """Read the runs of every nucleus.

    Parameters
    ----------
    path : path-like
        As for `read_encoded`.
    sizes : mapping of image_id to (height, width), optional
        Needed where the file has no columns Height and Width.

    Returns
    -------
    dict
        image_id -> list of (starts, lengths), in the order of the file; an empty list for an image without
        nuclei.

    Raises
    ------
    InputError
        Names the line of the first row that cannot be read.
    """
    images = read_encoded(path)
    try:
        return {name: image.runs((sizes or {}).get(name)) for name, image in images.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def rows_of(path: str | os.PathLike[str], exact: bool = False) -> Iterator[SubmissionRow | SubmissionFault]:
    """Rows of the file, or what is wrong with their columns; with `exact`, other columns than Kaggle's are wrong."""
    return _rows(ImageFile(Path(path).stem, Path(path)), exact)


def _rows(source: ImageFile, exact: bool) -> Iterator[SubmissionRow | SubmissionFault]:
    csv.field_size_limit(_LONGEST_FIELD)
    line = 1
    try:
        with _opened(source) as file:
            start = file.readline(FIRST_BYTES)
            file.seek(0)
            reader = csv.reader(file, delimiter=_divider(start))
            header = [name.strip() for name in next(reader, [])]
            form = _form(header)
            if form is None or (exact and form in _BY_ROWS):
                yield _no_form(header, _divider(start) if exact else ",")
                return
            if exact and (tuple(header) != form or _divider(start) != ","):
                yield _no_form(header, _divider(start), ",".join(form))
            named = {name.lower(): i for i, name in enumerate(header)}
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield SubmissionFault(line, f"{len(cells)} columns where the header has {len(header)}")
                    continue
                yield _row(line, cells, named, form, exact)
    except UnicodeError as error:
        raise InputError(f"{source.name}: is not text; a submission is a CSV file") from error
    except csv.Error as error:
        raise InputError(f"{source.name}: line {line}: {error}; save it again") from error
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read ({error.strerror or error})") from error


def _no_form(header: list[str], divider: str, alone: str = "") -> SubmissionFault:
    must = f"{alone} alone, in this order" if alone else f"{','.join(HEADER)} or {','.join(HEADER_ONE_ROW)}"
    divided = "" if divider == "," else f", divided by commas and not by {divider!r}"
    return SubmissionFault(1, f"the header is {','.join(header)[:60]!r} and must be {must}{divided}")


def _opened(file: ImageFile) -> IO[str]:
    start = first_bytes(file)[:2]
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if file.member:
        return io.TextIOWrapper(io.BytesIO(content(file)), encoding, newline="")
    return file.path.open(newline="", encoding=encoding)


def _row(
    line: int, cells: list[str], named: Mapping[str, int], form: tuple[str, str], exact: bool
) -> SubmissionRow | SubmissionFault:
    shape = None
    if "height" in named and "width" in named:
        shape = stated_shape(cells[named["height"]], cells[named["width"]])
        if shape is None:
            return SubmissionFault(line, "Height and Width are not whole numbers of pixels")
    name, pixels = (cells[named[column.lower()]].strip() for column in form)
    if not exact and pixels.lower() in _NOTHING:
        pixels = ""
    kind = cells[named[_CLASS]].strip() if _CLASS in named else ""
    ignored = "usage" in named and cells[named["usage"]].strip().lower() == "ignored"
    return SubmissionRow(line, name, pixels, shape, form == HEADER_ONE_ROW, form in _BY_ROWS, kind, ignored)
