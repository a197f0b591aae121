"""Annotations of one image, drawn one by one as polygons, ellipses or bitmaps, to its nuclei.

All formats of outlines here have pixel (0, 0) cover [0, 1] x [0, 1], as the programs show it, and a pixel belongs to an
outline when its centre lies inside (`maskseg.core.outlines`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, trim
from maskseg.core.outlines import Polygon, Ring, fill, rasterise
from maskseg.core.rle import Runs, runs_to_crop
from maskseg.formats.reader import LeftOut, Nuclei, Shape
from maskseg.formats.sources import parsing

# Pixels of the boxes of all masks of an image, also of those that turn out to be empty: a file of a few bytes may claim
# masks as large as a slide, a thousand times.
MOST_MASK_PIXELS = 1 << 30
# Of one mask: drawing it takes some bytes more a pixel.
MOST_BOX_PIXELS = 1 << 27
# A vertex further out is a mistake.
_FARTHEST = 1e8
# Rows that the edges of an annotation cross, and those of all annotations of an image: each costs time and memory.
_LONGEST, _LONGEST_OF_ALL = 1e7, 1e8


class Drawing:
    """What is drawn on one image.

    Parameters
    ----------
    where : str
        The file, for messages.
    shape : (int, int)
        Height and width of the image.

    Examples
    --------
    >>> drawing = Drawing("a.json", (20, 30))
    >>> with drawing.annotation("shape 1", "nucleus"):
    ...     drawing.polygons([[ring([[2, 3], [9, 3], [9, 8]])]])
    >>> len(drawing.nuclei().masks)
    1
    """

    def __init__(self, where: str, shape: Shape) -> None:
        self.where, self.shape = where, shape
        self.left_out: list[LeftOut] = []
        self._score = 1.0
        self._boxes: list[Any] = []
        self.bitmaps: list[NDArray[np.bool_]] = []
        self._scores: list[float] = []
        self._classes: list[str] = []
        self._taken = 0
        self._crossed = 0.0

    @contextmanager
    def annotation(self, place: str, name: str = "", score: float = 1.0) -> Iterator[None]:
        """Around the drawing of one annotation; what is wrong with it leaves it out, and the others stay.

        Parameters
        ----------
        place : str
            Which one it is: ``"shape 3"``.
        name : str
            Its class.
        score : float
        """
        before = len(self._boxes)
        self._score = score
        try:
            with parsing("", "draw it again"):
                yield
            if len(self._boxes) == before:
                self.leave_out(place, "not one pixel in the image; draw it again", "empty annotation")
        except InputError as error:
            del self._boxes[before:], self.bitmaps[before:]
            self.leave_out(place, str(error))
        self._scores += [self._score] * (len(self._boxes) - before)
        self._classes += [name] * (len(self._boxes) - before)

    def score(self, score: float) -> None:
        """The score of what was drawn last, where it is only known then."""
        self._score = score

    @property
    def count(self) -> int:
        """How many nuclei there are up to now."""
        return len(self.bitmaps)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each nucleus up to now, int64 (N,)."""
        return np.array([np.count_nonzero(bitmap) for bitmap in self.bitmaps], np.int64)

    @property
    def boxes(self) -> NDArray[np.int32]:
        """Their boxes, int32 (N, 4): x0, y0, x1, y1, end exclusive."""
        return np.array(self._boxes, np.int32).reshape(-1, 4)

    def drop(self, indices: set[int]) -> None:
        """Take nuclei out again."""
        kept = [index for index in range(self.count) if index not in indices]
        self._boxes = [self._boxes[index] for index in kept]
        self.bitmaps = [self.bitmaps[index] for index in kept]
        self._scores = [self._scores[index] for index in kept]
        self._classes = [self._classes[index] for index in kept]

    def leave_out(self, place: str, reason: str, kind: str = "annotation left out") -> None:
        """Leave an annotation out."""
        self.left_out.append(LeftOut(f"{self.where}: {place}", kind, reason))

    def polygons(self, polygons: Sequence[Polygon]) -> None:
        """A nucleus: what lies in any of the polygons, each an outer ring and its holes."""
        self._bounded([ring for polygon in polygons for ring in polygon])
        self._add(*rasterise(polygons, self.shape))

    def even_odd(self, rings: Sequence[Ring]) -> None:
        """A nucleus: what an odd number of rings wind around, as where holes are not told from pieces."""
        x0, y0, x1, y1 = self._bounded(rings)
        inside = np.zeros((y1 - y0, x1 - x0), bool)
        for one in rings:
            inside ^= fill([[one]], (x0, y0, x1, y1))
        self._add(*trim(inside, x0, y0))

    def _bounded(self, rings: Sequence[Ring]) -> tuple[int, int, int, int]:
        """The box of the image around rings, if they can be drawn in bounded memory."""
        points = np.concatenate(rings)
        box = (*np.floor(points.min(axis=0)), *np.ceil(points.max(axis=0)))
        x0, y0, x1, y1 = np.clip(box, 0, self.shape[::-1] * 2).astype(int).tolist()
        self.take_pixels((x1 - x0) * (y1 - y0))
        # Every edge costs the rows that it crosses.
        rows = [np.clip(one[:, 1], 0, self.shape[0]) for one in rings]
        length = sum(np.abs(np.diff(one, append=one[:1])).sum() for one in rows)
        self._crossed += length
        if length > _LONGEST or self._crossed > _LONGEST_OF_ALL:
            raise InputError("an outline that goes up and down too often; draw it again")
        return x0, y0, x1, y1

    def ellipse(self, x: float, y: float, across: float, down: float, turned: float = 0.0) -> None:
        """A nucleus: an ellipse with its centre at (x, y), half its axes, and its turn clockwise in radians."""
        x, y, across, down, turned = map(number, (x, y, across, down, turned))
        across, down = abs(across), abs(down)
        if not across * down > 0:
            raise InputError("an ellipse without area; draw it again")
        cos, sin = math.cos(turned), math.sin(turned)
        reach = math.hypot(across * cos, down * sin), math.hypot(across * sin, down * cos)
        x0, y0, x1, y1 = self._bounded([rectangle(x - reach[0], y - reach[1], x + reach[0], y + reach[1])])
        right, below = np.arange(x0, x1) + 0.5 - x, np.arange(y0, y1)[:, None] + 0.5 - y
        along, aside = right * cos + below * sin, below * cos - right * sin
        self._add(*trim((along / across) ** 2 + (aside / down) ** 2 <= 1, x0, y0))

    def bitmap(self, bitmap: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> None:
        """A nucleus: the set pixels of a bitmap whose top left pixel is (x0, y0); what lies outside is cut off."""
        height, width = self.shape
        inside = bitmap[max(-y0, 0) : max(height - y0, 0), max(-x0, 0) : max(width - x0, 0)]
        self.take_pixels(inside.size)
        self._add(*trim(inside, max(x0, 0), max(y0, 0)))

    def runs(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """A nucleus: runs down the columns; see `maskseg.core.rle`."""
        self.take_pixels(runs_area((starts, lengths), self.shape))
        self._add(*runs_to_crop(starts, lengths, self.shape))

    def _add(self, box: Any, bitmap: NDArray[np.bool_]) -> None:
        if bitmap.size:
            self._boxes.append(box)
            self.bitmaps.append(bitmap)

    def take_pixels(self, pixels: int) -> None:
        """Refuse, before it is made, a mask with a box of so many pixels, if these and those before are too many.

        Raises
        ------
        InputError
        """
        check_pixels(pixels)
        self._taken += pixels
        if self._taken > MOST_MASK_PIXELS:
            raise InputError("its boxes and those before have more pixels than can be held; divide the image")

    def nuclei(self, **fields: Any) -> Nuclei:
        """All that was drawn; `fields` is what else is known of the image."""
        masks = CropMasks(self.shape, self.boxes, self.bitmaps, np.array(self._scores, np.float32))
        return Nuclei(masks, self._classes if any(self._classes) else None, self.left_out, fields)


def ring(points: Any, scale: tuple[float, float] = (1.0, 1.0)) -> Ring:
    """An outline from points as a file has them.

    Parameters
    ----------
    points : list of [x, y] or of [x, y, z]
        Numbers, or texts of numbers.
    scale : (float, float)
        What x and y are multiplied by.

    Raises
    ------
    InputError
        If these are not three points or more.
    """
    if not isinstance(points, list | tuple | np.ndarray) or len(points) < 3:
        count = len(points) if isinstance(points, list | tuple) else "no"
        raise InputError(f"{count} points, an outline has three or more; draw it again")
    try:
        vertices = np.array([(point[0], point[1]) for point in points], np.float64) * scale
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise InputError("a point that is not two numbers; draw it again") from error
    if vertices.shape != (len(points), 2) or not np.isfinite(vertices).all():
        raise InputError("a point that is not two numbers; draw it again")
    if np.abs(vertices).max() > _FARTHEST:
        raise InputError(f"a point at {np.abs(vertices).max():g} pixels; draw it again")
    return vertices


def flat_ring(numbers: Any, scale: tuple[float, float] = (1.0, 1.0)) -> Ring:
    """`ring` of x, y, x, y, ..."""
    if not isinstance(numbers, list | tuple) or len(numbers) % 2:
        raise InputError("points that are not x, y, x, y, ...; draw it again")
    return ring(list(zip(numbers[::2], numbers[1::2], strict=True)), scale)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Ring:
    """Outline of a box, from any two opposite corners."""
    return ring([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def number(value: Any) -> float:
    """A finite number that a file has as 7, 7.5 or "7.5".

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{str(value)[:20]!r} in place of a number; draw it again") from error
    if not math.isfinite(parsed):
        raise InputError(f"{str(value)[:20]!r} in place of a number; draw it again")
    return parsed


def check_pixels(pixels: int) -> None:
    """Refuse, before it is made, a mask with a box of that many pixels.

    Raises
    ------
    InputError
        If it is too large for a nucleus.
    """
    if pixels > MOST_BOX_PIXELS:
        raise InputError(f"a box of {pixels} pixels is too large for a nucleus; draw it again")


def runs_area(runs: Runs, shape: Shape) -> int:
    """Pixels of the box around runs, before it is made."""
    starts, lengths = runs
    if not len(starts):
        return 0
    columns = int((starts[-1] + lengths[-1] - 1) // shape[0] - starts[0] // shape[0]) + 1
    return columns * shape[0]


def text(value: Any) -> str:
    """A name as a text, empty where there is none; 3 and 3.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)[:200] if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
