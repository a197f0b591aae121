"""One image in, its nuclei out, by a network that says for each pixel how probably it is foreground."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.imaging.exposure import normalized
from maskseg.imaging.scaling import channels_first, input_scale, resize_image, to_shape
from maskseg.inference.batching import BatchedPredictor
from maskseg.inference.postprocess import clean
from maskseg.inference.questions import answered
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.soft_masks import STRIDE
from maskseg.inference.tta import views_of
from maskseg.projects.unet.instances import instances

if TYPE_CHECKING:
    from maskseg.projects.unet.network import UNet

# Larger images go through the network in windows: pixels that are kept of each, and those around them, as many as
# five levels of two convolutions see at most.
_CORE, _CONTEXT = 1024, 128


def on_canvas(image: NDArray[np.uint8], cfg: CfgNode) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """An image (H, W, 3) as the network sees it, and the height and width that it has at the top left of its canvas.

    The canvas is black around it, up to a square of INPUT.LONG_SIDE where the config shrinks, else to the stride. With
    INPUT.SIZE the image fills it.
    """
    if cfg.INPUT.SIZE:
        height, width = cfg.INPUT.SIZE
        return to_shape(image, (height, width)), (height, width)
    long_side, shrink = cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK
    scaled = resize_image(image, input_scale(image.shape[:2], long_side, shrink))
    height, width = scaled.shape[:2]
    step = long_side if shrink else STRIDE
    canvas = np.zeros((-(-height // step) * step, -(-width // step) * step, 3), np.uint8)
    canvas[:height, :width] = scaled
    return canvas, (height, width)


class PixelPredictor(BatchedPredictor[NDArray[np.float32]]):
    """A U-Net with its config, ready to segment images.

    Images of any size go through the network in windows, but are read, and their masks found, in one piece: it knows
    neither tiles nor levels. Nor does it magnify.

    Parameters
    ----------
    cfg : CfgNode
    model : UNet
        Or another module with ``logits``.
    """

    title = "U-Net"
    options = frozenset({"tta", "normalize", "microns-per-pixel", "expand", "texture", "cluster"})

    def __init__(self, cfg: CfgNode, model: UNet) -> None:
        self.cfg = cfg
        self.model = model
        self.settings = PostprocessSettings.from_config(cfg)

    def steps(
        self, image: NDArray[np.uint8], tta: str | None = None
    ) -> Generator[NDArray[np.uint8], NDArray[np.float32], CropMasks]:
        """`segment`, by questions to the network. The probabilities of the views are averaged."""
        image = normalized(image, self.cfg.INPUT.NORMALIZE, self.cfg.INPUT.STAINED)
        views = views_of(self.settings.tta if tta is None else tta)
        total: NDArray[Any] | float = 0.0
        for view in views:
            total = total + view.undo((yield from self._probability(view.apply(image))))
        return self.masks(np.ascontiguousarray(total / len(views)))

    def masks(self, probability: NDArray[np.float32]) -> CropMasks:
        """The instances, by falling score and without overlap, of a map of probabilities (H, W)."""
        settings = self.settings
        return clean(instances(probability, settings.mask_threshold, settings.instances, settings.neck), settings)

    def probability(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How probably each pixel is foreground, float32 (H, W), of an image (H, W, 3) that is stretched already."""
        return answered(self._probability(image), self.on_canvas)

    def _probability(
        self, image: NDArray[np.uint8]
    ) -> Generator[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        height, width = image.shape[:2]
        canvas, (tall, wide) = on_canvas(image, self.cfg)
        probability = np.empty(canvas.shape[:2], np.float32)
        for top in range(0, len(canvas), _CORE):
            for left in range(0, len(canvas[0]), _CORE):
                y0, x0 = max(0, top - _CONTEXT), max(0, left - _CONTEXT)
                window = yield canvas[y0 : top + _CORE + _CONTEXT, x0 : left + _CORE + _CONTEXT]
                place = probability[top : top + _CORE, left : left + _CORE]
                place[:] = window[top - y0 :, left - x0 :][: place.shape[0], : place.shape[1]]
        # Averaging where it shrinks, as the image was where it shrank.
        how = cv2.INTER_AREA if tall > height else cv2.INTER_LINEAR
        resized: NDArray[Any] = cv2.resize(probability[:tall, :wide], (width, height), interpolation=how)
        return resized

    @torch.inference_mode()
    def on_canvases(self, canvases: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """How probably each pixel of canvases of one size is foreground."""
        images = np.stack([channels_first(canvas, self.cfg.INPUT.FORMAT) for canvas in canvases])
        return list(self.model.logits(torch.from_numpy(images))[:, 0].sigmoid().cpu().numpy())
