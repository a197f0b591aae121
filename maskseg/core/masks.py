"""Instance masks held box by box: the one structure that every stage of prediction works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from maskseg.core import rle
from maskseg.core.errors import InputError

# Above this, a label value is not used as an index: one table entry for each possible label would cost more
# than sorting the pixels.
_MAX_DIRECT_LABEL = 1 << 22


@dataclass
class CropMasks:
    """N instance masks of one image, each stored as the pixels of its own box.

    An N x H x W stack is never made, so memory and time follow the sum of the box areas.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    boxes : int32 array (N, 4)
        x0, y0, x1, y1 in pixels, end exclusive, inside the image. An empty mask has a box without area.
    bitmaps : list of N bool arrays (h_i, w_i)
        The mask inside its box.
    scores : float32 array (N,)
        Confidence in [0, 1]; 1 for ground truth.
    classes : int32 array (N,)
        Class of each mask, counted from 0; what the classes are called is known beside the masks. 0 where there is but
        one.

    Examples
    --------
    >>> masks = CropMasks.from_labels(np.array([[1, 1, 0], [1, 0, 2]]))
    >>> len(masks), masks.areas
    (2, array([3, 1]))
    >>> masks.boxes.tolist()
    [[0, 0, 2, 2], [2, 1, 3, 2]]
    >>> masks[1:].to_labels()
    array([[0, 0, 0],
           [0, 0, 1]], dtype=int32)
    """

    shape: tuple[int, int]
    boxes: NDArray[np.int32]
    bitmaps: list[NDArray[np.bool_]]
    scores: NDArray[np.float32] = field(default=None)  # type: ignore[arg-type]
    classes: NDArray[np.int32] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        self.shape = (int(self.shape[0]), int(self.shape[1]))
        self.boxes = np.asarray(self.boxes, np.int32).reshape(-1, 4)
        self.bitmaps = list(self.bitmaps)
        if self.scores is None:
            self.scores = np.ones(len(self.bitmaps), np.float32)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        self.classes = _classes(self.classes, len(self.bitmaps))
        if not len(self.boxes) == len(self.bitmaps) == len(self.scores) == len(self.classes):
            raise ValueError(
                f"{len(self.boxes)} boxes, {len(self.bitmaps)} bitmaps, {len(self.scores)} scores and "
                f"{len(self.classes)} classes: not one each"
            )

    # ---- making ----

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> CropMasks:
        """No masks, in an image of `shape` (height, width)."""
        return cls(shape, np.zeros((0, 4), np.int32), [], np.zeros(0, np.float32))

    @classmethod
    def from_labels(cls, labels: NDArray[Any], scores: ArrayLike | None = None) -> CropMasks:
        """Masks of a label image, in the order of their labels.

        Parameters
        ----------
        labels : integer array (H, W)
            0 is background; the labels need not be consecutive.
        scores : float array (N,), optional
            One for each label present; 1 where not given.
        """
        if labels.ndim != 2 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
            raise InputError(
                f"a label image is a 2-D array of whole numbers, not {labels.dtype} of shape {labels.shape}"
            )
        if labels.size and (labels.dtype == bool or labels.min() < 0 or labels.max() > _MAX_DIRECT_LABEL):
            values, inverse = np.unique(labels, return_inverse=True)
            if values[0] < 0:
                raise InputError(f"a label image holds no negative numbers, but {values[0]} was found")
            labels = inverse.reshape(labels.shape) + (0 if values[0] == 0 else 1)
        boxes, bitmaps = [], []
        for value, window in enumerate(ndimage.find_objects(labels.astype(np.int32, copy=False)), start=1):
            if window is not None:
                rows, columns = window
                boxes.append((columns.start, rows.start, columns.stop, rows.stop))
                bitmaps.append(labels[window] == value)
        return cls(labels.shape, np.array(boxes, np.int32), bitmaps, scores)  # type: ignore[arg-type]

    @classmethod
    def from_rle(
        cls,
        rles: Sequence[Mapping[str, Any]],
        shape: tuple[int, int] | None = None,
        scores: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> CropMasks:
        """Masks from COCO RLE dicts.

        Parameters
        ----------
        rles : sequence of ``{"size": [H, W], "counts": str | bytes | list}``
        shape : (int, int), optional
            Height and width; needed only when `rles` may be empty.
        scores : float array (N,), optional
        classes : int array (N,), optional

        Raises
        ------
        InputError
            If the masks are of different sizes or malformed.
        """
        if shape is None:
            if not rles:
                raise ValueError("without masks the shape must be given")
            shape = (rles[0]["size"][0], rles[0]["size"][1])
        for item in rles:
            if tuple(item["size"]) != tuple(shape):
                raise InputError(f"a mask of {tuple(item['size'])} pixels in an image of {tuple(shape)}")
        starts, lengths, index = rle.coco_to_runs_of_all(rles, shape)
        ends = np.searchsorted(index, np.arange(len(rles) + 1))
        crops = [
            rle.runs_to_crop(*rle.joined(starts[low:high], lengths[low:high]), shape) for low, high in pairwise(ends)
        ]
        boxes = np.array([box for box, _ in crops], np.int32)
        bitmaps = [bitmap for _, bitmap in crops]
        return cls(shape, boxes, bitmaps, scores, classes)  # type: ignore[arg-type]

    # ---- reading ----

    def __len__(self) -> int:
        return len(self.bitmaps)

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> CropMasks:
        """Some of the masks: by slice, by bool array (N,) or by whole-number array (also to reorder)."""
        chosen = np.arange(len(self))[
            index if isinstance(index, slice) else np.asarray(index, dtype=None if len(index) else np.int64)
        ]
        bitmaps = [self.bitmaps[i] for i in chosen]
        return CropMasks(self.shape, self.boxes[chosen], bitmaps, self.scores[chosen], self.classes[chosen])

    @classmethod
    def joined(cls, shape: tuple[int, int], parts: Sequence[CropMasks]) -> CropMasks:
        """The masks of several of one image, one after the other."""
        if not parts:
            return cls.empty(shape)
        return cls(
            shape,
            np.concatenate([part.boxes for part in parts]),
            [bitmap for part in parts for bitmap in part.bitmaps],
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    @property
    def areas(self) -> NDArray[np.int64]:
        """Number of pixels of each mask, int64 (N,)."""
        return np.array([np.count_nonzero(bitmap) for bitmap in self.bitmaps], np.int64)

    def to_labels(self) -> NDArray[np.int32]:
        """Label image int32 (H, W): mask i gets label i + 1; a pixel of several masks goes to the highest score.

        Of equal scores the smaller mask has the pixel, since it may lie inside the larger one (as two true nuclei
        do once the hole between them is filled); of equal areas the earlier. A mask that is wholly covered does not
        appear.
        """
        labels = np.zeros(self.shape, np.int32)
        for i in self.painting_order():
            x0, y0, x1, y1 = self.boxes[i]
            labels[y0:y1, x0:x1][self.bitmaps[i]] = i + 1
        return labels

    def painting_order(self) -> NDArray[np.int64]:
        """The masks, int64 (N,), in the order in which `to_labels` paints one over the other."""
        return np.lexsort((self.areas, -self.scores))[::-1]

    def to_rle(self) -> list[dict[str, Any]]:
        """COCO's compressed RLE of each mask, ``{"size": [H, W], "counts": str}``."""
        return [rle.runs_to_coco(*runs, self.shape) for runs in self.runs()]

    def runs(self) -> list[rle.Runs]:
        """Column-major runs of each mask (see `maskseg.core.rle`)."""
        return [rle.crop_to_runs(bitmap, box, self.shape) for bitmap, box in zip(self.bitmaps, self.boxes, strict=True)]


@dataclass
class SoftCrops:
    """Mask probabilities of N instances of one image, each on the pixels of its own box.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    boxes : int32 array (N, 4)
        x0, y0, x1, y1 in pixels, end exclusive, inside the image.
    crops : list of N float32 arrays (h_i, w_i)
        Probability of each pixel of the box; zero outside it.
    scores : float32 array (N,)
    classes : int32 array (N,)
        As in `CropMasks`.
    """

    shape: tuple[int, int]
    boxes: NDArray[np.int32]
    crops: list[NDArray[np.float32]]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        self.classes = _classes(self.classes, len(self.crops))

    @classmethod
    def paste(
        cls,
        soft_masks: NDArray[np.floating[Any]],
        float_boxes: NDArray[np.floating[Any]],
        shape: tuple[int, int],
        scores: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> SoftCrops:
        """Mask R-CNN's soft masks, each resampled to the pixels of its box only.

        Bilinear, sampled at pixel centres, zero outside the box: at a threshold, the pixels that Detectron2's
        ``paste_masks_in_image`` gives [1]_, without the N x H x W result.

        Parameters
        ----------
        soft_masks : float array (N, M, M)
            Mask probabilities.
        float_boxes : float array (N, 4)
            x0, y0, x1, y1 in image pixels, as the network gives them.
        shape : (int, int)
            Height and width of the image.
        scores : float array (N,), optional
        classes : int array (N,), optional

        References
        ----------
        .. [1] detectron2/layers/mask_ops.py, ``_do_paste_mask``.
        """
        count, side = len(soft_masks), soft_masks.shape[-1]
        soft_masks = np.ascontiguousarray(soft_masks, np.float32)
        float_boxes = np.asarray(float_boxes, np.float32).reshape(-1, 4)
        height, width = shape
        # One pixel around the box as Detectron2 has it: the interpolation still reaches half a mask cell outside.
        x0 = np.clip(np.floor(float_boxes[:, 0]) - 1, 0, width).astype(np.int64)
        y0 = np.clip(np.floor(float_boxes[:, 1]) - 1, 0, height).astype(np.int64)
        x1 = np.clip(np.ceil(float_boxes[:, 2]) + 1, x0, width).astype(np.int64)
        y1 = np.clip(np.ceil(float_boxes[:, 3]) + 1, y0, height).astype(np.int64)
        # Separable: mask = rows @ soft @ columns.T. The weights of all masks are made at once; one by one their
        # making would cost more than the products.
        across, across_at = _interpolation(x0, x1, float_boxes[:, 0], float_boxes[:, 2], side)
        down, down_at = _interpolation(y0, y1, float_boxes[:, 1], float_boxes[:, 3], side)
        crops = [
            down[down_at[i] : down_at[i + 1]] @ soft_masks[i] @ across[across_at[i] : across_at[i + 1]].T
            for i in range(count)
        ]
        boxes = np.stack([x0, y0, x1, y1], axis=1).astype(np.int32)
        scores = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32)
        return cls(shape, boxes, crops, scores, classes)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: NDArray[Any]) -> SoftCrops:
        """Some of the instances: by bool array (N,) or by whole-number array."""
        chosen = np.arange(len(self))[index]
        crops = [self.crops[i] for i in chosen]
        return SoftCrops(self.shape, self.boxes[chosen], crops, self.scores[chosen], self.classes[chosen])

    def masks(self, threshold: float) -> CropMasks:
        """The pixels of at least that probability, each mask in the smallest box around them."""
        boxes, bitmaps = np.zeros((len(self), 4), np.int32), []
        for i, (crop, (x0, y0, _, _)) in enumerate(zip(self.crops, self.boxes.tolist(), strict=True)):
            boxes[i], bitmap = trim(crop >= threshold, x0, y0)
            bitmaps.append(bitmap)
        return CropMasks(self.shape, boxes, bitmaps, self.scores, self.classes)


def _classes(given: ArrayLike | None, count: int) -> NDArray[np.int32]:
    return np.zeros(count, np.int32) if given is None else np.asarray(given, np.int32).reshape(-1)


def trim(bitmap: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    """Smallest box around the set pixels of a bitmap that lies at (x0, y0), and the bitmap inside it.

    Returns
    -------
    box : 4 ints
        x0, y0, x1, y1, end exclusive; without area at (x0, y0) when no pixel is set.
    bitmap : bool array (h, w)
    """
    # As bytes, which are searched without a detour through NumPy; a pixel is 0 or 1.
    columns = np.bitwise_or.reduce(bitmap, axis=0).tobytes()
    left = columns.find(1)
    if left < 0:
        return (x0, y0, x0, y0), np.zeros((0, 0), bool)
    rows = np.bitwise_or.reduce(bitmap, axis=1).tobytes()
    right, top, bottom = columns.rfind(1) + 1, rows.find(1), rows.rfind(1) + 1
    return (x0 + left, y0 + top, x0 + right, y0 + bottom), bitmap[top:bottom, left:right]


def _interpolation(
    begin: NDArray[np.int64], end: NDArray[np.int64], low: NDArray[np.float32], high: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Bilinear weights (sum of lengths, side) of the pixels begin..end of every box, and where each box starts."""
    lengths = end - begin
    at = np.concatenate(([0], np.cumsum(lengths)))
    pixel = np.arange(at[-1]) - np.repeat(at[:-1] - begin, lengths)
    size = np.maximum(high - low, np.float32(1e-6))
    place = (pixel + np.float32(0.5) - np.repeat(low, lengths)) / np.repeat(size, lengths) * np.float32(
        side
    ) - np.float32(0.5)
    floor = np.floor(place)
    part = (place - floor).astype(np.float32)
    weights = np.zeros((at[-1], side), np.float32)
    row = np.arange(at[-1])
    for offset, weight in ((0, 1 - part), (1, part)):
        cell = floor.astype(np.int64) + offset
        inside = (cell >= 0) & (cell < side)
        weights[row[inside], cell[inside]] = weight[inside]
    return weights, at
