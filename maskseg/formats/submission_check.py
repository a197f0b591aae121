"""Every fault for which a run-length submission would be refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from maskseg.core.errors import InputError
from maskseg.core.rle import Runs, kaggle_to_runs
from maskseg.formats.kaggle import overlapping
from maskseg.formats.kaggle_reader import SubmissionFault, SubmissionRow, rows_of


def check_submission(path: str | os.PathLike[str], sizes: Mapping[str, tuple[int, int]]) -> list[SubmissionFault]:
    """Find everything that makes a submission invalid.

    Parameters
    ----------
    path : path-like
        The CSV file.
    sizes : mapping of image_id to (height, width)
        The images that the submission is for; it may raise an InputError for one that cannot be read.

    Returns
    -------
    list of SubmissionFault
        Bad header, malformed, out of range, unsorted or overlapping runs in a row, rows of an image that
        overlap, duplicate rows, an empty row beside others, a second row of an image in the form `img,pixels`,
        unknown images, images that cannot be read, missing images. Empty when the file is valid. Every overlapping
        row is named, with one of the rows it overlaps.

    Raises
    ------
    InputError
        The file cannot be read at all.
    """
    faults: list[SubmissionFault] = []
    images: dict[str, _Image] = {}
    any_row = False
    for row in rows_of(path, exact=True):
        if isinstance(row, SubmissionFault):
            faults.append(row)
            continue
        any_row = True
        if row.image_id not in sizes:
            faults.append(SubmissionFault(row.line, f"image {row.image_id} is unknown"))
            continue
        image = images.setdefault(row.image_id, _Image(row.line))
        if row.one_row and image.first_line != row.line:
            faults.append(
                SubmissionFault(row.line, f"image {row.image_id}: a second row, the first is line {image.first_line}")
            )
            continue
        try:
            shape = sizes[row.image_id]
        except InputError as error:  # of the image; once is enough
            if image.first_line == row.line:
                faults.append(SubmissionFault(row.line, f"image {row.image_id}: {error}"))
            continue
        try:
            runs = kaggle_to_runs(row.pixels, shape)
        except InputError as error:
            faults.append(SubmissionFault(row.line, f"image {row.image_id}: {error}"))
            image.unreadable = True
            continue
        faults.extend(image.add(row, runs))
    for image_id, image in images.items():
        faults.extend(image.conflicts(image_id))
    if faults and not any_row:  # with the header wrong, that every image is missing says nothing
        return faults
    missing = sorted(set(sizes) - set(images))
    faults.sort(key=lambda fault: fault.line or 0)
    faults += [
        SubmissionFault(None, f"image {name} is missing: without masks it needs a row `{name},`") for name in missing
    ]
    return faults


@dataclass
class _Image:
    """The rows of one image that could be read."""

    first_line: int
    lines: list[int] = field(default_factory=list)
    runs: list[Runs] = field(default_factory=list)
    line_of: dict[bytes, int] = field(default_factory=dict)
    empty_line: int | None = None
    unreadable: bool = False

    def add(self, row: SubmissionRow, runs: Runs) -> list[SubmissionFault]:
        digest = blake2b(runs[0].tobytes() + runs[1].tobytes(), digest_size=16).digest()
        first = self.line_of.setdefault(digest, row.line)
        if first != row.line:
            return [SubmissionFault(row.line, f"image {row.image_id}: the same row as line {first}")]
        if len(runs[0]):
            self.lines.append(row.line)
            self.runs.append(runs)
        else:
            self.empty_line = row.line
        return []

    def conflicts(self, image_id: str) -> list[SubmissionFault]:
        faults = []
        if self.empty_line is not None and (self.runs or self.unreadable):
            faults.append(SubmissionFault(self.empty_line, f"image {image_id}: an empty row beside rows with nuclei"))
        for one, other in overlapping(self.runs):
            early, late = sorted((self.lines[one], self.lines[other]))
            faults.append(SubmissionFault(late, f"image {image_id}: overlaps line {early}"))
        return faults
