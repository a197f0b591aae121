"""Pre-activation ResNet (v2) with an FPN, registered with Detectron2."""

from __future__ import annotations

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from maskseg.core.errors import InputError
from maskseg.models.backbones import build_fpn

_STAGES = ("res2", "res3", "res4")
# Blocks of each stage.
_BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23)}


class Preactivation(nn.Module):
    """ReLU of a batch norm with frozen statistics, held as one scale and one shift a channel.

    Both are trained, as the method trains gamma and beta; a batch of two images teaches no statistics.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Of x (N, C, h, w)."""
        # One pass each way in place of three, in float32 inside also where x is bfloat16.
        zero, one = torch.zeros_like(self.shift), torch.ones_like(self.scale)
        return F.relu(F.batch_norm(x, zero, one, self.scale, self.shift, training=False, eps=0.0))


class PreactBlock(CNNBlockBase):
    """Bottleneck block with the norm before the weights.

    From He et al. 2016, "Identity mappings in deep residual networks". The batch norms inside the block are folded
    into its convolutions.

    Parameters
    ----------
    in_channels, out_channels, bottleneck_channels : int
    """

    def __init__(self, in_channels: int, out_channels: int, bottleneck_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.preact = Preactivation(in_channels)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1)
        self.conv2 = _conv(bottleneck_channels, bottleneck_channels, 3)
        self.conv3 = _conv(bottleneck_channels, out_channels, 1)
        self.shortcut = _conv(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, out_channels, h, w) of x (N, in_channels, h, w)."""
        preact = self.preact(x)
        shortcut = x if self.shortcut is None else self.shortcut(preact)
        return shortcut + self.conv3(F.relu(self.conv2(F.relu(self.conv1(preact)))))


class ResNetV2(Backbone):
    """Pre-activation ResNet up to res4, with features at the strides 4, 8 and 16.

    In the stored ImageNet networks (TF-slim's resnet_v2) the last block of each stage halves the image, so that the
    stage would end at the stride of the next. Here that block runs at stride 1, its output is the stage's feature,
    and every second pixel of it enters the next stage: the same numbers, at twice the resolution for the FPN.

    Parameters
    ----------
    depth : int
        50 or 101.
    out_features : list of str
        Some of ``res2``, ``res3``, ``res4``.
    freeze_at : int
        As Detectron2's BACKBONE.FREEZE_AT: 0 nothing, 1 the stem, 2 also res2.
    """

    def __init__(self, depth: int, out_features: list[str], freeze_at: int = 0) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise InputError(
                f"MODEL.RESNETS.DEPTH {depth}: a pre-activation ResNet is {' or '.join(map(str, _BLOCKS))}"
            )
        if not out_features or not set(out_features) <= set(_STAGES):
            raise InputError(f"MODEL.RESNETS.OUT_FEATURES {out_features}: choose from {', '.join(_STAGES)}")
        self.stem = _conv(3, 64, 7, stride=2)
        channels = 64
        self._out_features = out_features
        self._out_feature_channels, self._out_feature_strides = {}, {}
        for index, (name, blocks) in enumerate(zip(_STAGES, _BLOCKS[depth], strict=True)):
            out = 256 << index
            first = PreactBlock(channels, out, out // 4)
            self.add_module(name, nn.Sequential(first, *(PreactBlock(out, out, out // 4) for _ in range(blocks - 1))))
            self._out_feature_channels[name], self._out_feature_strides[name] = out, 4 << index
            channels = out
        for name in ("stem", *_STAGES)[:freeze_at]:
            getattr(self, name).requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features by name, of images x (N, 3, H, W)."""
        # The stored weights were trained with a pool that pads on the right and below only.
        x = F.max_pool2d(F.pad(self.stem(x), (0, 1, 0, 1), value=-torch.inf), 3, 2)
        features = {}
        for index, name in enumerate(_STAGES):
            if index:
                x = x[:, :, ::2, ::2]
            x = getattr(self, name)(x)
            if name in self._out_features:
                features[name] = x
        return features

    @property
    def size_divisibility(self) -> int:
        """What height and width must be a multiple of."""
        return 16


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Conv2d:
    conv = Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    weight_init.c2_msra_fill(conv)
    return conv


@BACKBONE_REGISTRY.register()
def build_nuclei_resnet_v2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Pre-activation ResNet with an FPN over any of its stages."""
    resnet = cfg.MODEL.RESNETS
    return build_fpn(cfg, ResNetV2(resnet.DEPTH, resnet.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT))
