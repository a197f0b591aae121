"""Which classes an image shows: a backbone, pooled over the image, and one output for each class."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor, nn
from torch.nn import functional as F

from maskseg.projects.protein.data import CLASSES

# Before training, every class has this probability: 1.6 of 28 classes are in an image.
_PRIOR_LOGIT = -2.8


@META_ARCH_REGISTRY.register()
class ProteinClassifier(nn.Module):
    """Multi-label classifier of images of any number of channels.

    The last feature of the backbone is pooled by mean and by maximum: some classes are a few bright dots. The loss is
    ``"bce"``, binary cross-entropy in which the images of a class weigh ``odds ** balance``, or ``"focal"`` (Lin et
    al., ICCV 2017, alpha 0.25, gamma 2), divided by the number of positives. Of mean and std there is one for each
    channel, or one for all. The buffer ``thresholds``, float32 (28,), is tuned in validation and kept with the weights.
    """

    thresholds: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(self, *, backbone: Backbone, loss: str, balance: float, pixel_mean: Any, pixel_std: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.loss, self.balance = loss, balance
        self.feature, shape = list(backbone.output_shape().items())[-1]
        self.linear = nn.Linear(2 * shape.channels, len(CLASSES))
        nn.init.constant_(self.linear.bias, _PRIOR_LOGIT)
        self.register_buffer("thresholds", torch.full((len(CLASSES),), 0.5))
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Made from MODEL and INPUT.CHANNELS."""
        return {
            "backbone": build_backbone(cfg, ShapeSpec(channels=len(cfg.INPUT.CHANNELS))),
            "loss": cfg.MODEL.CLASS_LOSS,
            "balance": cfg.MODEL.CLASS_BALANCE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.thresholds.device

    def forward(self, samples: list[dict[str, Any]]) -> dict[str, Tensor] | Tensor:
        """Training, the loss; otherwise probabilities (N, 28).

        A sample has ``image``, uint8 (C, H, W), all of one size; in training also ``labels``, float32 (28,), and
        ``odds``, float32 (28,): images without a class for each that has it.
        """
        images = torch.stack([sample["image"] for sample in samples]).to(self.device)
        features = self.backbone((images - self.pixel_mean) / self.pixel_std)[self.feature]
        logits = self.linear(torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)).float()
        if not self.training:
            return logits.sigmoid()
        labels = torch.stack([sample["labels"] for sample in samples]).to(self.device)
        if self.loss == "focal":
            loss = sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2, reduction="sum") / labels.sum()
        else:
            weight = samples[0]["odds"].to(self.device) ** self.balance
            loss = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
        return {"loss_classes": loss}
