"""Prediction with any number of nuclei, and in half precision on hardware that computes in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.structures import ImageList, Instances
from torch import Tensor

from maskseg.models.backbones import FullPrecisionFPN
from maskseg.models.suppression import overlapped

# What goes through a head at once. One takes 0.1 MB in the box head and 0.5 MB in the mask head of the small model, and
# what of it leaves the cache takes a quarter more time.
_PROPOSALS, _MASKS = 1024, 64
# Proposals of an image, by falling objectness, that are looked at in a round, and the rounds in a row after which no
# more are looked at if they showed nothing new. One round alone loses pale nuclei beside many dark ones, whose doubles
# come before them.
_ROUND, _QUIET_ROUNDS = 1024, 4
# Numbers are made multiples of these: on a CPU torch keeps up to a megabyte for each shape that a layer has ever seen.
_PROPOSALS_STEP, _MASKS_STEP = 32, 8


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; a CPU without them takes several times as long in it."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return True


def half_precision(cfg: CfgNode, model: GeneralizedRCNN) -> torch.dtype | None:
    """What a Mask R-CNN predicts in instead of float32, where MODEL.BFLOAT16 says so and the hardware computes in it.

    On a CPU bfloat16; on a GPU of NVIDIA, from the seventh generation (Volta) on, float16, which has three binary
    digits more. Not for networks whose features do not leave the backbone in float32.
    """
    if not cfg.MODEL.BFLOAT16 or not isinstance(getattr(model, "backbone", None), FullPrecisionFPN):
        return None
    if model.device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(model.device) >= (7, 0) else None
    return torch.bfloat16 if model.device.type == "cpu" and computes_in_bfloat16(model.device) else None


def _in(model: GeneralizedRCNN, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Convolutions and linear layers compute in this type; in that of their weights where it is None."""
    if model.device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(model.device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def inference(
    model: GeneralizedRCNN, samples: list[dict[str, Any]], half: torch.dtype | None = None
) -> list[Instances]:
    """Detectron2's ``GeneralizedRCNN.inference`` without postprocessing, in memory that does not follow the nuclei.

    Both heads take some boxes after the other. In half precision are the convolutions and the hidden layers of the box
    head. Coordinates and scores are in float32, and so are the features that are pooled: bfloat16 has eight digits, and
    rounds a coordinate over 256 to two pixels.

    Parameters
    ----------
    model : GeneralizedRCNN
        For half precision one whose features leave the backbone in float32.
    samples : list of dict
        Each with ``image``, uint8 tensor (3, H, W).
    half : torch.dtype, optional
        See `half_precision`.
    """
    images = _normalized(model, samples)
    with _in(model, half):
        features = model.backbone(images.tensor)
        # Boxes are decoded in float32 of what its convolutions say.
        proposals, _ = model.proposal_generator(images, features)
        # What ROIAlign would do for each head and each piece.
        order = _channels_last if model.device.type == "cpu" else Tensor.contiguous
        features = {name: order(level) for name, level in features.items()}
        detections = _boxes(model.roi_heads, features, proposals)
        pieces = []
        for piece in _pieces(detections, _MASKS):
            filled = model.roi_heads.forward_with_given_boxes(features, _filled(piece, _MASKS_STEP))
            pieces.append([one[: len(of_image)] for one, of_image in zip(filled, piece, strict=True)])
    return [Instances.cat(list(of_image)) for of_image in zip(*pieces, strict=True)]


def _normalized(model: GeneralizedRCNN, samples: list[dict[str, Any]]) -> ImageList:
    """Detectron2's ``GeneralizedRCNN.preprocess_image``, without its copies where nothing is to be padded."""
    shapes, step = {sample["image"].shape for sample in samples}, model.backbone.size_divisibility
    if len(shapes) > 1 or any(side % step for shape in shapes for side in shape[1:]):
        return model.preprocess_image(samples)
    pixels = torch.stack([sample["image"].to(model.device) for sample in samples]).float()
    return ImageList(pixels.sub_(model.pixel_mean).div_(model.pixel_std), [tuple(pixels.shape[2:])] * len(pixels))


def _channels_last(features: Tensor) -> Tensor:
    """Features (N, C, H, W) with their channels side by side; as matrices, which torch copies four times as fast."""
    if features.is_contiguous(memory_format=torch.channels_last):
        return features
    rows = features.new_empty(len(features), features.shape[2:].numel(), features.shape[1])
    for of_image, row in zip(features, rows, strict=True):
        row.copy_(of_image.flatten(1).t())
    return rows.transpose(1, 2).unflatten(2, features.shape[2:])


def _boxes(heads: StandardROIHeads, features: dict[str, Tensor], proposals: list[Instances]) -> list[Instances]:
    """Detectron2's ``StandardROIHeads._forward_box``, for some proposals after the other; the last layer in float32.

    By falling objectness, as long as nuclei are found: an image is done with when `_QUIET_ROUNDS` rounds have shown
    nothing that was not found before. So a network that calls half of a tissue an object costs no more than one that is
    certain, and no number of nuclei is too large.
    """
    if type(heads)._forward_box is not StandardROIHeads._forward_box:
        with torch.autocast(features[heads.box_in_features[0]].device.type, enabled=False):
            return heads._forward_box(features, proposals)
    levels = [features[name] for name in heads.box_in_features]
    looked: list[list[tuple[Tensor, Tensor]]] = [[] for _ in proposals]
    kept_boxes = [boxes.proposal_boxes.tensor[:0] for boxes in proposals]
    going, quiet = [True] * len(proposals), [0] * len(proposals)
    for begin in range(0, max(*map(len, proposals), 1), _ROUND):
        some = [boxes[begin : begin + _ROUND if go else 0] for boxes, go in zip(proposals, going, strict=True)]
        for i, (one, predicted) in enumerate(zip(some, _predicted(heads, levels, some), strict=True)):
            looked[i].append(predicted)
            going[i] = going[i] and len(proposals[i]) > begin + _ROUND
            if going[i]:
                more = _sure_boxes(heads.box_predictor, predicted, one)
                known = overlapped(more, kept_boxes[i], heads.box_predictor.test_nms_thresh)
                quiet[i] = quiet[i] + 1 if bool(known.all()) else 0
                going[i] = quiet[i] < _QUIET_ROUNDS
                kept_boxes[i] = torch.cat([kept_boxes[i], more])
        if not any(going):
            break
    of_images = [[torch.cat(parts) for parts in zip(*rounds, strict=True)] for rounds in looked]
    scores, deltas = (torch.cat(parts) for parts in zip(*of_images, strict=True))
    seen = [boxes[: len(one)] for boxes, (one, _) in zip(proposals, of_images, strict=True)]
    return heads.box_predictor.inference((scores, deltas), seen)[0]


def _predicted(
    heads: StandardROIHeads, levels: list[Tensor], proposals: list[Instances]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and deltas that the box head gives to the proposals of each image."""
    predicted = []
    for piece in _pieces(proposals, _PROPOSALS):
        boxes = [of_image.proposal_boxes for of_image in _filled(piece, _PROPOSALS_STEP)]
        hidden = heads.box_head(heads.box_pooler(levels, boxes))[: sum(map(len, piece))]
        with torch.autocast(hidden.device.type, enabled=False):
            predicted.append(heads.box_predictor(hidden.float()))
    scores, deltas = (torch.cat(parts) for parts in zip(*predicted, strict=True))
    lengths = [len(of_image) for of_image in proposals]
    return zip(scores.split(lengths), deltas.split(lengths), strict=True)


def _sure_boxes(predictor: FastRCNNOutputLayers, predicted: tuple[Tensor, Tensor], proposals: Instances) -> Tensor:
    """The boxes (N, 4) of one image whose score is over the threshold."""
    (scores,), (boxes,) = (
        predictor.predict_probs(predicted, [proposals]),
        predictor.predict_boxes(predicted, [proposals]),
    )
    best, kind = scores[:, :-1].max(dim=1)
    boxes = boxes.view(len(boxes), -1, 4)
    boxes = boxes[torch.arange(len(boxes)), kind.clamp(max=boxes.shape[1] - 1)]
    return boxes[best > predictor.test_score_thresh]


def _pieces(instances: list[Instances], size: int) -> Iterator[list[Instances]]:
    """Instances of some images, `size` of all together at a time, in their order; one piece where there are none."""
    begins = [0, *accumulate(map(len, instances))]
    for first in range(0, max(begins[-1], 1), size):
        yield [
            of_image[max(first - begin, 0) : max(first + size - begin, 0)]
            for of_image, begin in zip(instances, begins, strict=False)
        ]


def _filled(piece: list[Instances], step: int) -> list[Instances]:
    """The piece with its last instance repeated until their number is a multiple of `step`."""
    more = -sum(map(len, piece)) % step
    if not more:
        return piece
    last = max(i for i, of_image in enumerate(piece) if len(of_image))
    index = torch.arange(len(piece[last]) + more).clamp(max=len(piece[last]) - 1)
    return [*piece[:last], piece[last][index], *piece[last + 1 :]]
