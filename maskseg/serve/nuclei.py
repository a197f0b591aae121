"""The nuclei of an image while they are corrected: `CropMasks` whose masks keep their number for good."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Nucleus:
    """One nucleus; never changed, only replaced.

    Attributes
    ----------
    box : 4 ints
        x0, y0, x1, y1 in pixels, end exclusive, with area.
    bitmap : bool array (h, w)
    score : float
        In [0, 1]; 1 for what a person drew.
    kind : int
        Number of its class (`maskseg.serve.classes`), 0 being none.
    by_hand : bool
        Whether a person has drawn or changed it.
    """

    box: Box
    bitmap: NDArray[np.bool_]
    score: float = 1.0
    kind: int = 0
    by_hand: bool = True

    def same(self, other: Nucleus | None) -> bool:
        """Whether another one has the same pixels and the same figures."""
        return (
            other is not None
            and (self.box, self.score, self.kind, self.by_hand) == (other.box, other.score, other.kind, other.by_hand)
            and np.array_equal(self.bitmap, other.bitmap)
        )


After = dict[int, Nucleus | None]


class Nuclei:
    """Nuclei of one image by their numbers, which are given out in rising order and never again.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels.

    Attributes
    ----------
    next_id : int
        The number that the next nucleus gets; the first one is 1, as 0 is background in label images.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.next_id = 1
        self._by_id: dict[int, Nucleus] = {}
        # A row for each number that was ever given out; of one that is gone the box has no area.
        self._boxes = np.zeros((64, 4), np.int32)
        self._areas = np.zeros(64, np.int64)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, number: int) -> bool:
        return number in self._by_id

    def __getitem__(self, number: int) -> Nucleus:
        return self._by_id[number]

    def __iter__(self) -> Iterator[Nucleus]:
        """The nuclei, without their numbers."""
        return iter(self._by_id.values())

    def get(self, number: int) -> Nucleus | None:
        """The nucleus of that number, if there is one."""
        return self._by_id.get(number)

    def put(self, after: Mapping[int, Nucleus | None]) -> None:
        """Set or, with None, remove nuclei."""
        if not after:
            return
        self._grow(max(after) + 1)
        for number, nucleus in after.items():
            if nucleus is None:
                self._by_id.pop(number, None)
                self._boxes[number] = 0
            else:
                self._by_id[number] = nucleus
                self._boxes[number] = nucleus.box
                self._areas[number] = np.count_nonzero(nucleus.bitmap)
        self.next_id = max(self.next_id, max(after) + 1)

    def _grow(self, rows: int) -> None:
        if rows > len(self._boxes):
            more = max(rows, 2 * len(self._boxes)) - len(self._boxes)
            self._boxes = np.concatenate([self._boxes, np.zeros((more, 4), np.int32)])
            self._areas = np.concatenate([self._areas, np.zeros(more, np.int64)])

    def near(self, box: Box) -> list[int]:
        """Numbers, rising, of the nuclei whose boxes share pixels with a box."""
        x0, y0, x1, y1 = box
        rows = self._boxes[: self.next_id]
        meets = (rows[:, 0] < x1) & (rows[:, 2] > x0) & (rows[:, 1] < y1) & (rows[:, 3] > y0)
        return np.flatnonzero(meets & (rows[:, 2] > rows[:, 0])).tolist()

    def at(self, x: int, y: int) -> int | None:
        """Number of the nucleus that has the pixel."""
        for number in self.near((x, y, x + 1, y + 1)):
            nucleus = self._by_id[number]
            if nucleus.bitmap[y - nucleus.box[1], x - nucleus.box[0]]:
                return number
        return None

    def taken(self, box: Box, but: Iterable[int] = ()) -> NDArray[np.bool_]:
        """Pixels of a box that nuclei have, other than those named; bool (h, w)."""
        x0, y0, x1, y1 = box
        taken = np.zeros((y1 - y0, x1 - x0), bool)
        left_out = set(but)
        for number in self.near(box):
            if number not in left_out:
                nucleus = self._by_id[number]
                taken |= crop(nucleus.bitmap, nucleus.box, box)
        return taken

    def masks(self, numbers: Iterable[int] | None = None) -> tuple[list[int], CropMasks]:
        """Numbers, rising, and the masks of all nuclei or of those named; their classes as the nuclei have them."""
        chosen = sorted(self._by_id if numbers is None else numbers)
        nuclei = [self._by_id[number] for number in chosen]
        boxes = np.array([nucleus.box for nucleus in nuclei], np.int32).reshape(-1, 4)
        scores = np.array([nucleus.score for nucleus in nuclei], np.float32)
        kinds = np.array([nucleus.kind for nucleus in nuclei], np.int32)
        return chosen, CropMasks(self.shape, boxes, [nucleus.bitmap for nucleus in nuclei], scores, kinds)

    def columns(self) -> dict[str, list[Any]]:
        """The table of nuclei by column: number, box, area in pixels, score, class, whether drawn by hand."""
        numbers = sorted(self._by_id)
        rows = np.array(numbers, np.int64)
        nuclei = [self._by_id[number] for number in numbers]
        boxes = self._boxes[rows]
        return {
            "id": numbers,
            **{name: boxes[:, k].tolist() for k, name in enumerate(("x0", "y0", "x1", "y1"))},
            "area": self._areas[rows].tolist(),
            "score": [round(nucleus.score, 4) for nucleus in nuclei],
            "kind": [nucleus.kind for nucleus in nuclei],
            "by_hand": [int(nucleus.by_hand) for nucleus in nuclei],
        }

    def rows(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """The same as `columns`, by row, of some nuclei."""
        return [
            {
                "id": number,
                **dict(zip(("x0", "y0", "x1", "y1"), map(int, self._by_id[number].box), strict=True)),
                "area": int(self._areas[number]),
                "score": round(self._by_id[number].score, 4),
                "kind": self._by_id[number].kind,
                "by_hand": int(self._by_id[number].by_hand),
            }
            for number in numbers
        ]

    def median_area(self) -> float:
        """Of all nuclei, in pixels; 0 where there is none."""
        rows = self._boxes[: self.next_id]
        areas = self._areas[: self.next_id][rows[:, 2] > rows[:, 0]]
        return float(np.median(areas)) if len(areas) else 0.0

    def centres(self, hidden: Collection[int] = ()) -> NDArray[np.float64]:
        """Centres x, y of the boxes of all nuclei but those of some classes, float (N, 2)."""
        if hidden:
            boxes = np.array([one.box for one in self if one.kind not in hidden], np.int32).reshape(-1, 4)
        else:
            boxes = self._boxes[: self.next_id]
            boxes = boxes[boxes[:, 2] > boxes[:, 0]]
        return (boxes[:, :2] + boxes[:, 2:]) / 2


def crop(bitmap: NDArray[np.bool_], box: Box, wanted: Box) -> NDArray[np.bool_]:
    """What a bitmap with that box has in another box, bool (h, w) of the latter."""
    part = np.zeros((wanted[3] - wanted[1], wanted[2] - wanted[0]), bool)
    x0, y0 = max(box[0], wanted[0]), max(box[1], wanted[1])
    x1, y1 = min(box[2], wanted[2]), min(box[3], wanted[3])
    if x0 < x1 and y0 < y1:
        part[y0 - wanted[1] : y1 - wanted[1], x0 - wanted[0] : x1 - wanted[0]] = bitmap[
            y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]
        ]
    return part


# ---- as text, for the log, and as files ----


def to_json(nucleus: Nucleus | None) -> list[Any] | None:
    """A nucleus as a list for JSON; its pixels as COCO's run lengths inside its box."""
    if nucleus is None:
        return None
    height, width = nucleus.bitmap.shape
    runs = rle.crop_to_runs(nucleus.bitmap, (0, 0, width, height), (height, width))
    counts = rle.runs_to_coco(*runs, (height, width))["counts"]
    return [*map(int, nucleus.box), counts, nucleus.score, nucleus.kind, int(nucleus.by_hand)]


def from_json(data: list[Any] | None) -> Nucleus | None:
    """The reverse of `to_json`."""
    if data is None:
        return None
    x0, y0, x1, y1, counts, score, kind, by_hand = data
    shape = (y1 - y0, x1 - x0)
    masks = CropMasks.from_rle([{"size": list(shape), "counts": counts}])
    bitmap = np.zeros(shape, bool)
    a, b, c, d = masks.boxes[0].tolist()
    bitmap[b:d, a:c] = masks.bitmaps[0]
    return Nucleus((x0, y0, x1, y1), bitmap, float(score), int(kind), bool(by_hand))


def write_masks(path: Path, masks: CropMasks) -> None:
    """Write masks as an .npz file of plain arrays, whole or not at all: read 50 times as fast as run lengths."""
    bits = [np.packbits(bitmap) for bitmap in masks.bitmaps]
    with write_whole(path) as file:
        np.savez(
            file,
            shape=np.array(masks.shape, np.int64),
            boxes=masks.boxes,
            scores=masks.scores,
            classes=masks.classes,
            bits=np.concatenate(bits) if bits else np.zeros(0, np.uint8),
        )


def read_masks(path: Path) -> CropMasks:
    """Masks that `write_masks` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            shape, boxes, scores, bits = (data[name] for name in ("shape", "boxes", "scores", "bits"))
            # Files of maskseg 0.1 have none.
            classes = data["classes"] if "classes" in data.files else np.zeros(len(boxes), np.int32)
        heights, widths = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
        areas = heights.astype(np.int64) * widths
        ends = np.cumsum((areas + 7) // 8).tolist()
        bitmaps = [
            np.unpackbits(bits[begin:end], count=area).view(bool).reshape(height, width)
            for begin, end, area, height, width in zip(
                [0, *ends], ends, areas.tolist(), heights.tolist(), widths.tolist(), strict=False
            )
        ]
        return CropMasks((int(shape[0]), int(shape[1])), boxes, bitmaps, scores, classes)
    except Exception as error:  # zip, NumPy and the shapes have errors of their own; all mean the same here
        raise InputError(f"{path}: nuclei that cannot be read ({type(error).__name__}); predict them again") from error
