"""What an image was read from, and what is said where one is lost: all that can go wrong with one ends no run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError, OutputError, located, unexpected
from maskseg.core.masks import CropMasks
from maskseg.imaging.names import printable
from maskseg.imaging.reading import ImageFile
from maskseg.inference.batching import OUT_OF_MEMORY
from maskseg.inference.predictor import Predictor

# What a part was made from: name, size and time of a file, and what was chosen of it.
Source = list[str | int]


def outcome_of(file: ImageFile, writing: Future[None]) -> tuple[ImageFile, str | None]:
    """A file, and why its results were not written."""
    error = writing.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return file, None if error is None else reason_for(file, error)


def reason_for(file: ImageFile, error: Exception) -> str:
    """Why an image is left out.

    Raises
    ------
    OutputError
        Where it is not the image that is at fault.
    """
    if isinstance(error, OutputError):
        raise error
    if isinstance(error, InputError):
        return located(file.name, error)
    if isinstance(error, OUT_OF_MEMORY):
        error = MemoryError()
    return f"{file.name}: {unexpected(error)}"


def source_of(file: ImageFile) -> Source:
    """What a part was made from; an image that is another one by now is done again."""
    planes = ",".join(f"{axis}={plane}" for axis, plane in sorted(file.choice.planes.items()))
    chosen = [f"--channel {file.choice.channel} --plane {planes}"] if file.choice else []
    try:
        status = file.path.stat()
    except OSError:
        return [file.name, *chosen]
    return [file.name, status.st_size, status.st_mtime_ns, *chosen]


def file_name(file: ImageFile) -> str:
    """The name of its file, or of its member of a zip file, as it may be shown."""
    return printable(Path(file.member or file.path).name)


def segmented(
    predictor: Predictor, images: Sequence[NDArray[np.uint8]], tta: str | None
) -> list[CropMasks | Exception]:
    """The nuclei of each image, or why there are none: what is wrong with one image is no matter of the others."""
    try:
        return list(predictor.segment_batch(images, tta))
    except Exception as error:  # whatever it is, it is of one image
        if len(images) == 1:
            return [error]
    return [segmented(predictor, [image], tta)[0] for image in images]
