"""Views of an image, the eight symmetries of the square: made, undone exactly, and their masks merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.imaging.windows import Box
from maskseg.inference.postprocess import clean, partners
from maskseg.inference.rescale import magnification


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

    def undo_crops(self, found: SoftCrops) -> SoftCrops:
        """What was found in the view, as it lies in the image."""
        shape = self.shape(found.shape)
        return SoftCrops(
            shape, self.undo_boxes(found.boxes, shape), [self.undo(crop) for crop in found.crops], found.scores
        )


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


def assemble(look: Callable[[View, float], SoftCrops], rules: Any, views: Sequence[View], expected: float) -> CropMasks:
    """The final masks of an image from its views, by the POSTPROCESS keys of a config.

    Parameters
    ----------
    look : function (view, magnify) -> SoftCrops
        What is found in a view at that magnification, in the image's coordinates. Called only for the views that are
        needed.
    rules : CfgNode
        The POSTPROCESS section.
    views : sequence of View
        One of `VIEWS`.
    expected : float
        See `magnification`.
    """

    def merged(first: SoftCrops, magnify: float) -> CropMasks:
        return merge(first, views[1:], lambda view: look(view, magnify), rules)[1]

    magnify = magnification(rules, expected)
    first = look(views[0], magnify)
    again = magnification(rules, expected, first.masks(rules.MASK_THRESHOLD).areas if expected else None)
    if again != magnify:
        first, magnify = look(views[0], again), again
    masks = merged(first, magnify)
    if len(masks) == 0 and rules.RETRY_CANVAS > 1:
        magnify = 1 / rules.RETRY_CANVAS
        masks = merged(look(views[0], magnify), magnify)
    return clean(masks, fill=rules.FILL_HOLES, closing=rules.CLOSE, fragments=rules.FRAGMENTS, min_area=rules.MIN_AREA)


def merge(
    first: SoftCrops, views: Sequence[View], look: Callable[[View], SoftCrops], rules: Any
) -> tuple[NDArray[np.int64], CropMasks]:
    """The masks of one view, each merged with its best partner in every other view of the same image.

    A mask stays if more than half of the other views have a partner for it: in the published method, with one other
    view, if that has. Masks that only other views have are not added. Scores are those of the first view.

    Parameters
    ----------
    first : SoftCrops
    views : sequence of View
        The other views.
    look : function View -> SoftCrops
        What is found in a view, in the coordinates of the image; one is held at a time.
    rules : CfgNode
        The POSTPROCESS section of a config. By ``TTA_MERGE`` a merged mask is the ``union`` of the masks, or where the
        ``average`` of their probabilities reaches ``MASK_THRESHOLD``; ``auto`` is the union of two views and the
        average of more. Partners have a mask IoU over ``TTA_MIN_IOU``.

    Returns
    -------
    kept : int64 array (K,)
        Which of `first` stay.
    masks : CropMasks
        K masks.
    """
    average = rules.TTA_MERGE == "average" or (rules.TTA_MERGE == "auto" and len(views) > 1)
    masks = first.masks(rules.MASK_THRESHOLD)
    if not len(masks) or not views:
        return np.arange(len(masks)), masks
    boxes, crops = (first.boxes.copy(), list(first.crops)) if average else (masks.boxes.copy(), list(masks.bitmaps))
    seen = np.zeros(len(first), np.int64)
    for other in map(look, views):
        found = other.masks(rules.MASK_THRESHOLD)
        own, partner = partners(masks, found, rules.TTA_MIN_IOU)
        seen[own] += 1
        for i, j in zip(own, partner, strict=True):
            if average:
                boxes[i], crops[i] = _joined(np.add, boxes[i], crops[i], other.boxes[j], other.crops[j])
            else:
                boxes[i], crops[i] = _joined(np.logical_or, boxes[i], crops[i], found.boxes[j], found.bitmaps[j])
    kept = np.flatnonzero(2 * seen > len(views))
    if not average:
        return kept, CropMasks(first.shape, boxes[kept], [crops[i] for i in kept], first.scores[kept])
    means = [crops[i] / np.float32(1 + seen[i]) for i in kept]
    return kept, SoftCrops(first.shape, boxes[kept], means, first.scores[kept]).masks(rules.MASK_THRESHOLD)


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
