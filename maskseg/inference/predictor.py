"""One image in, its nuclei out: the network, the views, the retry, the post-processing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Instances
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.imaging import intensity
from maskseg.imaging.scaling import channels_first, input_scale, resize_image
from maskseg.inference.tta import View, assemble, views_of
from maskseg.models import tasks
from maskseg.models.checkpoint import model_weights
from maskseg.models.config import to_device
from maskseg.models.precision import in_bfloat16, inference
from maskseg.models.zoo import find_model

logger = logging.getLogger(__name__)

# Network pixels between two cells of the coarsest level: shifts by multiples of it shift all features alike.
STRIDE = 32
# Images of more pixels are predicted in tiles.
LARGE = 2048 * 2048


@dataclass(frozen=True)
class SoftMasks:
    """What the network found in one image, nothing pasted.

    Attributes
    ----------
    boxes : float32 array (N, 4)
        x0, y0, x1, y1 in image pixels.
    scores : float32 array (N,)
    masks : float32 array (N, M, M)
        Probability of each cell of the box.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: NDArray[np.float32]


class _TooLarge(Exception):
    """An image would have more than `LARGE` network pixels."""

    def __init__(self, magnify: float) -> None:
        self.magnify = magnify


class Predictor:
    """A model with its config, ready to segment images.

    Parameters
    ----------
    cfg : CfgNode
        Gives the input rules and the POSTPROCESS keys.
    model : torch.nn.Module
        Detectron2's GeneralizedRCNN with a mask head.

    Attributes
    ----------
    tiled : bool
        Whether large images are predicted tile by tile, see `maskseg.inference.tiling`.
    """

    tiled = True

    def __init__(self, cfg: CfgNode, model: torch.nn.Module) -> None:
        self.cfg = cfg
        self.model = model

    @classmethod
    def from_weights(cls, cfg: CfgNode, weights: str | Path) -> Predictor:
        """Build the network of a config and load its weights, all of them; the predictor of the config's task.

        Raises
        ------
        InputError
            If weights and config do not belong together.
        """
        cfg = cfg.clone()
        cfg.defrost()
        to_device(cfg)
        kind = tasks.part(cfg, "predictor")
        try:
            model = build_model(cfg).to(memory_format=torch.channels_last)
        except Exception as error:  # each part of a network has errors of its own; all mean the same here
            raise InputError(
                f"{weights}: its config describes no network that can be built ({' '.join(str(error).split())[:160]})"
            ) from error
        try:
            model.load_state_dict(model_weights(weights))
        except RuntimeError as error:
            raise InputError(
                f"{weights}: not the weights of this config ({' '.join(str(error).split())[:160]})"
            ) from error
        return (cls if issubclass(cls, kind) else kind)(cfg, model.eval())

    def detect(self, image: NDArray[np.uint8], magnify: float = 1.0) -> SoftMasks:
        """Run the network on one image as it is.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            RGB, already stretched if the config says so.
        magnify : float
            Times the scale of the config; below 1 the image takes a part of the canvas only.
        """
        cfg = self.cfg.INPUT
        height, width = image.shape[:2]
        scaled = resize_image(image, input_scale((height, width), cfg.LONG_SIDE, cfg.SHRINK) * magnify)
        tall, wide = scaled.shape[:2]
        canvas = np.zeros((*self.canvas_shape((tall, wide), magnify), 3), np.uint8)
        canvas[:tall, :wide] = scaled
        found = self.on_canvas(canvas)
        return replace(found, boxes=found.boxes * np.float32([width / wide, height / tall] * 2))

    def canvas_shape(self, shape: tuple[int, int], magnify: float = 1.0) -> tuple[int, int]:
        """Height and width of the zero-padded input for an image that has `shape` in network pixels.

        As in training: up to the square of the method, or up to the stride of the coarsest level.
        """
        cfg = self.cfg.INPUT
        least = cfg.LONG_SIDE if cfg.SHRINK or magnify < 1 else STRIDE
        return _up(shape[0], least), _up(shape[1], least)

    def on_canvas(self, canvas: NDArray[np.uint8]) -> SoftMasks:
        """Run the network on its own pixels, uint8 (H, W, 3) RGB with sides in multiples of `STRIDE`.

        The boxes are in pixels of the canvas.
        """
        return self.on_canvases([canvas])[0]

    def on_canvases(self, canvases: Sequence[NDArray[np.uint8]]) -> list[SoftMasks]:
        """`on_canvas` for several of the same size, which go through the network as one batch."""
        found = self._run([torch.from_numpy(channels_first(canvas, self.cfg.INPUT.FORMAT)) for canvas in canvases])
        return [
            SoftMasks(
                one.pred_boxes.tensor.float().cpu().numpy(),
                one.scores.float().cpu().numpy(),
                one.pred_masks[:, 0].float().cpu().numpy(),
            )
            for one in found
        ]

    @torch.inference_mode()
    def _run(self, canvases: list[torch.Tensor]) -> list[Instances]:
        """What the network finds in canvases, uint8 tensors (3, H, W), with soft masks that are not pasted."""
        samples = [{"image": canvas} for canvas in canvases]
        if isinstance(self.model, GeneralizedRCNN):
            found = inference(self.model, samples, in_bfloat16(self.cfg, self.model))
        else:
            found = self.model.inference(samples, do_postprocess=False)
        limit = self.model.roi_heads.box_predictor.test_topk_per_image
        if 0 <= limit <= max(map(len, found)):
            logger.warning("an image holds %d nuclei or more: set TEST.DETECTIONS_PER_IMAGE to -1 for all", limit)
        return found

    def look(self, image: NDArray[np.uint8], view: View, magnify: float = 1.0) -> SoftCrops:
        """Mask probabilities that the network finds in a view of the image; in the image's own coordinates."""
        soft = self.detect(np.ascontiguousarray(view.apply(image)), magnify)
        return view.undo_crops(SoftCrops.paste(soft.masks, soft.boxes, view.shape(image.shape[:2]), soft.scores))

    def segment(self, image: NDArray[np.uint8], tta: str | None = None) -> CropMasks:
        """The nuclei of one image.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            RGB, as `maskseg.imaging.reading.read_image` gives it.
        tta : {"none", "flip", "d4"}, optional
            Views whose masks are merged: the image alone, its mirror image too, or all eight symmetries of the square;
            the config's ``POSTPROCESS.TTA`` where not given.

        Returns
        -------
        CropMasks
            By falling score, without overlap.
        """
        rules = self.cfg.POSTPROCESS
        views = views_of(rules.TTA if tta is None else tta)
        stretched = intensity.stretch(image) if self.cfg.INPUT.STRETCH else image
        shape, cfg = image.shape[:2], self.cfg.INPUT
        scale = input_scale(shape, cfg.LONG_SIDE, cfg.SHRINK)

        def look(view: View, magnify: float) -> SoftCrops:
            if magnify > 1 and shape[0] * shape[1] * (scale * magnify) ** 2 > LARGE:
                # Tiles are never shrunk by the scale of the config.
                raise _TooLarge(magnify * min(scale, 1.0))
            return self.look(stretched, view, magnify)

        try:
            return assemble(look, rules, views, cfg.NUCLEUS_DIAMETER / scale)
        except _TooLarge as error:
            from maskseg.inference.tiling import segment_in_tiles

            return segment_in_tiles(self, image, tta, error.magnify)


def load_model(name: str | Path = "nuclei", overrides: list[str] | None = None) -> Predictor:
    """A model ready to segment images; see `maskseg.models.zoo.find_model` for its names.

    Examples
    --------
    >>> model = load_model("runs/nuclei_R_18_FPN")  # doctest: +SKIP
    >>> masks = model.segment(image)  # doctest: +SKIP
    """
    model = find_model(name, overrides)
    return Predictor.from_weights(model.cfg, model.weights)


def _up(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step
