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

from maskseg.core.errors import InputError

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]


def joined(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Runs:
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
    x0, y0 = np.asarray(box, np.int64)[:2].tolist()
    h, w = bitmap.shape
    # One empty row between the columns ends every run at its column; one leading zero opens the first.
    padded = np.zeros(w * (h + 1) + 1, dtype=np.int8)
    padded[1:].reshape(w, h + 1)[:, :h] = bitmap.T
    change = np.flatnonzero(padded[1:] != padded[:-1])
    begin, end = change[0::2], change[1::2]
    column, row = np.divmod(begin, h + 1)
    return joined((column + x0) * shape[0] + row + y0, end - begin)


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
    # Where a run begins and where it ends: one number for each pixel would take eight bytes.
    turns = np.zeros(h * w + 1, np.uint8)
    turns[local] = 1
    turns[local + lengths] ^= 1
    flat = np.bitwise_xor.accumulate(turns[:-1]).view(bool)
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
    return joined(starts, lengths)


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

    Raises
    ------
    InputError
        If the counts are malformed or do not fill the stated size.
    """
    starts, lengths, _ = coco_to_runs_of_all([rle], tuple(rle["size"]))
    return joined(starts, lengths)


def coco_to_runs_of_all(
    rles: Sequence[Mapping[str, Any]], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs of all masks of an image at once: thirty times as fast as one by one where the masks are small.

    pycocotools can only decode to a full-size mask; for thousands of small masks in a big image that costs
    N x H x W, so the text form (its ``rleFrString``) is read here. Tested against pycocotools.

    Parameters
    ----------
    rles : sequence of N dicts
        COCO's RLE, each with the size `shape`, compressed (str or bytes) or plain (list of counts).
    shape : (int, int)
        Height and width of the image.

    Returns
    -------
    starts, lengths, index : int64 arrays (R,)
        Runs, and the number of the mask that each belongs to, from 0, rising. Here runs may touch or be empty.

    Raises
    ------
    InputError
        If the counts are malformed or do not fill the image.
    """
    fields = [rle["counts"] for rle in rles]
    if all(isinstance(field, str | bytes) for field in fields):
        # What is not ASCII becomes bytes that the reader refuses.
        pairs, number = _read_compressed([field.encode() if isinstance(field, str) else field for field in fields])
    elif len(fields) == 1:
        counts = _plain_counts(fields[0])
        pairs, number = np.append(counts, np.zeros(len(counts) % 2, np.int64)).reshape(-1, 2), np.array([len(counts)])
    else:
        parts = [coco_to_runs_of_all([rle], shape) for rle in rles]
        index = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), index
    pixels = int(shape[0]) * int(shape[1])
    rows = (number + 1) // 2
    index = np.repeat(np.arange(len(rows)), rows)
    ends = np.cumsum(pairs).reshape(-1, 2)
    # Each count is looked at first: a sum of huge ones may wrap around to the right number.
    whole = ((pairs >= 0) & (pairs <= pixels)).all() and (rows > 0).all()
    if not whole or (ends[np.cumsum(rows) - 1, 1] != pixels * np.arange(1, len(rows) + 1)).any():
        raise InputError(
            f"COCO run lengths do not fill an image of {shape[0]} x {shape[1]} pixels; write the file again"
        )
    return ends[:, 0] - index * pixels, pairs[:, 1], index


def _plain_counts(counts: Sequence[int]) -> NDArray[np.int64]:
    try:
        numbers = np.asarray(counts, dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError("COCO run lengths are neither text nor whole numbers") from error
    if numbers.ndim != 1:
        raise InputError("COCO run lengths are neither text nor a list of whole numbers")
    return numbers


def _read_compressed(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read pycocotools' texts: six bits a character, five of them data, low part first, differences from count i-2.

    Returns
    -------
    pairs : int64 array (R, 2)
        The counts of all texts, two a row; each text begins a row, and one of odd length ends with a 0.
    number : int64 array (N,)
        How many counts each text holds.
    """
    code = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    end_of_text = np.cumsum([len(text) for text in texts])
    if len(code) == 0:
        return np.zeros((0, 2), np.int64), np.zeros(len(texts), np.int64)
    more = (code & 0x20) != 0
    if (code < 0).any() or (code > 63).any() or more[end_of_text - 1].any():
        raise InputError("COCO run lengths are malformed text")
    last = np.flatnonzero(~more)
    first = np.concatenate(([0], last[:-1] + 1))
    place = np.arange(len(code)) - np.repeat(first, last - first + 1)
    if place.max() > 11:  # beyond 60 bits: no image is that large
        raise InputError("COCO run lengths are malformed text")
    values = np.add.reduceat((code & 0x1F) << (5 * place), first)
    values -= np.where(code[last] & 0x10, np.int64(1) << (5 * (place[last] + 1)), 0)
    end = np.searchsorted(last, end_of_text)
    number = np.diff(end, prepend=0)
    rows = (number + 1) // 2
    row = np.cumsum(rows) - rows
    pairs = np.zeros((rows.sum(), 2), np.int64)
    pairs.ravel()[np.arange(len(values)) + np.repeat(2 * row - (end - number), number)] = values
    # Summed down both columns, less what stood there before the text began; the very first count is no difference.
    sums = np.cumsum(pairs, axis=0)
    held = row[number > 0]
    begin = sums[held] - [0, 1] * pairs[held]
    heads = pairs[held, 0]
    pairs = sums - np.repeat(begin, rows[number > 0], axis=0)
    pairs[held, 0] = heads
    pairs[(row + rows - 1)[number % 2 == 1], 1] = 0
    return pairs, number
