"""What a person does to nuclei: each edit a function of the nuclei and what was drawn, to the nuclei that change.

An edit changes nothing itself: it returns, by number, the nuclei as they are to be afterwards, None for one that goes.
No pixel belongs to two nuclei: what is drawn takes free pixels only, so nothing that a person has set right is lost to
a stroke beside it. Points x, y are in pixels of the image, pixel (0, 0) covering [0, 1] x [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, trim
from maskseg.core.outlines import rasterise
from maskseg.serve.nuclei import After, Box, Nuclei, Nucleus, crop

Points = Sequence[Sequence[float]]

# Pieces below this are crumbs of a stroke, as in the cleaning of predictions (POSTPROCESS.MIN_AREA).
CRUMB = 10
# The largest class number (ImageJ's groups end there), and the widest brush in pixels.
MOST_KINDS, WIDEST = 255, 500.0
# Sub-pixel steps of OpenCV's lines: 1 / 16 pixel.
_SHIFT = 4


def add(nuclei: Nuclei, ring: Points) -> After:
    """A nucleus with the free pixels inside a drawn line.

    Raises
    ------
    InputError
        If no free pixel is inside.
    """
    box, bitmap = rasterise([[_points(ring)]], nuclei.shape)
    return _new(nuclei, box, bitmap, 1.0)


def add_mask(nuclei: Nuclei, masks: CropMasks) -> After:
    """A nucleus with the free pixels of the one mask that the network has found, of its class."""
    box = tuple(masks.boxes[0].tolist())
    return _new(nuclei, box, masks.bitmaps[0], float(masks.scores[0]), int(masks.classes[0]))


def _new(nuclei: Nuclei, box: Box, bitmap: NDArray[np.bool_], score: float, kind: int = 0) -> After:
    if bitmap.size:
        box, bitmap = trim(bitmap & ~nuclei.taken(box), box[0], box[1])
    if not bitmap.size:
        raise InputError("nothing is free there: draw around pixels that belong to no nucleus yet")
    return {nuclei.next_id: Nucleus(box, bitmap, score, kind)}


def delete(nuclei: Nuclei, ids: Sequence[int]) -> After:
    """The nuclei go."""
    return dict.fromkeys(_known(nuclei, ids))


def merge(nuclei: Nuclei, ids: Sequence[int]) -> After:
    """The nuclei become the one of the lowest number; holes between them are not filled."""
    numbers = sorted(_known(nuclei, ids))
    if len(numbers) < 2:
        raise InputError("choose two nuclei or more to merge")
    parts = [nuclei[number] for number in numbers]
    box = _around([part.box for part in parts])
    bitmap = np.logical_or.reduce([crop(part.bitmap, part.box, box) for part in parts])
    first = replace(parts[0], box=box, bitmap=bitmap, score=1.0, by_hand=True)
    return {numbers[0]: first, **dict.fromkeys(numbers[1:])}


def split(nuclei: Nuclei, line: Points, ids: Sequence[int] = ()) -> After:
    """Nuclei in two or more along a drawn line; of the parts the largest keeps the number.

    The pixels under the line go to the part that is nearest: none is lost. Parts smaller than `CRUMB` stay with their
    neighbour.

    Parameters
    ----------
    nuclei : Nuclei
    line : points
    ids : sequence of int
        The nuclei to divide; where empty, all that the line divides.

    Raises
    ------
    InputError
        If the line divides none.
    """
    points = _points(line)
    reach = _box_of(points, 1.0, nuclei.shape)
    chosen = _known(nuclei, ids) if len(ids) else nuclei.near(reach)
    after: After = {}
    free = nuclei.next_id
    for number in chosen:
        whole = nuclei[number]
        parts = _divided(whole, points)
        for k, (box, bitmap) in enumerate(parts if len(parts) > 1 else []):
            after[number if k == 0 else free] = replace(whole, box=box, bitmap=bitmap, score=1.0, by_hand=True)
            free += k > 0
    if not after:
        raise InputError("the line divides no nucleus: draw it from outside to outside")
    return after


def _divided(whole: Nucleus, line: NDArray[np.float64]) -> list[tuple[Box, NDArray[np.bool_]]]:
    """Box and bitmap of the parts of a nucleus on the sides of a line, the largest first."""
    # A border of a pixel, so that the line may run along the edge of the box.
    cut = np.pad(whole.bitmap, 1) & _drawn(line, 0.5, _grown(whole.box, 1))
    pieces, count = ndimage.label(np.pad(whole.bitmap, 1) & ~cut)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = [piece for piece in range(1, count + 1) if areas[piece] >= CRUMB]
    if not cut.any() or len(kept) < 2:
        return []
    # Every pixel goes to the nearest kept part.
    kept_pieces = np.where(np.isin(pieces, kept), pieces, 0)
    nearest = ndimage.distance_transform_edt(kept_pieces == 0, return_distances=False, return_indices=True)
    owner = kept_pieces[tuple(nearest)][1:-1, 1:-1]
    parts = [trim(whole.bitmap & (owner == piece), whole.box[0], whole.box[1]) for piece in kept]
    return sorted(parts, key=lambda part: -np.count_nonzero(part[1]))


def brush(nuclei: Nuclei, points: Points, radius: float, id: int | None = None) -> After:
    """Free pixels within `radius` of a stroke, added to a nucleus or, without a number, a nucleus of their own."""
    stroke, radius = _points(points), _radius(radius)
    box = _box_of(stroke, radius, nuclei.shape)
    painted = _drawn(stroke, radius, box)
    if id is None:
        return _new(nuclei, box, painted, 1.0)
    (number,) = _known(nuclei, [id])
    before = nuclei[number]
    both = _around([box, before.box])
    bitmap = crop(painted & ~nuclei.taken(box, [number]), box, both) | crop(before.bitmap, before.box, both)
    return _changed(number, before, *trim(bitmap, both[0], both[1]))


def erase(nuclei: Nuclei, points: Points, radius: float, ids: Sequence[int] = ()) -> After:
    """Pixels within `radius` of a stroke taken from the nuclei named or, where none is, from all.

    Where a nucleus falls in pieces, the largest keeps the number, the others become nuclei, and new crumbs go.
    """
    stroke, radius = _points(points), _radius(radius)
    box = _box_of(stroke, radius, nuclei.shape)
    rubbed = _drawn(stroke, radius, box)
    after: After = {}
    free = nuclei.next_id
    for number in _known(nuclei, ids) if len(ids) else nuclei.near(box):
        before = nuclei[number]
        left = before.bitmap & ~crop(rubbed, box, before.box)
        if np.array_equal(left, before.bitmap):
            continue
        pieces = _pieces(left, before)
        after[number] = None
        for k, (place, bitmap) in enumerate(pieces):
            after[number if k == 0 else free] = replace(before, box=place, bitmap=bitmap, score=1.0, by_hand=True)
            free += k > 0
    if not after:
        raise InputError("nothing to erase there")
    return after


def _pieces(left: NDArray[np.bool_], before: Nucleus) -> list[tuple[Box, NDArray[np.bool_]]]:
    """What is left of a nucleus, in its pieces; in as many as before it stays one."""
    eight = np.ones((3, 3))
    pieces, count = ndimage.label(left, eight)
    if count == 0:
        return []
    if count <= ndimage.label(before.bitmap, eight)[1]:
        return [trim(left, before.box[0], before.box[1])]
    areas = np.bincount(pieces.ravel())
    by_size = sorted(range(1, count + 1), key=lambda piece: -areas[piece])
    kept = [piece for piece in by_size if areas[piece] >= CRUMB] or by_size[:1]
    return [trim(pieces == piece, before.box[0], before.box[1]) for piece in kept]


def smooth(nuclei: Nuclei, ids: Sequence[int], sigma: float = 1.5) -> After:
    """Outlines without corners and whiskers: a Gaussian of `sigma` pixels over each mask, halved; holes are filled."""
    after: After = {}
    for number in _known(nuclei, ids):
        before = nuclei[number]
        around = inside(_grown(before.box, 4), nuclei.shape)
        soft = cv2.GaussianBlur(crop(before.bitmap, before.box, around).astype(np.float32), (0, 0), _sigma(sigma))
        bitmap = ndimage.binary_fill_holes(soft >= 0.5) & ~nuclei.taken(around, [number])
        pieces, count = ndimage.label(bitmap, np.ones((3, 3)))
        if count == 0:
            continue  # thinner than the Gaussian
        bitmap = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
        after |= _changed(number, before, *trim(bitmap, around[0], around[1]))
    return after


def classify(nuclei: Nuclei, ids: Sequence[int], kind: int) -> After:
    """The nuclei get a class, 0 for none."""
    if not 0 <= kind <= MOST_KINDS:
        raise InputError(f"class {kind}: choose one from 0 to {MOST_KINDS}")
    return {number: replace(nuclei[number], kind=kind, by_hand=True) for number in _known(nuclei, ids)}


def predicted(nuclei: Nuclei, found: CropMasks, reviewed: Sequence[Box]) -> tuple[list[int], After]:
    """Nuclei that the network has found, in the place of those it had found before.

    What a person has drawn, changed or reviewed stays, and keeps its pixels: of a found nucleus what is free remains,
    and one of which less than half does is left out. The classes of what was found are numbers of classes, 0 for none.

    Returns
    -------
    kept : list of int
        Numbers of the nuclei that stay.
    added : dict
        The new ones by number.
    """
    if found.shape != nuclei.shape:
        raise InputError(f"masks for an image of {found.shape} pixels, but it has {nuclei.shape}; predict it again")
    numbers, _ = nuclei.masks()
    kept = [n for n in numbers if nuclei[n].by_hand or any(_centre_in(nuclei[n].box, box) for box in reviewed)]
    staying = Nuclei(nuclei.shape)
    staying.put({number: nuclei[number] for number in kept})
    added: After = {}
    free = nuclei.next_id
    rows = zip(found.boxes.tolist(), found.bitmaps, found.scores.tolist(), found.classes.tolist(), strict=True)
    for box, bitmap, score, kind in rows:
        place, area = tuple(box), np.count_nonzero(bitmap)
        if area == 0 or any(_centre_in(place, region) for region in reviewed):
            continue
        left = bitmap & ~staying.taken(place) if kept else bitmap
        if 2 * np.count_nonzero(left) >= area:
            place, left = trim(left, place[0], place[1])
            added[free] = Nucleus(place, left, round(score, 4), kind, by_hand=False)
            free += 1
    return kept, added


def _centre_in(box: Box, region: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return region[0] <= x < region[2] and region[1] <= y < region[3]


def _changed(number: int, before: Nucleus, box: Box, bitmap: NDArray[np.bool_]) -> After:
    """A nucleus with other pixels; nothing where they are the same."""
    if box == before.box and np.array_equal(bitmap, before.bitmap):
        return {}
    return {number: replace(before, box=box, bitmap=bitmap, score=1.0, by_hand=True)}


# ---- what was drawn ----


def _known(nuclei: Nuclei, ids: Sequence[int]) -> list[int]:
    numbers = list(dict.fromkeys(ids))
    gone = [number for number in numbers if number not in nuclei]
    if gone or not numbers:
        raise InputError(f"nucleus {gone[0]} is no longer there" if gone else "choose a nucleus first")
    return numbers


def _points(points: Any) -> NDArray[np.float64]:
    array = np.asarray(points, np.float64).reshape(-1, 2)
    if not len(array) or not np.isfinite(array).all() or np.abs(array).max() > 1e7:
        raise InputError("a drawn line is a list of points x, y inside the image")
    return array


def _radius(radius: float) -> float:
    if not 0 < radius <= WIDEST:
        raise InputError(f"a brush of {radius:g} pixels: choose a radius above 0, up to {WIDEST:g}")
    return float(radius)


def _sigma(sigma: float) -> float:
    if not 0.3 <= sigma <= 20:
        raise InputError(f"smoothing by {sigma:g} pixels: choose from 0.3 to 20")
    return float(sigma)


def _drawn(line: NDArray[np.float64], radius: float, box: Box) -> NDArray[np.bool_]:
    """Pixels of a box whose centres lie within `radius` of a line, bool (h, w); of radius 0.5 without a gap.

    Drawn by OpenCV with round ends, in steps of a sixteenth of a pixel.
    """
    canvas = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    if canvas.size == 0:
        return canvas.view(bool)
    places = np.rint((line - [box[0] + 0.5, box[1] + 0.5]) * (1 << _SHIFT)).astype(np.int64)
    # OpenCV counts in 32 bits; a point that far outside leads outside anyway.
    places = places.clip(-(1 << 27), 1 << 27).astype(np.int32)
    if radius <= 0.5:
        cv2.polylines(canvas, [places.reshape(-1, 1, 2)], False, 1, 1, cv2.LINE_4, _SHIFT)
        return canvas.view(bool)
    height, width = canvas.shape
    y, x = np.mgrid[:height, :width]
    within = np.zeros((height, width), bool)
    points = line - [box[0] + 0.5, box[1] + 0.5]
    for a, b in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        low = np.floor(np.minimum(a, b) - radius).astype(int).clip(0)
        right, bottom = np.ceil(np.maximum(a, b) + radius).astype(int) + 1
        part = np.s_[low[1] : max(bottom, 0), low[0] : max(right, 0)]
        within[part] |= _within(x[part], y[part], a, b, radius)
    return within


def _within(
    x: NDArray[Any], y: NDArray[Any], a: NDArray[np.float64], b: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Which points lie within `radius` of the line from a to b."""
    along = b - a
    length = float(along @ along)
    place = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / length, 0, 1) if length else 0.0
    return (x - a[0] - place * along[0]) ** 2 + (y - a[1] - place * along[1]) ** 2 <= radius**2


def _box_of(points: NDArray[np.float64], radius: float, shape: tuple[int, int]) -> Box:
    low, high = np.floor(points.min(axis=0) - radius), np.ceil(points.max(axis=0) + radius)
    return inside((int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1), shape)


def _grown(box: Box, by: int) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def inside(box: Box, shape: tuple[int, int]) -> Box:
    """The part of a box inside an image."""
    height, width = shape
    x0, y0 = min(max(box[0], 0), width), min(max(box[1], 0), height)
    return x0, y0, min(max(box[2], x0), width), min(max(box[3], y0), height)


def _around(boxes: Sequence[Box]) -> Box:
    low, high = np.array(boxes)[:, :2].min(axis=0), np.array(boxes)[:, 2:].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


# By the name that the page calls them, with what they take beside the nuclei.
EDITS: dict[str, Callable[..., After]] = {
    "add": add,
    "delete": delete,
    "merge": merge,
    "split": split,
    "brush": brush,
    "erase": erase,
    "smooth": smooth,
    "classify": classify,
}
