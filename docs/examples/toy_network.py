"""A network in one file: a small backbone for Mask R-CNN, registered with Detectron2 and chosen by a config key.

A package that holds it names it among its entry points, in the group maskseg.tasks: ``toy-network = toy_network``. All
that maskseg does with such a module is to import it. Then the backbone is trained and predicts like every other::

    maskseg train --config-file nuclei_R_18_FPN MODEL.BACKBONE.NAME build_toy_fpn_backbone OUTPUT_DIR runs/toy
    maskseg predict images/ -o out/ --model runs/toy
"""

from detectron2.layers import Conv2d
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import nn

from maskseg.models.backbones import build_fpn


class ToyBackbone(Backbone):
    """Three stages of two convolutions, called as a ResNet's, so that the config's FPN and heads fit onto them."""

    def __init__(self, channels=(16, 32, 64)):
        super().__init__()
        stages, before = {}, 3
        for name, width, stride in zip(("res2", "res3", "res4"), channels, (4, 2, 2), strict=True):
            stages[name] = nn.Sequential(
                Conv2d(before, width, 3, stride=stride, padding=1, activation=nn.ReLU()),
                Conv2d(width, width, 3, padding=1, activation=nn.ReLU()),
            )
            before = width
        self.stages = nn.ModuleDict(stages)
        # What an FPN asks a backbone for: the names of its features, and of each the channels and the stride.
        self._out_features = list(stages)
        self._out_feature_channels = dict(zip(stages, channels, strict=True))
        self._out_feature_strides = {"res2": 4, "res3": 8, "res4": 16}

    @property
    def size_divisibility(self):
        return 16

    def forward(self, x):
        """Features (N, C, h, w) by name, of normalised images x (N, 3, H, W)."""
        features = {}
        for name, stage in self.stages.items():
            features[name] = x = stage(x)
        return features


@BACKBONE_REGISTRY.register()
def build_toy_fpn_backbone(cfg, input_shape):
    return build_fpn(cfg, ToyBackbone())
