"""Nuclei of neighbouring tiles settled among each other as if the image had been predicted in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks, trim
from maskseg.core.overlaps import box_pairs
from maskseg.inference.postprocess import fill_and_close, without_fragments
from maskseg.inference.settings import PostprocessSettings


@dataclass(frozen=True)
class TilePart:
    """The nuclei that one tile claims, views united, not yet cleaned.

    Attributes
    ----------
    boxes : float64 array (N, 4)
        The network's boxes x0, y0, x1, y1, in network pixels of the whole image.
    masks : CropMasks
        In pixels of the whole image.
    cut : int
        How many of them reach the edge of what the network saw, and so may go on beyond it.
    """

    boxes: NDArray[np.float64]
    masks: CropMasks
    cut: int = 0

    def write(self, path: Path) -> None:
        """Write the part to a file, whole or not at all."""
        bitmaps = self.masks.bitmaps
        pixels = np.concatenate([bitmap.ravel() for bitmap in bitmaps]) if bitmaps else np.zeros(0, bool)
        with write_whole(path, sync=False) as file:
            np.savez(
                file,
                boxes=self.boxes,
                shape=self.masks.shape,
                places=self.masks.boxes,
                pixels=np.packbits(pixels),
                scores=self.masks.scores,
                classes=self.masks.classes,
                cut=self.cut,
            )

    @classmethod
    def read(cls, path: Path) -> TilePart:
        """Read what `write` wrote."""
        try:
            with np.load(path) as data:
                places = data["places"]
                sizes = places[:, 2:] - places[:, :2]
                ends = np.cumsum(sizes.prod(axis=1))
                pixels = np.unpackbits(data["pixels"]).view(bool)
                bitmaps = [
                    pixels[end - w * h : end].reshape(h, w) for end, (w, h) in zip(ends, sizes.tolist(), strict=True)
                ]
                masks = CropMasks(data["shape"], places, bitmaps, data["scores"], data["classes"])
                return cls(data["boxes"], masks, int(data["cut"]))
        except Exception as error:  # zip, NumPy and the disk have errors of their own; all mean the same here
            raise InputError(f"{path}: is damaged; delete it and run the same command again") from error


class Settled(NamedTuple):
    """Final nuclei.

    Attributes
    ----------
    masks : CropMasks
        In pixels of the whole image; no two that are ever given share a pixel.
    rows : int
        No nucleus that comes later has a pixel above this row.
    """

    masks: CropMasks
    rows: int


class Stitcher:
    """`postprocess.clean` for masks that come tile by tile, in memory that follows one row of tiles.

    The result is that of `clean` on all masks at once. By falling score a mask loses the pixels of those before it,
    so what becomes of a mask depends only on the masks of higher score that meet its box, and on what became of
    these. A mask is settled as soon as all of them are: when every tile has come whose nuclei can meet its box, and
    none of the higher ones there waits itself. Chains of waiting nuclei are short, since the score falls along them.

    Both tiles beside a seam claim the nuclei on it; of these each pair whose network boxes overlap more than the
    network's own suppression allows within a tile is one nucleus, and the higher score stays.

    Nuclei of equal score are taken from top to bottom, then from left to right.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.
    settings : PostprocessSettings
    nms : float
        Box IoU above which two nuclei of different tiles are one.
    """

    def __init__(self, shape: tuple[int, int], settings: PostprocessSettings, nms: float) -> None:
        self._settings, self._nms = settings, nms
        self._masks = CropMasks.empty(shape)
        self._boxes = np.zeros((0, 4))
        # The last tile that has to have come before a mask can be settled.
        self._until = np.zeros(0, np.int64)

    def add(self, part: TilePart, until: NDArray[np.int64]) -> None:
        """Take in the claims of the next tile.

        Parameters
        ----------
        part : TilePart
        until : int array (N,)
            For each mask the number of the last tile whose nuclei can meet its box.
        """
        masks = part.masks
        bitmaps = [fill_and_close(bitmap, self._settings) if bitmap.size else bitmap for bitmap in masks.bitmaps]
        new, old = self._one_of_each(part.boxes, masks.scores)
        new &= np.array([bitmap.size > 0 for bitmap in bitmaps], bool)
        self._masks = CropMasks(
            masks.shape,
            np.concatenate([self._masks.boxes[old], masks.boxes[new]]),
            [bitmap for bitmap, kept in zip([*self._masks.bitmaps, *bitmaps], [*old, *new], strict=True) if kept],
            np.concatenate([self._masks.scores[old], masks.scores[new]]),
            np.concatenate([self._masks.classes[old], masks.classes[new]]),
        )
        self._boxes = np.concatenate([self._boxes[old], part.boxes[new]])
        self._until = np.concatenate([self._until[old], until[new]])

    def _one_of_each(
        self, boxes: NDArray[np.float64], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of the new masks and which of those that wait stay, where both are the same nucleus."""
        new, old = np.ones(len(boxes), bool), np.ones(len(self._boxes), bool)
        first, second = box_pairs(boxes, self._boxes)
        same = _box_iou(boxes[first], self._boxes[second]) > self._nms
        first, second = first[same], second[same]
        later = scores[first] > self._masks.scores[second]
        # By falling score of the better of the two, as the suppression within a tile goes.
        for k in np.argsort(-np.maximum(scores[first], self._masks.scores[second]), kind="stable"):
            if new[first[k]] and old[second[k]]:
                (old if later[k] else new)[second[k] if later[k] else first[k]] = False
        return new, old

    def settle(self, tile: int) -> CropMasks:
        """Final masks of all that is decided once the tiles up to number `tile` have come; by falling score."""
        masks = self._masks
        waiting = self._until > tile
        order = np.lexsort((masks.boxes[:, 0], masks.boxes[:, 1], -masks.scores))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        higher, lower = box_pairs(masks.boxes, masks.boxes)
        falling = rank[higher] < rank[lower]
        higher, lower = higher[falling], lower[falling]
        while (more := lower[waiting[higher] & ~waiting[lower]]).size:
            waiting[more] = True
        by_higher = np.argsort(higher, kind="stable")
        starts = np.searchsorted(higher[by_higher], np.arange(len(masks) + 1))
        boxes, bitmaps, kept = [], [], []
        for i in order[~waiting[order]]:
            bitmap = without_fragments(masks.bitmaps[i], self._settings.fragments)
            if np.count_nonzero(bitmap) < max(self._settings.min_area, 1):
                continue
            x0, y0 = masks.boxes[i, :2].tolist()
            box, bitmap = trim(bitmap, x0, y0)
            for k in lower[by_higher[starts[i] : starts[i + 1]]]:
                masks.bitmaps[k] = _without(masks.bitmaps[k], masks.boxes[k].tolist(), bitmap, box)
            boxes.append(box)
            bitmaps.append(bitmap)
            kept.append(i)
        order = np.array(kept, np.int64)
        decided = CropMasks(masks.shape, np.array(boxes, np.int32), bitmaps, masks.scores[order], masks.classes[order])
        self._masks, self._boxes, self._until = masks[waiting], self._boxes[waiting], self._until[waiting]
        return decided

    @property
    def top(self) -> int:
        """The first row that a waiting mask may have a pixel in."""
        return int(self._masks.boxes[:, 1].min(initial=self._masks.shape[0]))


def _without(
    bitmap: NDArray[np.bool_],
    place: list[int],
    other: NDArray[np.bool_],
    other_place: tuple[int, int, int, int],
) -> NDArray[np.bool_]:
    """A mask at `place` without the pixels of another one; the mask that is given stays as it was."""
    x0, y0 = max(place[0], other_place[0]), max(place[1], other_place[1])
    x1, y1 = min(place[2], other_place[2]), min(place[3], other_place[3])
    if x0 >= x1 or y0 >= y1:
        return bitmap
    bitmap = bitmap.copy()
    bitmap[y0 - place[1] : y1 - place[1], x0 - place[0] : x1 - place[0]] &= ~other[
        y0 - other_place[1] : y1 - other_place[1], x0 - other_place[0] : x1 - other_place[0]
    ]
    return bitmap


def _box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes (N, 4), one by one."""
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(axis=1)
    both = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    return shared / np.maximum(both - shared, 1e-9)
