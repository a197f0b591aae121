"""Images of any size: cut in overlapping tiles, each nucleus owned by one tile, the result that of the whole image.

How tiled comes to equal whole
------------------------------
- One scale and one mapping of the grey values for all tiles, from the whole image. What the network sees lies on one
  grid, the *canvas*: network pixels, counted from the top left of the image (in another view, of that view of the
  image).
- The cores of the tiles cut the canvas in pieces that do not overlap. The network sees the *window* of a tile: its
  core and at least ``context`` pixels around it, from a multiple of the network's stride to another, so that each
  feature lies where it would in the whole image.
- A nucleus belongs to the tile that has the centre of its box in its core: StarDist's responsibility of a block [1]_,
  which takes a corner of the box. As a trained network moves a box by parts of a pixel from one window to another, a
  tile also claims what lies `MARGIN` pixels outside; of two claims to one nucleus `Stitcher` drops one.
- Other views are made window by window as well, and a nucleus is merged with its partners before anything else.
- Overlaps are settled in the order of scores across all seams (`maskseg.inference.stitching`).

It holds for nuclei up to two thirds of the context, for a network that sees no further than the context. A nucleus that
is cut by the edge of a window is reported.

References
----------
.. [1] Weigert, Schmidt, https://github.com/stardist/stardist, ``big.py``, ``Block.is_responsible``.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.core.processes import give_back_memory
from maskseg.imaging.content import content
from maskseg.imaging.exposure import AUTO, Exposure
from maskseg.imaging.scaling import input_scale, scaled_shape
from maskseg.imaging.windows import ArraySource, BackgroundMask, Box, Exposed, Resized, Source
from maskseg.inference.batching import OUT_OF_MEMORY, say_once
from maskseg.inference.predictor import Predictor
from maskseg.inference.rescale import magnification
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.soft_masks import STRIDE, SoftMasks
from maskseg.inference.stitching import Settled, Stitcher, TilePart
from maskseg.inference.tile_grid import CONTEXT, MARGIN, SIDE, SMALL_SIDE, Tiles, Tiling, window_of
from maskseg.inference.tta import PLAIN, SOMETHING, View, merge, views_of

logger = logging.getLogger(__name__)

# Tiles by whose nuclei the magnification of all is chosen.
_SAMPLE = 9


@runtime_checkable
class TiledPredictor(Predictor, Protocol):
    """A predictor that can be asked for parts of its canvas, and so for images of any size.

    Attributes
    ----------
    settings : PostprocessSettings
    tiles : Tiles
    """

    settings: PostprocessSettings
    tiles: Tiles

    def canvas_shape(self, shape: tuple[int, int], magnify: float = 1.0) -> tuple[int, int]:
        """Height and width of the zero-padded input for an image that has `shape` in network pixels."""
        ...

    def exposure_of(self, source: Source, scale: float | None = None) -> Exposure:
        """What is done to the values of an image, of which a pixel may be so many network pixels."""
        ...

    def on_canvas(self, canvas: NDArray[np.uint8]) -> SoftMasks:
        """What the network finds in a part of its canvas, uint8 (H, W, 3), in pixels of that part."""
        ...


class Tally(NamedTuple):
    """How many nuclei a tile claims, and how many of them reach the edge of what the network saw."""

    nuclei: int
    cut: int


class TiledImage:
    """A large image on its way through the network.

    Parameters
    ----------
    predictor : TiledPredictor
    source : Source
        Read window by window.
    parts : Path
        Folder for one file a tile; tiles that have one are not predicted again.
    tta : str, optional
        See `Predictor.segment`.
    side, context : int
        See `Tiling`.
    magnify : float, optional
        Times the scale of the config; found by `magnification` where not given.
    exposure : Exposure, optional
        What is done to the values of the image; found from the whole of it where not given.
    share : Share, optional
        Predicts tiles elsewhere, so that their files are in `parts` as those of `tally` would be.

    Attributes
    ----------
    magnify : float
        What the tiles are predicted at.
    side : int
        Of the tiles; it falls where the memory is too small.

    Examples
    --------
    >>> image = TiledImage(load_model(), open_source("slide.svs"), Path("parts"))  # doctest: +SKIP
    >>> image.predict()  # doctest: +SKIP
    >>> for masks, rows in image.settled():  # doctest: +SKIP
    ...     writer.write(masks)
    """

    def __init__(
        self,
        predictor: TiledPredictor,
        source: Source,
        parts: Path,
        tta: str | None = None,
        side: int = SIDE,
        context: int = CONTEXT,
        magnify: float | None = None,
        exposure: Exposure | None = None,
        share: Share | None = None,
    ) -> None:
        if side < STRIDE or context < 2 * MARGIN:
            raise InputError(
                f"tiles of {side} pixels with {context} around them are too small; give at least "
                f"{STRIDE} and {2 * MARGIN}"
            )
        self.predictor, self.source, self.parts = predictor, source, Path(parts)
        self.views = views_of(predictor.settings.tta if tta is None else tta)
        self.side, self.context = side, context
        self.magnify, self._given = 1.0, magnify
        self._exposure, self._share = exposure, share
        self._background = BackgroundMask(source.preview, source.shape)

    def predict(self) -> int:
        """Run the network on all tiles that are still to do; how many nuclei they claim, which is at least the result.

        If nothing is left of them after the cleaning, once more as the settings say. Where the memory is too small for
        a tile, all are smaller.
        """
        try:
            return self._predict_all()
        except OUT_OF_MEMORY:
            if self.side <= SMALL_SIDE:
                raise
        say_once("the memory is too small for tiles of this size: they are smaller, with the same result")
        self.side = SMALL_SIDE
        return self._predict_all()

    def _predict_all(self) -> int:
        self.magnify = 1.0
        count = self._predict(self._magnification() if self._given is None else self._given)
        retry = self.predictor.settings.retry_canvas
        return count if retry <= 1 or (count and self._finds()) else self._predict(1 / retry)

    def _finds(self) -> bool:
        """Whether there is a nucleus after the cleaning."""
        pixels = 0
        for masks, _ in self.settled():
            pixels += int(masks.areas.sum())
            if pixels >= SOMETHING:
                return True
        return False

    def _magnification(self) -> float:
        """What `magnification` says, by the nuclei of a few tiles, spread evenly over those that are not empty."""
        settings = self.predictor.settings
        expected = self.predictor.cfg.INPUT.NUCLEUS_DIAMETER / self._scale
        if settings.diameter or not expected:
            return magnification(settings, expected)
        full = [tile for tile in range(len(self.tiling)) if not self._empty(tile)]
        some = full[:: -(-len(full) // _SAMPLE) or 1]
        for _ in self._each(some):
            pass
        areas = [TilePart.read(self._path(tile)).masks.areas for tile in some]
        return magnification(settings, expected, np.concatenate([np.zeros(0, np.int64), *areas]))

    def _predict(self, magnify: float) -> int:
        self.magnify, count, cut = magnify, 0, 0
        total = len(self.tiling)
        tallies = self._each(range(total))
        for tally in tqdm(tallies, self.source.name, total, unit="tile", disable=None, leave=False):
            count, cut = count + tally.nuclei, cut + tally.cut
        if cut:
            logger.warning(
                "%s: %d nuclei reach the edge of what the network saw around a tile: raise the overlap of the tiles "
                "(--tile-overlap) from %d to the width of the largest nucleus",
                self.source.name,
                cut,
                self.context,
            )
        return count

    def _each(self, tiles: Sequence[int]) -> Iterator[Tally]:
        """The tallies of tiles, in any order."""
        return self._share(self, tiles) if self._share else self.tally(tiles)

    def tally(self, tiles: Iterable[int]) -> Iterator[Tally]:
        """Predict those tiles that have no file yet; what is to be known of each before all are done."""
        canvas = self._canvas()
        for tile in tiles:
            part = self._done(canvas, tile)
            yield Tally(len(part.masks), part.cut)

    def settled(self) -> Iterator[Settled]:
        """The final nuclei, as soon as they are settled, after `predict`; each once, without overlap."""
        tiling = self.tiling
        nms = self.predictor.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
        stitcher = Stitcher(self.source.shape, self.predictor.settings, nms)
        across, down = self._ratio()
        for tile in range(len(tiling)):
            part = TilePart.read(self._path(tile))
            # A pixel on either side: image pixels are not canvas pixels.
            places = (part.masks.boxes + np.array([-1, -1, 1, 1])) / [across, down, across, down]
            stitcher.add(part, tiling.last_neighbour(places))
            masks = stitcher.settle(tile)
            if tile + 1 == len(tiling):
                rows = self.source.shape[0]
            else:
                rows = min(stitcher.top, int(max(0, tiling.core(tile + 1)[1] - tiling.reach) * down) - 1)
            yield Settled(masks, max(rows, 0))

    @property
    def tiling(self) -> Tiling:
        """The division at the present magnification."""
        shape = scaled_shape(self.source.shape, self._scale * self.magnify)
        return Tiling(shape, self.predictor.canvas_shape(shape, self.magnify), self.side, self.context)

    @property
    def _scale(self) -> float:
        """Network pixels in an image pixel at magnification 1."""
        cfg = self.predictor.cfg.INPUT
        # Never shrunk: what fits the training images in one input would leave nothing of the nuclei of a slide.
        return max(input_scale(self.source.shape, cfg.LONG_SIDE, cfg.SHRINK), 1.0)

    def _ratio(self, view: View = PLAIN) -> tuple[float, float]:
        """Image pixels in a network pixel, across and down in a view."""
        (height, width), (tall, wide) = view.shape(self.source.shape), view.shape(self.tiling.shape)
        return width / wide, height / tall

    @property
    def exposure(self) -> Exposure:
        """What is done to the values of the image before the network sees them, found once."""
        if self._exposure is None:
            cfg = self.predictor.cfg.INPUT
            begin = self._given or magnification(self.predictor.settings, cfg.NUCLEUS_DIAMETER / self._scale)
            self._exposure = self.predictor.exposure_of(self.source, self._scale * begin)
        return self._exposure

    def _canvas(self) -> Source:
        """The image as the network sees it, without the padding."""
        source = Exposed(self.source, self.exposure)
        return source if source.shape == self.tiling.shape else Resized(source, self.tiling.shape)

    def _path(self, tile: int) -> Path:
        return self.parts / f"{self.side}_{self.magnify:g}_{tile:06d}.npz"

    def _done(self, canvas: Source, tile: int) -> TilePart:
        """The part of a tile, from its file if it has one."""
        path = self._path(tile)
        if path.is_file():
            return TilePart.read(path)
        part = self._part(canvas, tile)
        part.write(path)
        # Each tile holds another number of nuclei: over hundreds of them the heap would grow to twice its size.
        give_back_memory()
        return part

    def _empty(self, tile: int) -> bool:
        return self._background.covers(self._in_image(self.tiling.window(tile)))

    def _part(self, canvas: Source, tile: int) -> TilePart:
        settings, tiling = self.predictor.settings, self.tiling
        filled = self._filled(canvas, tile)
        if filled is None:
            return TilePart(np.zeros((0, 4)), CropMasks.empty(self.source.shape))
        boxes, first = self._look(canvas, filled, PLAIN)
        claimed = tiling.claims(tile, boxes)
        kept, masks = merge(first[claimed], self.views[1:], lambda view: self._look(canvas, filled, view)[1], settings)
        boxes = boxes[claimed][kept]
        return TilePart(boxes, masks, self._cut(tiling.around(filled), boxes))

    def _filled(self, canvas: Source, tile: int) -> Box | None:
        """What of the core of a tile may hold nuclei, all that the network has to see with its context; or nothing."""
        if self._empty(tile):
            return None
        core, (height, width) = self.tiling.core(tile), self.tiling.shape
        if self.predictor.cfg.INPUT.NORMALIZE != AUTO:
            # How much a nucleus stands out is not known.
            return core
        (x0, y0, x1, y1), grown = core, np.array(core) + np.array([-MARGIN, -MARGIN, MARGIN, MARGIN])
        left, top, right, bottom = grown.clip(0, [width, height, width, height]).tolist()
        found = content(canvas.read((left, top, right, bottom)))
        if found is None:
            return None
        moved = np.array(found) + np.array([left, top, left, top])
        a, b, c, d = moved.clip([x0, y0, x0, y0], [x1, y1, x1, y1]).tolist()
        return a, b, c, d

    def _look(self, canvas: Source, filled: Box, view: View) -> tuple[NDArray[np.float64], SoftCrops]:
        """What is found in and around a part of a core: boxes in the canvas of the view, probabilities in the image."""
        window = self.tiling.around(filled, view)
        soft = self.predictor.on_canvas(window_of(canvas, window, view))
        boxes = soft.boxes.astype(np.float64) + np.array([*window[:2], *window[:2]])
        # Pasted in coordinates of the window: those of a slide leave few digits for parts of a pixel.
        (across, down), (left, top, right, bottom) = self._ratio(view), self._in_image(window, view)
        crops = SoftCrops.paste(
            soft.masks,
            boxes * [across, down, across, down] - [left, top, left, top],
            (bottom - top, right - left),
            soft.scores,
            soft.classes,
        )
        shape, moved = view.shape(self.source.shape), crops.boxes + np.array([left, top, left, top], np.int32)
        return boxes, view.undo_crops(SoftCrops(shape, moved, crops.crops, crops.scores, crops.classes))

    def _in_image(self, window: Box, view: View = PLAIN) -> Box:
        """A window of the view in pixels of that view of the image."""
        (across, down), (height, width) = self._ratio(view), view.shape(self.source.shape)
        x0, y0, x1, y1 = window
        return (
            int(x0 * across),
            int(y0 * down),
            min(width, int(np.ceil(x1 * across))),
            min(height, int(np.ceil(y1 * down))),
        )

    def _cut(self, window: Box, boxes: NDArray[np.float64]) -> int:
        """How many boxes reach an edge of the window that is no edge of the image."""
        x0, y0, x1, y1 = window
        height, width = self.tiling.shape
        return int(
            (
                ((boxes[:, 0] <= x0 + 1) & (x0 > 0))
                | ((boxes[:, 1] <= y0 + 1) & (y0 > 0))
                | ((boxes[:, 2] >= x1 - 1) & (x1 < width))
                | ((boxes[:, 3] >= y1 - 1) & (y1 < height))
            ).sum()
        )


Share = Callable[[TiledImage, Sequence[int]], Iterator[Tally]]
"""Predicts tiles of an image in other processes; see `maskseg.inference.ray_executor`."""


def segment_in_tiles(
    predictor: TiledPredictor,
    image: NDArray[np.uint8],
    tta: str | None,
    magnify: float | None = None,
    exposure: Exposure | None = None,
) -> CropMasks:
    """`Predictor.segment`, tile by tile.

    Parameters
    ----------
    predictor : TiledPredictor
    image : uint8 array (H, W, 3)
    tta : str, optional
    magnify : float, optional
    exposure : Exposure, optional
        See `TiledImage`.
    """
    with tempfile.TemporaryDirectory() as parts:
        side, context = predictor.tiles.side, predictor.tiles.overlap
        tiled = TiledImage(predictor, ArraySource(image), Path(parts), tta, side, context, magnify, exposure)
        tiled.predict()
        pieces = [settled.masks for settled in tiled.settled()]
    masks = CropMasks.joined(tiled.source.shape, pieces)
    return masks[np.argsort(-masks.scores, kind="stable")]
