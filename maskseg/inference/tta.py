"""Views of an image, the eight symmetries of the square: made, undone exactly, and their masks merged."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.imaging.windows import Box
from maskseg.inference.postprocess import clean, partners
from maskseg.inference.questions import answered
from maskseg.inference.rescale import magnification
from maskseg.inference.settings import PostprocessSettings

# Pixels of all nuclei together from which on something was found.
SOMETHING = 2


class View(NamedTuple):
    """One way to look at an image: transposed, then turned upside down, then mirrored left to right.

    Attributes
    ----------
    transposed, upside_down, mirrored : bool
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Such as ``transposed-mirrored``; ``plain`` for the image itself."""
        return "-".join(name for name, done in self._asdict().items() if done) or "plain"

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the view of an image of `shape`; of the image of which the view has `shape`."""
        return (shape[1], shape[0]) if self.transposed else shape

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The view of an image (H, W) or (H, W, C), without a copy."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]

    def undo(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The image of which `pixels` are the view, without a copy."""
        pixels = pixels[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        return pixels.swapaxes(0, 1) if self.transposed else pixels

    def boxes(self, boxes: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        """Boxes (N, 4), x0, y0, x1, y1, of an image of `shape`, as they lie in the view."""
        if self.transposed:
            boxes = boxes[:, [1, 0, 3, 2]]
        return self._flipped(boxes, self.shape(shape))

    def undo_boxes(self, boxes: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        """Boxes (N, 4) of the view, as they lie in the image of `shape`."""
        boxes = self._flipped(boxes, self.shape(shape))
        return boxes[:, [1, 0, 3, 2]] if self.transposed else boxes

    def box(self, box: Box, shape: tuple[int, int]) -> Box:
        """One box, of four ints, of an image of `shape`, as it lies in the view."""
        x0, y0, x1, y1 = self.boxes(np.array([box]), shape)[0].tolist()
        return x0, y0, x1, y1

    def undo_box(self, box: Box, shape: tuple[int, int]) -> Box:
        """One box of the view, as it lies in the image of `shape`."""
        x0, y0, x1, y1 = self.undo_boxes(np.array([box]), shape)[0].tolist()
        return x0, y0, x1, y1

    def _flipped(self, boxes: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        boxes = boxes.copy()
        for flip, length, axis in ((self.mirrored, shape[1], 0), (self.upside_down, shape[0], 1)):
            if flip:
                boxes[:, [axis, axis + 2]] = length - boxes[:, [axis + 2, axis]]
        return boxes

    def undo_crops(self, crops: SoftCrops) -> SoftCrops:
        """What was found in the view, as it lies in the image."""
        shape = self.shape(crops.shape)
        boxes, undone = self.undo_boxes(crops.boxes, shape), [self.undo(crop) for crop in crops.crops]
        return SoftCrops(shape, boxes, undone, crops.scores, crops.classes)


PLAIN = View()
# By the names that POSTPROCESS.TTA has for them; the first view decides which nuclei there can be.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (PLAIN,),
    "flip": (PLAIN, View(mirrored=True)),
    "d4": tuple(View(*(bool(number & bit) for bit in (4, 2, 1))) for number in range(8)),
}


def views_of(tta: str) -> tuple[View, ...]:
    """The views by their name in `VIEWS`.

    Raises
    ------
    InputError
        If there are none of that name.
    """
    if tta not in VIEWS:
        raise InputError(f"tta is {tta!r}; choose one of {', '.join(VIEWS)}")
    return VIEWS[tta]


class Look(NamedTuple):
    """A question to the network: what it finds in a view of an image at a magnification."""

    view: View
    magnify: float


# Work that asks as it goes, is told what is found in the coordinates of the image, and ends with a result.
Merging = Generator[Look, SoftCrops, tuple[NDArray[np.int64], CropMasks]]
Assembly = Generator[Look, SoftCrops, CropMasks]


def assemble(
    look: Callable[[View, float], SoftCrops], settings: PostprocessSettings, views: Sequence[View], expected: float
) -> CropMasks:
    """The final masks of an image from its views.

    Parameters
    ----------
    look : function (view, magnify) -> SoftCrops
        What is found in a view at that magnification, in the image's coordinates. Called only for the views that are
        needed.
    settings : PostprocessSettings
    views : sequence of View
        One of `VIEWS`.
    expected : float
        See `magnification`.
    """

    def answer(asked: Look) -> SoftCrops:
        return look(asked.view, asked.magnify)

    magnify, first = answered(first_look(settings, views, expected), answer)
    return answered(assembly(settings, views, magnify, first), answer)


def first_look(
    settings: PostprocessSettings, views: Sequence[View], expected: float
) -> Generator[Look, SoftCrops, tuple[float, SoftCrops | None]]:
    """The magnification at which an image is predicted, and what was found in the first view if that was at it.

    Parameters
    ----------
    settings : PostprocessSettings
    views : sequence of View
    expected : float
        See `magnification`.
    """
    magnify = magnification(settings, expected)
    if settings.diameter:
        return magnify, None
    first = yield Look(views[0], magnify)
    areas = first.masks(settings.mask_threshold).areas if expected else None
    again = magnification(settings, expected, areas)
    return again, first if again == magnify else None


def assembly(
    settings: PostprocessSettings, views: Sequence[View], magnify: float, first: SoftCrops | None = None
) -> Assembly:
    """The final masks of an image at a magnification, by questions of `Look`.

    Parameters
    ----------
    settings : PostprocessSettings
    views : sequence of View
    magnify : float
    first : SoftCrops, optional
        What was found in the first view at this magnification, where it was looked at already.
    """
    if first is None:
        first = yield Look(views[0], magnify)
    _, masks = yield from merging(first, views[1:], settings, magnify)
    cleaned = clean(masks, settings)
    # After the cleaning, as in the published method: masks that it drops are nothing that was found.
    if cleaned.areas.sum() < SOMETHING and settings.retry_canvas > 1:
        magnify = 1 / settings.retry_canvas
        first = yield Look(views[0], magnify)
        _, masks = yield from merging(first, views[1:], settings, magnify)
        cleaned = clean(masks, settings)
    return cleaned


def merge(
    first: SoftCrops, views: Sequence[View], look: Callable[[View], SoftCrops], settings: PostprocessSettings
) -> tuple[NDArray[np.int64], CropMasks]:
    """The masks of one view, each merged with its best partner in every other view of the same image.

    A mask stays if more than half of the other views have a partner for it: in the published method, with one other
    view, if that has. Masks that only other views have are not added. Scores are those of the first view; the class is
    the one that most views see, each by its score, of equals that of the first view.

    Parameters
    ----------
    first : SoftCrops
    views : sequence of View
        The other views.
    look : function View -> SoftCrops
        What is found in a view, in the coordinates of the image; one is held at a time.
    settings : PostprocessSettings
        By ``tta_merge`` a merged mask is the ``union`` of the masks, or where the ``average`` of their probabilities
        reaches ``mask_threshold``; ``auto`` is the union of two views and the average of more. Partners have a mask IoU
        over ``tta_min_iou``.

    Returns
    -------
    kept : int64 array (K,)
        Which of `first` stay.
    masks : CropMasks
        K masks.
    """
    return answered(merging(first, views, settings), lambda asked: look(asked.view))


def merging(first: SoftCrops, views: Sequence[View], settings: PostprocessSettings, magnify: float = 1.0) -> Merging:
    """`merge`, by questions of what is found in the other views at a magnification."""
    average = settings.tta_merge == "average" or (settings.tta_merge == "auto" and len(views) > 1)
    threshold = settings.mask_threshold
    masks = first.masks(threshold)
    if not len(masks) or not views:
        return np.arange(len(masks)), masks
    boxes = (first if average else masks).boxes.copy()
    crops: list[NDArray[Any]] = [*(first.crops if average else masks.bitmaps)]
    seen = np.zeros(len(first), np.int64)
    votes = Votes(first)
    for view in views:
        other = yield Look(view, magnify)
        found = other.masks(threshold)
        own, partner = partners(masks, found, settings.tta_min_iou)
        seen[own] += 1
        votes.add(own, found, partner)
        for i, j in zip(own, partner, strict=True):
            if average:
                boxes[i], crops[i] = _joined(np.add, boxes[i], crops[i], other.boxes[j], other.crops[j])
            else:
                boxes[i], crops[i] = _joined(np.logical_or, boxes[i], crops[i], found.boxes[j], found.bitmaps[j])
    kept = np.flatnonzero(2 * seen > len(views))
    if not average:
        united = [crops[i] for i in kept]
        return kept, CropMasks(first.shape, boxes[kept], united, first.scores[kept], votes.classes()[kept])
    means: list[NDArray[Any]] = [crops[i] / np.float32(1 + seen[i]) for i in kept]
    return kept, SoftCrops(first.shape, boxes[kept], means, first.scores[kept], votes.classes()[kept]).masks(threshold)


class Votes:
    """Which class the views of an image see in each nucleus of the first one."""

    def __init__(self, first: SoftCrops) -> None:
        self._first = first.classes
        self._scores: dict[int, NDArray[np.float64]] = {}
        self.add(np.arange(len(first)), first, np.arange(len(first)))

    def add(self, own: NDArray[np.int64], other: SoftCrops | CropMasks, partner: NDArray[np.int64]) -> None:
        """The votes of another view: nucleus ``own[k]`` is nucleus ``partner[k]`` there."""
        for kind in np.unique(other.classes[partner]).tolist():
            sums = self._scores.setdefault(kind, np.zeros(len(self._first)))
            of = other.classes[partner] == kind
            np.add.at(sums, own[of], other.scores[partner[of]])

    def classes(self) -> NDArray[np.int32]:
        """The class of each nucleus, int32 (N,)."""
        if len(self._scores) < 2:
            return self._first
        kinds = np.array(sorted(self._scores), np.int32)
        table = np.stack([self._scores[kind] for kind in kinds.tolist()])
        best = kinds[table.argmax(axis=0)]
        own = table[np.searchsorted(kinds, self._first), np.arange(len(self._first))]
        return np.where(own == table.max(axis=0), self._first, best)


def _joined(
    join: np.ufunc, box: NDArray[np.int32], crop: NDArray[Any], other_box: NDArray[np.int32], other: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Two crops joined pixel by pixel in the box around both, zero where neither is."""
    both = np.concatenate([np.minimum(box[:2], other_box[:2]), np.maximum(box[2:], other_box[2:])])
    x0, y0, x1, y1 = both
    joined = np.zeros((y1 - y0, x1 - x0), crop.dtype)
    joined[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0] = crop
    place = joined[other_box[1] - y0 : other_box[3] - y0, other_box[0] - x0 : other_box[2] - x0]
    join(place, other, out=place)
    return both, joined
