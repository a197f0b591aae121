"""What a person points at, outlined by the network: the one nucleus in a box, or at a point."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops, trim
from maskseg.imaging.scaling import channels_first, resize_image
from maskseg.imaging.windows import ArraySource
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.postprocess import fill_and_close, without_fragments
from maskseg.inference.predictor import Predictor
from maskseg.inference.soft_masks import STRIDE

Place = tuple[float, float, float, float]

# Where a person points the network need not be sure by itself.
_SURE = 0.05
# Magnifications beyond these show the network nothing new.
_LEAST, _MOST = 1 / 8, 8.0


def in_box(predictor: Predictor, image: NDArray[Any], box: Place) -> CropMasks:
    """The nucleus that fills a box, from the mask head alone.

    Parameters
    ----------
    predictor : Predictor
    image : uint8 array (H, W, 3)
        The part of the image around the box, as `Predictor.segment` takes it.
    box : 4 floats
        x0, y0, x1, y1 in its pixels.

    Returns
    -------
    CropMasks
        One mask.

    Raises
    ------
    InputError
        If the network sees nothing there.
    """
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    if _knows_boxes(predictor):
        return _one(predictor, _mask_of_box(predictor, image.shape, *_canvas(predictor, image, size), box), "box")
    masks = predictor.segment(image)
    return _best(masks, [_iou(place, box) for place in masks.boxes.tolist()], "box")


def at_point(predictor: Predictor, image: NDArray[Any], point: tuple[float, float], size: float) -> CropMasks:
    """The nucleus that has a point.

    Parameters
    ----------
    predictor : Predictor
    image : uint8 array (H, W, 3)
        The part of the image around the point, as `Predictor.segment` takes it.
    point : 2 floats
        x, y in its pixels.
    size : float
        What the diameter of the nuclei is about, in pixels.
    """
    if not _knows_boxes(predictor):
        nuclei = predictor.segment(image)
        return _best(nuclei, _has(nuclei, point), "point")
    canvas, scale = _canvas(predictor, image, size)
    model: Any = predictor.model
    heads = model.roi_heads.box_predictor
    before = heads.test_score_thresh
    heads.test_score_thresh = _SURE
    try:
        soft = predictor.on_canvas(canvas)
    finally:
        heads.test_score_thresh = before
    boxes = soft.boxes / np.float32(scale)
    found = SoftCrops.paste(soft.masks, boxes, image.shape[:2], soft.scores, soft.classes)
    masks = found.masks(predictor.settings.mask_threshold)
    score = [has * float(one) for has, one in zip(_has(masks, point), masks.scores, strict=True)]
    if max(score, default=0) > 0:
        return _one(predictor, masks[[int(np.argmax(score))]], "point")
    x, y = point
    box = (x - size * 0.6, y - size * 0.6, x + size * 0.6, y + size * 0.6)
    guess = _mask_of_box(predictor, image.shape, canvas, scale, box)
    return _one(predictor, guess if max(_has(guess, point)) else guess[[]], "point")


def _knows_boxes(predictor: Predictor) -> TypeGuard[MaskRCNNPredictor]:
    """Whether the mask head can be asked by itself."""
    return isinstance(predictor, MaskRCNNPredictor) and isinstance(predictor.model, GeneralizedRCNN)


def _canvas(predictor: MaskRCNNPredictor, image: NDArray[Any], size: float) -> tuple[NDArray[np.uint8], float]:
    """What the network sees, nuclei of `size` image pixels as large as in its training, and network pixels a pixel."""
    cfg = predictor.cfg.INPUT
    scale = float(np.clip((cfg.NUCLEUS_DIAMETER or size) / max(size, 1.0), _LEAST, _MOST))
    seen = predictor.exposure_of(ArraySource(image), scale).of(image)
    scaled = resize_image(np.ascontiguousarray(seen), scale)
    height, width = scaled.shape[:2]
    canvas = np.zeros((-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, 3), np.uint8)
    canvas[:height, :width] = scaled
    return canvas, scale


@torch.inference_mode()
def _mask_of_box(
    predictor: MaskRCNNPredictor, shape: tuple[int, ...], canvas: NDArray[np.uint8], scale: float, box: Place
) -> CropMasks:
    """What is in a box of an image of some shape, (H, W) or more, which is seen as a canvas."""
    given = Instances(canvas.shape[:2])
    given.pred_boxes = Boxes(torch.tensor([box], dtype=torch.float32) * scale)
    given.pred_classes = torch.zeros(1, dtype=torch.int64)
    sample = {"image": torch.from_numpy(channels_first(canvas, predictor.cfg.INPUT.FORMAT))}
    model: Any = predictor.model
    features = model.backbone(model.preprocess_image([sample]).tensor)
    (found,) = model.roi_heads.forward_with_given_boxes(features, [given])
    soft = found.pred_masks[:, 0].float().cpu().numpy()
    crops = SoftCrops.paste(soft, np.array([box], np.float32), (shape[0], shape[1]))
    masks = crops.masks(predictor.settings.mask_threshold)
    return replace(masks, classes=np.array([_class_of_box(model.roi_heads, features, given)], np.int32))


def _class_of_box(heads: Any, features: dict[str, torch.Tensor], given: Instances) -> int:
    """The likeliest class of what is in a box, by the box head."""
    if heads.num_classes == 1:
        return 0
    pooled = heads.box_pooler([features[name] for name in heads.box_in_features], [given.pred_boxes])
    scores, _ = heads.box_predictor(heads.box_head(pooled))
    return int(scores[0, :-1].argmax())


def _has(masks: CropMasks, point: tuple[float, float]) -> list[bool]:
    """Which masks have the pixel of a point."""
    x, y = int(point[0]), int(point[1])
    return [
        bool(x0 <= x < x1 and y0 <= y < y1 and bitmap[y - y0, x - x0])
        for (x0, y0, x1, y1), bitmap in zip(masks.boxes.tolist(), masks.bitmaps, strict=True)
    ]


def _iou(a: list[int], b: Place) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(across, 0) * max(down, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _best(masks: CropMasks, worth: list[float] | list[bool], what: str) -> CropMasks:
    if max(worth, default=0) <= 0:
        raise _nothing(what)
    return masks[[int(np.argmax(worth))]]


def _one(predictor: MaskRCNNPredictor, masks: CropMasks, what: str) -> CropMasks:
    """The one mask, filled, closed and in one piece."""
    if not len(masks) or not masks.bitmaps[0].any():
        raise _nothing(what)
    bitmap = without_fragments(fill_and_close(masks.bitmaps[0], predictor.settings), "keep_largest")
    box, bitmap = trim(bitmap, *masks.boxes[0, :2].tolist())
    return CropMasks(masks.shape, np.array([box], np.int32), [bitmap], masks.scores[:1], masks.classes[:1])


def _nothing(what: str) -> InputError:
    return InputError(
        "the network sees no nucleus in this box: draw its outline"
        if what == "box"
        else "the network sees no nucleus at this point: drag a box around it, or draw its outline"
    )
