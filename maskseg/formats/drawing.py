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
from maskseg.core.outlines import Polygon, Ring, rasterise
from maskseg.core.rle import Runs, runs_to_crop
from maskseg.formats.costs import Costs
from maskseg.formats.reader import LeftOut, Nuclei, Shape
from maskseg.formats.sources import parsing

# A vertex further out is a mistake.
FARTHEST = 1e8
# Pixels of an ellipse that are looked at at once.
_STRIP = 1 << 18


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
        self.costs = Costs(shape)

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
        self.costs.take_rings([ring for polygon in polygons for ring in polygon], self.shape)
        self._add(*rasterise(polygons, self.shape))

    def even_odd(self, rings: Sequence[Ring]) -> None:
        """A nucleus: what an odd number of rings wind around, as where holes are not told from pieces."""
        x0, y0, x1, y1 = self.costs.take_rings(rings, self.shape)
        inside = np.zeros((y1 - y0, x1 - x0), bool)
        for one in rings:
            (left, top, right, bottom), part = rasterise([[one]], self.shape)
            inside[top - y0 : bottom - y0, left - x0 : right - x0] ^= part
        self._add(*trim(inside, x0, y0))

    def ellipse(self, x: float, y: float, across: float, down: float, turned: float = 0.0) -> None:
        """A nucleus: an ellipse with its centre at (x, y), half its axes, and its turn clockwise in radians."""
        x, y, across, down, turned = map(number, (x, y, across, down, turned))
        across, down = abs(across), abs(down)
        if not across * down > 0:
            raise InputError("an ellipse without area; draw it again")
        cos, sin = math.cos(turned), math.sin(turned)
        reach = math.hypot(across * cos, down * sin), math.hypot(across * sin, down * cos)
        around = rectangle(x - reach[0], y - reach[1], x + reach[0], y + reach[1])
        x0, y0, x1, y1 = self.costs.take_rings([around], self.shape)
        right, inside = np.arange(x0, x1) + 0.5 - x, np.zeros((y1 - y0, x1 - x0), bool)
        rows = max(_STRIP // max(x1 - x0, 1), 1)  # at a time, as each pixel takes some numbers
        for top in range(y0, y1, rows):
            below = np.arange(top, min(top + rows, y1))[:, None] + 0.5 - y
            along, aside = right * cos + below * sin, below * cos - right * sin
            inside[top - y0 : top - y0 + rows] = (along / across) ** 2 + (aside / down) ** 2 <= 1
        self._add(*trim(inside, x0, y0))

    def bitmap(self, bitmap: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> None:
        """A nucleus: the set pixels of a bitmap whose top left pixel is (x0, y0); what lies outside is cut off.

        Its pixels are taken from `costs` before it is made.
        """
        height, width = self.shape
        inside = bitmap[max(-y0, 0) : max(height - y0, 0), max(-x0, 0) : max(width - x0, 0)]
        self._add(*trim(inside, max(x0, 0), max(y0, 0)))

    def runs(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """A nucleus: runs down the columns; see `maskseg.core.rle`."""
        take_runs(self.costs, (starts, lengths), self.shape)
        self._add(*runs_to_crop(starts, lengths, self.shape))

    def runs_along_rows(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """A nucleus: runs along the rows, otherwise as `runs`."""
        turned = self.shape[::-1]
        take_runs(self.costs, (starts, lengths), turned)
        (y0, x0, _, _), bitmap = runs_to_crop(starts, lengths, turned)
        self.bitmap(np.ascontiguousarray(bitmap.T), int(x0), int(y0))

    def _add(self, box: Any, bitmap: NDArray[np.bool_]) -> None:
        if bitmap.size:
            self._boxes.append(box)
            self.bitmaps.append(bitmap)

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
    if np.abs(vertices).max() > FARTHEST:
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


def take_runs(costs: Costs, runs: Runs, shape: Shape) -> None:
    """Refuse runs down the columns, before they are a mask, if its box has too many pixels.

    Raises
    ------
    InputError
    """
    starts, lengths = runs
    costs.written(2 * len(starts))
    if len(starts):
        height = shape[0]
        column, row = np.divmod(starts, height)
        columns = int((starts[-1] + lengths[-1] - 1) // height - column[0]) + 1
        low = int((row + lengths).max())
        # What goes on in the next column has the height of the image.
        costs.take_pixels(columns * (height if low > height else low - int(row.min())))


def text(value: Any) -> str:
    """A name as a text, empty where there is none; 3 and 3.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)[:200] if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
