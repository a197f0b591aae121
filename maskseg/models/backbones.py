"""Backbones registered with Detectron2."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone, build_resnet_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from maskseg.models.starts import train_affine

# Channels of a level that are added to those of the finer one at a time.
_CHANNELS = 16


class PooledLevels(nn.Module):
    """Further pyramid levels made by subsampling the last one.

    Detectron2's ``LastLevelMaxPool`` adds exactly one and is wired to ``p5``; an FPN that ends at res4 has no p5.

    Parameters
    ----------
    in_feature : str
        Name of the last level of the FPN, such as ``"p4"``.
    num_levels : int
        Levels to add.
    """

    def __init__(self, in_feature: str, num_levels: int) -> None:
        super().__init__()
        self.in_feature = in_feature
        self.num_levels = num_levels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Levels of half, a quarter ... the size of `x` (N, C, h, w)."""
        levels = []
        for _ in range(self.num_levels):
            x = F.max_pool2d(x, kernel_size=1, stride=2)
            levels.append(x)
        return levels


class FullPrecisionFPN(FPN):
    """FPN whose features leave mixed precision, and which lets go of each level of the backbone once it is used.

    Detectron2's ROIAlign takes its boxes in the type of the features, and bfloat16 rounds a coordinate over 256 to
    two pixels. The numbers are Detectron2's; it holds four times the finest level where this holds two.
    """

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Float32 features of images x (N, 3, H, W)."""
        levels = self.bottom_up(x)
        found: list[Tensor] = []
        above: Tensor | None = None
        for name, lateral, output in zip(self.in_features[::-1], self.lateral_convs, self.output_convs, strict=True):
            own = lateral(levels.pop(name))
            if above is not None:
                _add_enlarged(own, above)
                if self._fuse_type == "avg":
                    own /= 2
            above = own
            found.insert(0, output(own).float())
        found += self.top_block(found[-1])
        return dict(zip(self._out_features, found, strict=True))


def _add_enlarged(own: Tensor, above: Tensor) -> None:
    """Add a level (N, C, h, w) to the one of twice its size; some channels at a time where nothing learns from it."""
    learns = own.requires_grad or torch.jit.is_tracing()
    parts = [(own, above)] if learns else zip(own.split(_CHANNELS, 1), above.split(_CHANNELS, 1), strict=True)
    for into, some in parts:
        into += F.interpolate(some, scale_factor=2.0, mode="nearest")


def build_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """FPN over MODEL.FPN.IN_FEATURES and ``MODEL.FPN.EXTRA_LEVELS`` levels above the last."""
    fpn = cfg.MODEL.FPN
    return FullPrecisionFPN(
        bottom_up=bottom_up,
        in_features=fpn.IN_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=PooledLevels(fpn.IN_FEATURES[-1].replace("res", "p"), fpn.EXTRA_LEVELS),
        fuse_type=fpn.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_nuclei_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's ResNet with an FPN over any of its stages."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    if cfg.MODEL.RESNETS.TRAIN_AFFINE:
        train_affine(bottom_up)
    return build_fpn(cfg, bottom_up)
