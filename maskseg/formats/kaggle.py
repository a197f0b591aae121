"""Kaggle's run-length submissions: written, read and checked.

One row a nucleus, `ImageId,EncodedPixels`, with "start length start length ..." counted from 1 down the
columns; an image without nuclei has one row with empty pixels. Masks of one image must not overlap. Ultrasound
nerve segmentation has `img,pixels` and one row an image, empty where there is no nerve.
Everything here works on runs, so memory follows the file and not images x height x width. Sources:
https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation
https://www.kaggle.com/c/ultrasound-nerve-segmentation/overview/evaluation
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.rle import Runs, runs_to_kaggle
from maskseg.core.tables import write_csv
from maskseg.formats.registry import Format, formats
from maskseg.formats.writer import ImageInfo, Joined, WholeWriter

HEADER = ("ImageId", "EncodedPixels")
# Of submissions with one row an image.
HEADER_ONE_ROW = ("img", "pixels")


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
class SubmissionForm:
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


NUCLEI = SubmissionForm(HEADER, encoded_nuclei)
ONE_ROW = SubmissionForm(HEADER_ONE_ROW, encoded_union)


def write_submission(
    path: str | os.PathLike[str], images: Iterable[tuple[str, CropMasks]], form: SubmissionForm = NUCLEI
) -> None:
    """Write a submission, whole or not at all; the images are taken one at a time.

    Parameters
    ----------
    path : path-like
        The CSV file.
    images : iterable of (image_id, CropMasks)
    form : SubmissionForm
        `NUCLEI`, or `ONE_ROW` for `img,pixels`.

    Raises
    ------
    InputError
        An image comes twice, or the file cannot be written.
    """
    write_rows(path, ((image_id, form.rows(masks)) for image_id, masks in images), form)


def write_rows(
    path: str | os.PathLike[str], images: Iterable[tuple[str, list[str]]], form: SubmissionForm = NUCLEI
) -> None:
    """`write_submission` of what `SubmissionForm.rows` made before."""
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

    def __init__(self, form: SubmissionForm, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._form = form

    def write(self, masks: CropMasks) -> list[str]:
        """See `WholeWriter`."""
        return self._form.rows(masks)


def _join(form: SubmissionForm, paths: Sequence[Path], images: Iterable[Joined]) -> None:
    (path,) = paths
    write_rows(path, ((image.image_id, image.record) for image in images if not image.reason), form)


nuclei_writer = partial(SubmissionWriter, NUCLEI)
join_nuclei = partial(_join, NUCLEI)


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
