"""Prediction in bfloat16 on CPUs that compute in it."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances

from maskseg.models.backbones import FullPrecisionFPN


def in_bfloat16(cfg: CfgNode, model: torch.nn.Module) -> bool:
    """Whether a Mask R-CNN predicts in bfloat16: MODEL.BFLOAT16 says so, and the CPU has instructions for it."""
    return (
        cfg.MODEL.BFLOAT16
        and isinstance(getattr(model, "backbone", None), FullPrecisionFPN)
        and model.device.type == "cpu"
        and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    )


def mixed_inference(model: torch.nn.Module, samples: list[dict[str, Any]]) -> list[Instances]:
    """Detectron2's ``GeneralizedRCNN.inference`` with backbone and mask head in bfloat16.

    Proposals, boxes and scores are made of float32 features in float32: bfloat16 has eight digits, and rounds a
    coordinate over 256 to two pixels.

    Parameters
    ----------
    model : GeneralizedRCNN
        Whose features leave the backbone in float32.
    samples : list of dict
        Each with ``image``, uint8 tensor (3, H, W).
    """
    images = model.preprocess_image(samples)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    found = model.roi_heads._forward_box(features, proposals)
    with torch.autocast("cpu", torch.bfloat16):
        return model.roi_heads.forward_with_given_boxes(features, found)
