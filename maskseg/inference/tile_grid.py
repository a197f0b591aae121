"""Whether an image is cut in tiles, and where: the division of its network pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from maskseg.imaging.windows import Box, Source
from maskseg.inference.soft_masks import STRIDE
from maskseg.inference.tta import PLAIN, View

# Network pixels: side of a tile's core at most, and what the network sees around it. From this side on what is seen
# twice is less than 30 % of an image of any size: (1 + 2 * 128 / 1856) ** 2 = 1.295.
SIDE, CONTEXT = 1856, 128
# The same where the memory has been too small for more.
SMALL_SIDE = 640
# Network pixels outside its core in which a tile still claims nuclei.
MARGIN = 8
# Images of more pixels are predicted in tiles.
LARGE = 2048 * 2048


def in_tiles(shape: tuple[int, int], large: int = LARGE, scale: float = 1.0, magnify: float = 1.0) -> bool:
    """Whether an image is predicted in tiles: where it, or what the network would see of it, has too many pixels.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.
    large : int
        The most pixels of what is predicted in one piece.
    scale, magnify : float
        Network pixels in an image pixel by the config, and times that, see `maskseg.inference.rescale`. What an image
        gains by the config alone does not count: it ends at INPUT.LONG_SIDE.

    Examples
    --------
    >>> in_tiles((2048, 2048)), in_tiles((2000, 3000))
    (False, True)
    >>> in_tiles((1000, 1000), scale=1.0, magnify=3.0)
    True
    """
    pixels = shape[0] * shape[1]
    return pixels > large or (magnify > 1 and pixels * (scale * magnify) ** 2 > large)


@dataclass(frozen=True)
class Tiles:
    """How large images are read and cut.

    Attributes
    ----------
    side, overlap : int
        Core of a tile, and what the network sees around it, in network pixels.
    level : int
        Which size of a slide, 0 being the full one.
    mpp : float or None
        Microns per pixel in which a slide is wanted, in place of a level.
    large : int
        Images of more pixels are cut in tiles.
    """

    side: int = SIDE
    overlap: int = CONTEXT
    level: int = 0
    mpp: float | None = None
    large: int = LARGE


@dataclass(frozen=True)
class Tiling:
    """Division of a canvas in tiles, numbered row by row.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image in network pixels.
    canvas : (int, int)
        The same with the zero padding that the network needs.
    side : int
        The most that a core measures, in network pixels.
    context : int
        What the network sees around the core at least, in network pixels.
    """

    shape: tuple[int, int]
    canvas: tuple[int, int]
    side: int = SIDE
    context: int = CONTEXT

    @cached_property
    def steps(self) -> tuple[int, int]:
        """Height and width of a core: multiples of the stride, as equal as they can be."""
        return _even(self.shape[0], self.side), _even(self.shape[1], self.side)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.steps[0]), -(-self.shape[1] // self.steps[1])

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def core(self, tile: int) -> Box:
        """x0, y0, x1, y1 of a core."""
        row, column = divmod(tile, self.grid[1])
        (down, across), (height, width) = self.steps, self.shape
        return column * across, row * down, min((column + 1) * across, width), min((row + 1) * down, height)

    def window(self, tile: int, view: View = PLAIN) -> Box:
        """x0, y0, x1, y1 of what the network sees, in the canvas of the view."""
        return self.around(self.core(tile), view)

    def around(self, box: Box, view: View = PLAIN) -> Box:
        """The window of a part of a core, in the canvas of the view."""
        x0, y0, x1, y1 = view.box(box, self.shape)
        height, width = view.shape(self.canvas)
        (left, right), (top, bottom) = self._extended(x0, x1, width), self._extended(y0, y1, height)
        return left, top, right, bottom

    def _extended(self, begin: int, end: int, size: int) -> tuple[int, int]:
        return (
            max(0, (begin - self.context) // STRIDE * STRIDE),
            min(size, -(-(end + self.context) // STRIDE) * STRIDE),
        )

    @property
    def seen(self) -> float:
        """Pixels that the network sees in a view, for each pixel of the image."""
        windows = np.array([self.window(tile) for tile in range(len(self))], np.int64)
        return float((windows[:, 2:] - windows[:, :2]).prod(axis=1).sum() / np.prod(self.shape))

    @property
    def reach(self) -> int:
        """How far a window goes beyond its core at most."""
        return self.context + STRIDE

    def claims(self, tile: int, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes (N, 4), in canvas pixels, have their centre in the core or up to `MARGIN` outside."""
        x0, y0, x1, y1 = self.core(tile)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (centre >= np.array([x0, y0]) - MARGIN) & (centre < np.array([x1, y1]) + MARGIN)
        return inside[:, 0] & inside[:, 1]

    def last_neighbour(self, boxes: NDArray[np.float64]) -> NDArray[np.int64]:
        """For boxes (N, 4) in canvas pixels the last tile whose nuclei can meet them."""
        down = ((boxes[:, 3] + self.reach) // self.steps[0]).clip(0, self.grid[0] - 1)
        across = ((boxes[:, 2] + self.reach) // self.steps[1]).clip(0, self.grid[1] - 1)
        return (down * self.grid[1] + across).astype(np.int64)


def _even(size: int, side: int) -> int:
    """Length of a core: the size divided as evenly as multiples of the stride allow, at most `side` rounded down."""
    side = side // STRIDE * STRIDE
    count = -(-size // side)
    return -(-size // (count * STRIDE)) * STRIDE


def window_of(canvas: Source, window: Box, view: View) -> NDArray[np.uint8]:
    """Pixels of a window of a view of the canvas, uint8 (h, w, 3); zero outside the image."""
    x0, y0, x1, y1 = window
    height, width = view.shape(canvas.shape)
    pixels = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    right, bottom = min(x1, width), min(y1, height)
    read = canvas.read(view.undo_box((x0, y0, right, bottom), canvas.shape))
    pixels[: bottom - y0, : right - x0] = view.apply(read)
    return pixels
