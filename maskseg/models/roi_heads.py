"""ROI heads, registered with Detectron2: the sampling and the loss of the published method."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from torch import Tensor


class BoxMeanOutputLayers(FastRCNNOutputLayers):
    """Detectron2's box predictor, its box loss being the mean over the coordinates of the positive ROIs.

    The stock loss divides by all sampled ROIs, so that it shrinks with the share of positives.
    """

    def box_reg_loss(self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor) -> Tensor:
        """Mean over the positive ROIs; see Detectron2's for the arguments (R boxes)."""
        stock = super().box_reg_loss(proposal_boxes, gt_boxes, pred_deltas, gt_classes)
        positives = ((gt_classes >= 0) & (gt_classes < self.num_classes)).sum().clamp(min=1)
        return stock * gt_classes.numel() / (positives * proposal_boxes.shape[1])


@ROI_HEADS_REGISTRY.register()
class NucleiROIHeads(StandardROIHeads):
    """Detectron2's box and mask heads with a limit of negatives for each positive ROI.

    Parameters
    ----------
    negatives_per_positive : float
        ``MODEL.ROI_HEADS.NEGATIVES_PER_POSITIVE``; 0 is no limit. An image without a positive ROI then has none at all.
    """

    @configurable
    def __init__(self, *, negatives_per_positive: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negatives_per_positive = negatives_per_positive

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Arguments of the constructor from a config."""
        arguments = super().from_config(cfg, input_shape)
        if cfg.MODEL.BOX_LOSS_MEAN:
            arguments["box_predictor"] = BoxMeanOutputLayers(cfg, arguments["box_head"].output_shape)
        return {**arguments, "negatives_per_positive": cfg.MODEL.ROI_HEADS.NEGATIVES_PER_POSITIVE}

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        index, classes = super()._sample_proposals(matched_idxs, matched_labels, gt_classes)
        if not self.negatives_per_positive:
            return index, classes
        # Positives come first, and both kinds are in random order.
        negative = classes == self.num_classes
        most = int(self.negatives_per_positive * int((~negative).sum()))
        kept = ~negative | (torch.cumsum(negative, 0) <= most)
        return index[kept], classes[kept]
