"""What the values of a label image mean: one number a nucleus, or something else that people save as masks.

Masks of 0 and 255, of two values, or of one value a class, are taken apart into their connected pieces, and colours
into pieces of one colour, which is said: nuclei that touch are one there. A photograph is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from maskseg.core.errors import InputError

# A mask of 0 and this is no label image with the one label 255.
_WHITE = 255
# Values of a mask of classes, and how many pieces each has, at least, on the average.
_MOST_CLASSES, _PIECES = 16, 3
# A piece of fewer pixels is a speck.
_SPECK = 4
# Share of the pixels next to an interior that are border.
_AROUND = 0.8
# Of a photograph nearly all is specks, and a value comes back everywhere.
_MOSTLY, _BACK = 0.5, 5
_FEWEST = 20
# How much larger a background is than any nucleus, and its share of each side of the image.
_LARGER, _ALONG = 4, 0.3


def instances(values: NDArray[Any]) -> tuple[NDArray[np.integer], NDArray[np.int64] | None, list[str]]:
    """A label image from what a file holds.

    Parameters
    ----------
    values : array (H, W), or (H, W, 3 or 4) of colours
        Whole numbers or truth values.

    Returns
    -------
    labels : integer array (H, W)
        0 is background.
    classes : int64 array (N,) or None
        Value of each label in the file, in the order of the labels, where it was one of a class.
    notes : list of str
        What was done.

    Raises
    ------
    InputError
        If it is a photograph.
    """
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():  # grey, saved as colours
        values = values[..., 0]
    colours = values.ndim == 3
    labels: NDArray[Any] = _of_colours(values) if colours else values
    present = np.unique(labels)
    present = present[present != 0]
    if len(present) and present[0] < 0:
        raise InputError(f"a label image holds no negative numbers, but {present[0]} was found")
    if not len(present):
        return labels if labels.dtype != bool else labels.astype(np.uint8), None, []
    background = None if colours else _background(labels, present)
    if background is not None:
        others, classes, notes = instances(np.where(labels == background, 0, labels))
        return others, classes, [f"the value {background} taken for background: it lies around all others", *notes]
    if len(present) == 1:
        _refuse_exchanged(labels)
    pieces = connected(labels)
    areas = np.bincount(pieces.ravel())[1:]
    specks = np.count_nonzero(areas < _SPECK) / len(areas)
    if specks > _MOSTLY and len(areas) >= max(_FEWEST, 0 if colours else _BACK * len(present)):
        raise InputError(
            f"{len(areas)} pieces of {len(present)} values, most of fewer than {_SPECK} pixels: a photograph, or "
            "labels saved as JPEG; give label images"
        )
    if colours:
        return pieces, None, ["colours taken for labels: each connected piece of one colour is a nucleus"]
    if labels.dtype == bool or (len(present) == 1 and present[0] == _WHITE):
        if len(areas) == 1 and labels.dtype != bool:
            return labels, None, []
        return pieces, None, ["masks of two values: each connected piece is a nucleus; nuclei that touch are one"]
    interior = _interior(labels, present) if len(present) == 2 and len(areas) > 2 else None
    if interior is not None:
        note = "two values, one around the other, taken for interior and border: each interior is a nucleus"
        return _with_border(labels, interior), None, [note]
    whole = np.count_nonzero(areas >= _SPECK)
    if len(present) <= _MOST_CLASSES and whole >= _PIECES * len(present):
        first = np.unique(pieces, return_index=True)
        classes = labels.ravel()[first[1][first[0] > 0]].astype(np.int64)
        which = f"{len(present)} values in many pieces" if len(present) > 1 else "one value in many pieces"
        note = f"{which}, taken for classes: each connected piece is a nucleus; nuclei that touch are one"
        return pieces, classes if len(present) > 1 else None, [note]
    if specks > _MOSTLY and len(areas) >= _FEWEST:
        return labels, None, [f"more than half of the labels have pieces of fewer than {_SPECK} pixels; look at them"]
    return labels, None, []


def _background(labels: NDArray[Any], present: NDArray[Any]) -> int | None:
    """The value other than 0 that is background, as where labels begin with 1: there is no 0, and it is all around."""
    if len(present) < 2 or (labels == 0).any():
        return None
    counts = np.bincount(np.searchsorted(present, labels.ravel()), minlength=len(present))
    *_, second, first = np.argsort(counts, kind="stable")
    value = present[first]
    sides = [np.mean(side == value) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    # Of two values the commoner is background, as of ilastik; of many it is far larger than any nucleus.
    larger = counts[first] > (1 if len(present) == 2 else _LARGER) * counts[second]
    return int(value) if larger and min(sides) > _ALONG else None


def _refuse_exchanged(labels: NDArray[Any]) -> None:
    """Refuse a mask of one value in which a piece covers most of the image and lies around others.

    Raises
    ------
    InputError
        If it is one.
    """
    inside = labels != 0
    share = inside.mean()
    if share <= _MOSTLY:
        return
    pieces, _ = ndimage.label(inside)
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    if areas.max() <= _MOSTLY * labels.size:
        return
    holes = ndimage.label(ndimage.binary_fill_holes(pieces == areas.argmax()) & ~inside)[0]
    count = np.count_nonzero(np.bincount(holes.ravel())[1:] >= _SPECK)
    if count >= _PIECES:
        raise InputError(
            f"one piece covers {share:.0%} of the image and lies around {count} others: background and nuclei are "
            "exchanged; make the background 0"
        )


def _interior(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Of two values the one that the other lies around, as pixels; None if neither does."""
    for value in values:
        inside: NDArray[np.bool_] = labels == value
        edge = ndimage.binary_dilation(inside) & ~inside
        if np.count_nonzero(labels[edge]) > _AROUND * np.count_nonzero(edge):
            return inside
    return None


def _with_border(labels: NDArray[Any], interior: NDArray[np.bool_]) -> NDArray[np.integer]:
    """The pieces of the interior, each grown into the border that is nearer to it than to any other piece."""
    seeds = connected(interior)
    place = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    grown = np.where(labels != 0, seeds[tuple(place)], 0)
    blobs = connected(labels != 0)
    apart = blobs != blobs[tuple(place)]  # a border with nothing in it: a nucleus of its own
    return np.where(apart & (grown > 0), seeds.max() + blobs, grown)


def connected(values: NDArray[Any]) -> NDArray[np.int64]:
    """The pieces of one value, numbered from 1; 0 is background. Pixels that touch at a corner are of one piece."""
    return np.asarray(measure.label(values, background=0, connectivity=2))


def _of_colours(values: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each colour, 0 for the background: what is black or transparent, else the commonest colour."""
    channels = values[..., :3].astype(np.int64)
    numbers = channels[..., 0] << 32 | channels[..., 1] << 16 | channels[..., 2]
    if values.shape[2] == 4:
        numbers[values[..., 3] == 0] = 0
    if not (numbers == 0).any():
        distinct, counts = np.unique(numbers, return_counts=True)
        numbers[numbers == distinct[counts.argmax()]] = 0
    return np.unique(np.append(numbers, 0), return_inverse=True)[1][:-1].reshape(numbers.shape)
