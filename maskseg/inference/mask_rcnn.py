"""Nuclei by Mask R-CNN: the network, the views, the magnification, and whether an image is predicted in tiles."""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.imaging.exposure import Exposure, exposures
from maskseg.imaging.scaling import channels_first, input_scale, resize_image
from maskseg.imaging.stains import shows_more
from maskseg.imaging.windows import ArraySource, Exposed, Source, busiest, source_samples
from maskseg.inference.batching import OUT_OF_MEMORY, BatchedPredictor, say_once
from maskseg.inference.predictor import OPTIONS
from maskseg.inference.questions import answered, passed_on
from maskseg.inference.rescale import at_pixel_size, magnification
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.soft_masks import STRIDE, SoftMasks
from maskseg.inference.tile_grid import SMALL_SIDE, Tiles, in_tiles
from maskseg.inference.tiling import segment_in_tiles
from maskseg.inference.tta import Look, View, assembly, first_look, views_of
from maskseg.models.convolutions import quicken
from maskseg.models.pooling import pool_by_rows
from maskseg.models.precision import half_precision, inference

logger = logging.getLogger(__name__)


# Side in network pixels of the part of a stained image by which it is chosen how it is seen.
_PART = 512


class MaskRCNNPredictor(BatchedPredictor[SoftMasks]):
    """A Mask R-CNN with its config, ready to segment images.

    Parameters
    ----------
    cfg : CfgNode
        Gives the input rules and the POSTPROCESS keys.
    model : torch.nn.Module
        Detectron2's GeneralizedRCNN with a mask head.

    Attributes
    ----------
    settings : PostprocessSettings
    tiles : Tiles
        How large images are cut.
    """

    title = "Mask R-CNN"
    options = frozenset(OPTIONS)

    def __init__(self, cfg: CfgNode, model: torch.nn.Module) -> None:
        self.cfg = cfg
        pool_by_rows(model)
        quicken(model)
        self.model: Any = model  # to nn.Module every method is a tensor or a module
        self.settings = PostprocessSettings.from_config(cfg)
        self.tiles = Tiles()

    @property
    def class_names(self) -> tuple[str, ...]:
        """MODEL.CLASS_NAMES of the config; numbers of classes that it does not name, and nucleus for a single one."""
        names, count = super().class_names, self.cfg.MODEL.ROI_HEADS.NUM_CLASSES
        names = names if len(self.cfg.MODEL.CLASS_NAMES) or count == 1 else ()
        return (*names, *(str(number) for number in range(len(names) + 1, count + 1)))

    def at_pixel_size(self, microns_per_pixel: float | None, name: str = "image") -> Self:
        """See `Predictor`: nuclei are looked for in the size that they have there (`maskseg.inference.rescale`)."""
        settings = at_pixel_size(self.settings, self.cfg.INPUT, microns_per_pixel, name)
        if settings == self.settings:
            return self
        other = copy.copy(self)
        other.settings = settings
        return other

    def steps(
        self, image: NDArray[np.uint8], tta: str | None = None
    ) -> Generator[NDArray[np.uint8], SoftMasks, CropMasks]:
        """`segment`, by questions to the network; an image in tiles asks it itself.

        An image is predicted in tiles if `in_tiles` says so, of the image as it is or once it is known how much it is
        magnified: the same for an array and for a file of ``maskseg predict``.
        """
        settings, cfg = self.settings, self.cfg.INPUT
        views = views_of(settings.tta if tta is None else tta)
        shape = image.shape[:2]
        scale = input_scale(shape, cfg.LONG_SIDE, cfg.SHRINK)
        if in_tiles(shape, self.tiles.large):
            return segment_in_tiles(self, image, tta)
        expected = cfg.NUCLEUS_DIAMETER / scale
        begin = magnification(settings, expected)
        if in_tiles(shape, self.tiles.large, scale, begin):
            # Tiles are never shrunk by the scale of the config.
            return segment_in_tiles(self, image, tta, begin * min(scale, 1.0))
        way, known = yield from self._exposing(ArraySource(image), scale * begin)
        seen = way.of(image)

        def ask(asked: Look) -> Generator[NDArray[np.uint8], SoftMasks, SoftCrops]:
            at_hand = known if asked == Look(views[0], begin) else None
            return self._looking(seen, *asked, at_hand)

        magnify, first = yield from passed_on(first_look(settings, views, expected), ask)
        if in_tiles(shape, self.tiles.large, scale, magnify):
            return segment_in_tiles(self, image, tta, magnify * min(scale, 1.0), way)
        return (yield from passed_on(assembly(settings, views, magnify, first), ask))

    def exposure_of(self, source: Source, scale: float | None = None) -> Exposure:
        """How an image is seen by the network; stained tissue as a part of it shows more nuclei.

        Parameters
        ----------
        source : Source
        scale : float, optional
            Network pixels in a pixel of it; as at its first look where not given.
        """
        if scale is None:
            inputs = self.cfg.INPUT
            scale = input_scale(source.shape, inputs.LONG_SIDE, inputs.SHRINK)
            scale *= magnification(self.settings, inputs.NUCLEUS_DIAMETER / scale)
        return answered(self._exposing(source, scale), self.on_canvas)[0]

    def _exposing(
        self, source: Source, scale: float
    ) -> Generator[NDArray[np.uint8], SoftMasks, tuple[Exposure, SoftMasks | None]]:
        """`exposure_of`, and what was found in the image if that part is all of it."""
        cfg, found = self.cfg.INPUT, []
        samples = cache(lambda: source_samples(source, cfg.NORMALIZE))
        ways = exposures(samples, cfg.NORMALIZE, cfg.STAINED)
        if len(ways) == 1:
            return ways[0], None
        # As dark as can be is no nucleus but what was not scanned, or the ink of a pen.
        density = ways[1].unstretched().of(samples().plain)[..., 0]
        part = busiest(np.where(density < 255, density, 0), source.shape, round(_PART / scale))
        magnify = scale / input_scale(source.shape, cfg.LONG_SIDE, cfg.SHRINK)
        for way in ways:
            shown = np.ascontiguousarray(Exposed(source, way).read(part))
            found.append((yield from self._detecting(shown, magnify, source.shape)))
        better = shows_more(*(len(one.boxes) for one in found))
        return ways[better], found[better] if part == (0, 0, *source.shape[::-1]) else None

    def segment_batch(self, images: Sequence[NDArray[np.uint8]], tta: str | None = None) -> list[CropMasks]:
        """See `Predictor`; an image for which the memory is too small as a whole is predicted in tiles."""
        try:
            return super().segment_batch(images, tta)
        except OUT_OF_MEMORY:
            # One at a time first: of several images perhaps only one is too large.
            if len(images) > 1:
                return [self.segment_batch([image], tta)[0] for image in images]
            (image,) = images
            # Tiles are never shrunk by the scale of the config, and no help where the whole is not larger than one.
            scale = input_scale(image.shape[:2], self.cfg.INPUT.LONG_SIDE, self.cfg.INPUT.SHRINK)
            if scale < 1 or max(image.shape[:2]) * scale <= min(self.tiles.side, SMALL_SIDE):
                raise
        say_once("the memory is too small for whole images: they are predicted in tiles, with the same result")
        return [segment_in_tiles(self, image, tta)]

    def look(self, image: NDArray[np.uint8], view: View, magnify: float = 1.0) -> SoftCrops:
        """Mask probabilities that the network finds in a view of the image; in the image's own coordinates."""
        return answered(self._looking(image, view, magnify), self.on_canvas)

    def _looking(
        self, image: NDArray[np.uint8], view: View, magnify: float, known: SoftMasks | None = None
    ) -> Generator[NDArray[np.uint8], SoftMasks, SoftCrops]:
        soft = known
        if soft is None:
            soft = yield from self._detecting(np.ascontiguousarray(view.apply(image)), magnify)
        shape = view.shape(image.shape[:2])
        return view.undo_crops(SoftCrops.paste(soft.masks, soft.boxes, shape, soft.scores, soft.classes))

    def detect(self, image: NDArray[np.uint8], magnify: float = 1.0) -> SoftMasks:
        """Run the network on one image as it is.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            RGB, already normalized as the config says.
        magnify : float
            Times the scale of the config; below 1 the image takes a part of the canvas only.
        """
        return answered(self._detecting(image, magnify), self.on_canvas)

    def _detecting(
        self, image: NDArray[np.uint8], magnify: float, whole: tuple[int, int] | None = None
    ) -> Generator[NDArray[np.uint8], SoftMasks, SoftMasks]:
        """`detect`, of an image or of a part of one of another shape, which has its scale."""
        cfg = self.cfg.INPUT
        height, width = image.shape[:2]
        scaled = resize_image(image, input_scale(whole or (height, width), cfg.LONG_SIDE, cfg.SHRINK) * magnify)
        tall, wide = scaled.shape[:2]
        canvas = np.zeros((*self.canvas_shape((tall, wide), magnify), 3), np.uint8)
        canvas[:tall, :wide] = scaled
        detections = yield canvas
        return replace(detections, boxes=detections.boxes * np.array([width / wide, height / tall] * 2, np.float32))

    def canvas_shape(self, shape: tuple[int, int], magnify: float = 1.0) -> tuple[int, int]:
        """Height and width of the zero-padded input for an image that has `shape` in network pixels.

        As in training: up to the square of the method, or up to the stride of the coarsest level.
        """
        cfg = self.cfg.INPUT
        least = cfg.LONG_SIDE if cfg.SHRINK or magnify < 1 else STRIDE
        return _up(shape[0], least), _up(shape[1], least)

    def on_canvases(self, canvases: Sequence[NDArray[np.uint8]]) -> list[SoftMasks]:
        """Run the network on its own pixels, as one batch.

        Parameters
        ----------
        canvases : sequence of uint8 arrays (H, W, 3)
            RGB, of one size, with sides in multiples of `STRIDE`.

        Returns
        -------
        list of SoftMasks
            The boxes are in pixels of the canvas.
        """
        detections = self._run([torch.from_numpy(channels_first(canvas, self.cfg.INPUT.FORMAT)) for canvas in canvases])
        return [
            SoftMasks(
                one.pred_boxes.tensor.float().cpu().numpy(),
                one.scores.float().cpu().numpy(),
                one.pred_masks[:, 0].float().cpu().numpy(),
                one.pred_classes.int().cpu().numpy() if one.has("pred_classes") else None,  # type: ignore[arg-type]
            )
            for one in detections
        ]

    @torch.inference_mode()
    def _run(self, canvases: list[torch.Tensor]) -> list[Instances]:
        """What the network finds in canvases, uint8 tensors (3, H, W), with soft masks that are not pasted."""
        samples = [{"image": canvas} for canvas in canvases]
        if isinstance(self.model, GeneralizedRCNN):
            detections = inference(self.model, samples, half_precision(self.cfg, self.model))
        else:
            detections = self.model.inference(samples, do_postprocess=False)
        limit = self.model.roi_heads.box_predictor.test_topk_per_image
        if 0 <= limit <= max(map(len, detections)):
            logger.warning("an image holds %d nuclei or more: set TEST.DETECTIONS_PER_IMAGE to -1 for all", limit)
        return detections


def _up(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step
