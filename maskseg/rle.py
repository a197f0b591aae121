"""Run lengths of masks: Kaggle's text form and COCO's, both without a full-size mask.

A mask is exchanged as *runs*: two int64 arrays, `starts` and `lengths`, counted from 0 down the columns of the
full image (column-major order, as both formats want it), sorted, not touching each other. The cost of every
function follows the box of the mask, not the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from maskseg.errors import InputError

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]


def _joined(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Runs:
    """Drop empty runs and join runs that touch (a mask that reaches from the last row into the next column)."""
    keep = lengths > 0
    if not keep.all():
        starts, lengths = starts[keep], lengths[keep]
    if len(starts) < 2:
        return starts, lengths
    ends = starts + lengths
    first = np.concatenate(([True], starts[1:] != ends[:-1]))
    if first.all():
        return starts, lengths
    begin = np.flatnonzero(first)
    last = np.concatenate((begin[1:] - 1, [len(starts) - 1]))
    return starts[begin], ends[last] - starts[begin]


def crop_to_runs(bitmap: NDArray[np.bool_], box: ArrayLike, shape: tuple[int, int]) -> Runs:
    """Runs of a mask that is given by its box.

    Parameters
    ----------
    bitmap : bool array (h, w)
        The mask inside the box.
    box : 4 ints
        x0, y0, x1, y1 in pixels, end exclusive, inside the image.
    shape : (int, int)
        Height and width of the image.

    Returns
    -------
    starts, lengths : int64 arrays (R,)
        Column-major runs in the full image, counted from 0.
    """
    x0, y0 = int(box[0]), int(box[1])  # type: ignore[index]
    h, w = bitmap.shape
    # One empty row between the columns ends every run at its column; one leading zero opens the first.
    padded = np.zeros(w * (h + 1) + 1, dtype=np.int8)
    padded[1:].reshape(w, h + 1)[:, :h] = bitmap.T
    change = np.flatnonzero(padded[1:] != padded[:-1])
    begin, end = change[0::2], change[1::2]
    column, row = np.divmod(begin, h + 1)
    return _joined((column + x0) * shape[0] + row + y0, end - begin)


def runs_to_crop(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Smallest box of a mask and the mask inside it, from its runs.

    Parameters
    ----------
    starts, lengths : int64 arrays (R,)
        Column-major runs, counted from 0.
    shape : (int, int)
        Height and width of the image.

    Returns
    -------
    box : int32 array (4,)
        x0, y0, x1, y1, end exclusive; all zero for an empty mask.
    bitmap : bool array (h, w)
    """
    height = shape[0]
    if len(starts) == 0:
        return np.zeros(4, np.int32), np.zeros((0, 0), bool)
    column, row = np.divmod(starts, height)
    x0, x1 = int(column[0]), int((starts[-1] + lengths[-1] - 1) // height) + 1
    if (row + lengths > height).any():  # a run goes on in the next column, so the mask has full height
        y0, y1 = 0, height
    else:
        y0, y1 = int(row.min()), int((row + lengths).max())
    h, w = y1 - y0, x1 - x0
    local = (column - x0) * h + row - y0
    before = np.cumsum(lengths) - lengths
    flat = np.zeros(h * w, bool)
    flat[np.repeat(local - before, lengths) + np.arange(lengths.sum())] = True
    return np.array([x0, y0, x1, y1], np.int32), np.ascontiguousarray(flat.reshape(w, h).T)


def runs_to_kaggle(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> str:
    """Kaggle's ``EncodedPixels``: "start length start length ...", starts counted from 1."""
    return " ".join(map(str, np.stack([starts + 1, lengths], axis=1).ravel().tolist()))


def kaggle_to_runs(text: str, shape: tuple[int, int]) -> Runs:
    """Runs from Kaggle's ``EncodedPixels``.

    Parameters
    ----------
    text : str
        "start length start length ..."; empty for no mask.
    shape : (int, int)
        Height and width of the image, which the runs must fit.

    Raises
    ------
    InputError
        If the numbers are malformed, out of range, unsorted or overlapping.
    """
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"run lengths are not whole numbers: {text[:40]!r}") from error
    if len(numbers) % 2:
        raise InputError(f"run lengths come in pairs, but there are {len(numbers)} numbers: {text[:40]!r}")
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    if (lengths < 1).any():
        raise InputError(f"a run of length {lengths.min()} (every run must hold at least one pixel)")
    if (starts < 0).any() or (lengths > shape[0] * shape[1] - starts).any():
        raise InputError(f"a run is out of range (the image has {shape[0]} x {shape[1]} pixels, counted from 1)")
    if (starts[1:] <= starts[:-1]).any():
        raise InputError("runs are not sorted by their start")
    if (starts[1:] < starts[:-1] + lengths[:-1]).any():
        raise InputError("runs of one mask overlap")
    return _joined(starts, lengths)


def runs_to_coco(starts: NDArray[np.int64], lengths: NDArray[np.int64], shape: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed RLE, ``{"size": [H, W], "counts": str}``, made by pycocotools."""
    height, width = int(shape[0]), int(shape[1])
    counts = np.zeros(2 * len(starts) + 1, np.int64)
    ends = starts + lengths
    counts[0:-1:2] = np.diff(starts, prepend=0)
    counts[2:-1:2] -= lengths[:-1]
    counts[1::2] = lengths
    counts[-1] = height * width - (ends[-1] if len(ends) else 0)
    if counts[-1] == 0 and len(counts) > 1:  # as pycocotools writes it
        counts = counts[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def coco_to_runs(rle: Mapping[str, Any]) -> Runs:
    """Runs from COCO's RLE, compressed (str or bytes) or plain (list of counts).

    pycocotools can only decode to a full-size mask; for thousands of small masks in a big image that costs
    N x H x W, so the text form (its ``rleFrString``) is read here. Tested against pycocotools.

    Raises
    ------
    InputError
        If the counts are malformed or do not fill the stated size.
    """
    counts_field = rle["counts"]
    if isinstance(counts_field, str | bytes):
        # What is not ASCII becomes bytes that the reader refuses.
        counts = _read_compressed(counts_field.encode() if isinstance(counts_field, str) else counts_field)
    else:
        counts = _plain_counts(counts_field)
    height, width = rle["size"]
    pixels = height * width
    # Each count is looked at first: a sum of huge ones may wrap around to the right number.
    if (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
        raise InputError(f"COCO run lengths do not fill an image of {height} x {width} pixels; write the file again")
    ends = np.cumsum(counts)
    return _joined((ends - counts)[1::2], counts[1::2])


def _plain_counts(counts: Sequence[int]) -> NDArray[np.int64]:
    try:
        numbers = np.asarray(counts, dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError("COCO run lengths are neither text nor whole numbers") from error
    if numbers.ndim != 1:
        raise InputError("COCO run lengths are neither text nor a list of whole numbers")
    return numbers


def _read_compressed(text: bytes) -> NDArray[np.int64]:
    """Read pycocotools' text: six bits a character, five of them data, low part first, differences from count i-2."""
    code = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(code) == 0:
        return np.zeros(0, np.int64)
    more = (code & 0x20) != 0
    if (code < 0).any() or (code > 63).any() or more[-1]:
        raise InputError("COCO run lengths are malformed text")
    last = np.flatnonzero(~more)
    first = np.concatenate(([0], last[:-1] + 1))
    place = np.arange(len(code)) - np.repeat(first, last - first + 1)
    if place.max() > 11:  # beyond 60 bits: no image is that large
        raise InputError("COCO run lengths are malformed text")
    values = np.add.reduceat((code & 0x1F) << (5 * place), first)
    values -= np.where(code[last] & 0x10, np.int64(1) << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
