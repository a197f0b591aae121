"""Kaggle's run-length submissions: written, read and checked.

One row a nucleus, `ImageId,EncodedPixels`, with "start length start length ..." counted from 1 down the
columns; an image without nuclei has one row with empty pixels. Masks of one image must not overlap. Ultrasound
nerve segmentation has `img,pixels` and one row an image, empty where there is no nerve.
Everything here works on runs, so memory follows the file and not images x height x width. Sources:
https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation
https://www.kaggle.com/c/ultrasound-nerve-segmentation/overview/evaluation
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.rle import Runs, kaggle_to_runs, runs_to_crop, runs_to_kaggle
from maskseg.core.tables import write_csv
from maskseg.formats.reader import Item, Nuclei, Shape
from maskseg.formats.registry import Format, formats
from maskseg.formats.writer import ImageInfo, Joined, WholeWriter

HEADER = ("ImageId", "EncodedPixels")
# Of submissions with one row an image.
HEADER_ONE_ROW = ("img", "pixels")
_LONGEST_HEADER = 1 << 16
_LONGEST_FIELD = 2**31 - 1  # a mask of a slide is longer than the 128 KiB that csv allows by itself


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a submission; `line` counts from 1, and is None for what the whole file lacks."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass(frozen=True)
class Row:
    """A row of the file whose columns are right."""

    line: int
    image_id: str
    pixels: str
    shape: tuple[int, int] | None  # from the columns Height and Width, where the file has them
    one_row: bool  # no other row may be of this image


def encoded_nuclei(masks: CropMasks) -> list[str]:
    """EncodedPixels of the rows of an image: one a nucleus, or an empty one.

    Where masks overlap, each pixel goes to the mask with the highest score (`CropMasks.to_labels`), since a submission
    with overlaps is refused.
    """
    runs = masks.runs()
    if len(overlapping(runs)):
        runs = CropMasks.from_labels(masks.to_labels()).runs()
    return [runs_to_kaggle(*run) for run in runs if len(run[0])] or [""]


def encoded_union(masks: CropMasks) -> list[str]:
    """The pixels of the one row of an image: all its masks together."""
    return encoded_nuclei(CropMasks.from_labels((masks.to_labels() > 0).astype(np.int32)))


@dataclass(frozen=True)
class Form:
    """A kind of submission.

    Attributes
    ----------
    header : (str, str)
    rows : function
        What stands in the second column of the rows of an image.
    """

    header: tuple[str, str]
    rows: Callable[[CropMasks], list[str]]

    def format(self) -> Format:
        """The format ``rle`` in this form, which a task may have in place of the registered one."""
        return replace(formats()["rle"], writer=partial(SubmissionWriter, self), join=partial(_join, self))


NUCLEI = Form(HEADER, encoded_nuclei)
ONE_ROW = Form(HEADER_ONE_ROW, encoded_union)


def write_submission(
    path: str | os.PathLike[str], images: Iterable[tuple[str, CropMasks]], form: Form = NUCLEI
) -> None:
    """Write a submission, whole or not at all; the images are taken one at a time.

    Parameters
    ----------
    path : path-like
        The CSV file.
    images : iterable of (image_id, CropMasks)
    form : Form
        `NUCLEI`, or `ONE_ROW` for `img,pixels`.

    Raises
    ------
    InputError
        An image comes twice, or the file cannot be written.
    """
    write_rows(path, ((image_id, form.rows(masks)) for image_id, masks in images), form)


def write_rows(path: str | os.PathLike[str], images: Iterable[tuple[str, list[str]]], form: Form = NUCLEI) -> None:
    """`write_submission` of what `Form.rows` made before."""
    seen: set[str] = set()

    def all_rows() -> Iterator[tuple[str, str]]:
        for image_id, rows in images:
            if image_id in seen:
                raise InputError(f"{path}: image {image_id} comes twice; give each image its own name")
            seen.add(image_id)
            yield from ((image_id, row) for row in rows)

    # The competition knows the images by their very names.
    write_csv(path, form.header, all_rows(), exact=True)


class SubmissionWriter(WholeWriter):
    """The rows of an image in a submission of a form."""

    def __init__(self, form: Form, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._form = form

    def write(self, masks: CropMasks) -> list[str]:
        """See `WholeWriter`."""
        return self._form.rows(masks)


def _join(form: Form, paths: Sequence[Path], images: Iterable[Joined]) -> None:
    (path,) = paths
    write_rows(path, ((image.image_id, image.record) for image in images if not image.reason), form)


nuclei_writer = partial(SubmissionWriter, NUCLEI)
join_nuclei = partial(_join, NUCLEI)


# ---- reading ----


def recognises(source: Path) -> bool:
    """Whether a path is a CSV file whose header has the columns of a submission."""
    if source.suffix.lower() != ".csv" or not source.is_file():
        return False
    try:
        with source.open(encoding="utf-8-sig", errors="replace") as file:
            columns = {name.strip().strip('"') for name in file.readline(_LONGEST_HEADER).split(",")}
    except OSError:
        return False
    return set(HEADER) <= columns or set(HEADER_ONE_ROW) <= columns


def read(source: Path) -> Iterator[Item]:
    """The images of a submission, or of a truth in the same form, in the order of the file."""
    for image in read_encoded(source).values():
        yield Item(
            image.image_id,
            partial(_load, str(source), image),
            f"{source}: image {image.image_id}",
            image.shape,
            found=sum(bool(text) for _, text in image.rows),
            needs_shape=True,
        )


def _load(source: str, image: EncodedImage, shape: Shape | None) -> Nuclei:
    try:
        return Nuclei(image.masks(shape))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


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
    """

    image_id: str
    shape: tuple[int, int] | None
    rows: list[tuple[int, str]] = field(default_factory=list)

    def runs(self, shape: tuple[int, int] | None = None) -> list[Runs]:
        """Runs (starts, lengths) of each nucleus, counted from 0 down the columns.

        `shape` is the height and width of the image, needed where the file does not have it. InputError names
        the line that cannot be read.
        """
        shape = self._shape(shape)
        decoded = []
        for line, text in self.rows:
            try:
                runs = kaggle_to_runs(text, shape)
            except InputError as error:
                raise InputError(f"line {line}: image {self.image_id}: {error}") from error
            if len(runs[0]):
                decoded.append(runs)
        return decoded

    def masks(self, shape: tuple[int, int] | None = None) -> CropMasks:
        """Make `CropMasks` of the runs, all with the score 1."""
        shape = self._shape(shape)
        crops = [runs_to_crop(*runs, shape) for runs in self.runs(shape)]
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


def read_encoded(path: str | os.PathLike[str]) -> dict[str, EncodedImage]:
    """Read a submission, or a truth file in the same form, without decoding it.

    Parameters
    ----------
    path : path-like
        CSV with the columns ImageId and EncodedPixels, or img and pixels, and Height and Width or others beside
        them.

    Returns
    -------
    dict
        image_id -> EncodedImage, in the order of the file.

    Raises
    ------
    InputError
        Names the line of the first row whose columns are wrong.
    """
    images: dict[str, EncodedImage] = {}
    for row in rows_of(path):
        if isinstance(row, Fault):
            raise InputError(f"{path}: {row}")
        image = images.setdefault(row.image_id, EncodedImage(row.image_id, row.shape))
        if image.shape != row.shape:
            raise InputError(f"{path}: line {row.line}: image {row.image_id} has another Height or Width than before")
        image.rows.append((row.line, row.pixels))
    return images


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


def overlapping(runs: list[Runs]) -> np.ndarray:
    """Pairs of masks that share pixels, int64 (K, 2); every mask that overlaps another is in one at least.

    A run overlaps an earlier one if it starts before the furthest end so far; after sorting that takes one
    pass.
    """
    if len(runs) < 2:
        return np.zeros((0, 2), np.int64)
    starts = np.concatenate([run[0] for run in runs])
    ends = starts + np.concatenate([run[1] for run in runs])
    owner = np.repeat(np.arange(len(runs)), [len(run[0]) for run in runs])
    order = np.argsort(starts, kind="stable")
    starts, ends, owner = starts[order], ends[order], owner[order]
    furthest = np.maximum.accumulate(ends)
    holder = owner[np.maximum.accumulate(np.where(ends == furthest, np.arange(len(ends)), 0))]
    late = np.flatnonzero(starts[1:] < furthest[:-1]) + 1
    return np.unique(np.sort(np.stack([holder[late - 1], owner[late]], axis=1), axis=1), axis=0)


def rows_of(path: str | os.PathLike[str], exact: bool = False) -> Iterator[Row | Fault]:
    """Rows of the file, or what is wrong with their columns; with `exact`, further columns are wrong."""
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            named = {name: i for i, name in enumerate(header)}
            form = HEADER_ONE_ROW if set(HEADER_ONE_ROW) <= set(named) else HEADER
            wanted = ",".join(form)
            if not set(form) <= set(named):
                other = ",".join(HEADER_ONE_ROW)
                yield Fault(1, f"the header is {','.join(header)[:60]!r} and must be {wanted} or {other}")
                return
            if exact and tuple(header) != form:
                yield Fault(1, f"the header is {','.join(header)[:60]!r} and must be {wanted} alone, in this order")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield Fault(reader.line_num, f"{len(cells)} columns where the header has {len(header)}")
                    continue
                yield _row(reader.line_num, cells, named, form)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text; a submission is a CSV file") from error
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _row(line: int, cells: list[str], named: Mapping[str, int], form: tuple[str, str]) -> Row | Fault:
    shape = None
    if "Height" in named and "Width" in named:
        try:
            shape = (int(float(cells[named["Height"]])), int(float(cells[named["Width"]])))
        except ValueError:
            return Fault(line, "Height and Width are not whole numbers")
    name, pixels = (cells[named[column]].strip() for column in form)
    return Row(line, name, pixels, shape, form == HEADER_ONE_ROW)
