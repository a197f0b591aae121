"""ROI heads, registered with Detectron2: the sampling and the loss of the published method, and classes of nuclei."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Instances, pairwise_iou
from torch import Tensor

from maskseg.models.unreviewed import ignored_of, shares


class NucleiOutputLayers(FastRCNNOutputLayers):
    """Detectron2's box predictor, which finds a nucleus once, whatever its class.

    The stock one suppresses within a class only, so that a nucleus of which two classes are likely is found twice or,
    where neither reaches the threshold, not at all. Here the score is that of being a nucleus, the sum over the
    classes, and the class is the likeliest one. With one class nothing is changed.
    """

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections of each image, and which proposals they are; see Detectron2's."""
        if self.num_classes == 1:
            return super().inference(predictions, proposals)
        detections, kept = [], []
        boxes, probabilities = self.predict_boxes(predictions, proposals), self.predict_probs(predictions, proposals)
        for box, probability, proposal in zip(boxes, probabilities, proposals, strict=True):
            of_class = probability[:, :-1]
            kind = of_class.argmax(dim=1)
            if box.shape[1] > 4:
                box = box.view(len(box), -1, 4)[torch.arange(len(box), device=box.device), kind]
            # Detectron2 leaves out what is no number, and counts without it.
            usable = torch.isfinite(box).all(dim=1) & torch.isfinite(probability).all(dim=1)
            nucleus = torch.stack([of_class.sum(dim=1), probability[:, -1]], dim=1)
            instances, index = fast_rcnn_inference_single_image(
                box[usable],
                nucleus[usable],
                proposal.image_size,
                self.test_score_thresh,
                self.test_nms_thresh,
                self.test_topk_per_image,
            )
            index = usable.nonzero().squeeze(1)[index]
            instances.pred_classes = kind[index]
            detections.append(instances)
            kept.append(index)
        return detections, kept


class BoxMeanOutputLayers(NucleiOutputLayers):
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

    A ROI that is no nucleus is no negative either where it could hold one that nobody has looked for: where more of it
    is unreviewed (`maskseg.models.unreviewed`) than the least IoU of a positive. A nucleus whose
    class is not known, -1, has neither positives nor negatives.

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
        elif cfg.MODEL.ROI_HEADS.NUM_CLASSES > 1:
            arguments["box_predictor"] = NucleiOutputLayers(cfg, arguments["box_head"].output_shape)
        return {**arguments, "negatives_per_positive": cfg.MODEL.ROI_HEADS.NEGATIVES_PER_POSITIVE}

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Detectron2's, without the proposals that are no nucleus and lie where nobody has looked."""
        least = self.proposal_matcher.thresholds[1]
        counted = []
        for proposal, target in zip(proposals, targets, strict=True):
            ignored = ignored_of(target)
            if ignored is not None:
                boxes = proposal.proposal_boxes
                is_nucleus = (pairwise_iou(target.gt_boxes, boxes) >= least).any(dim=0)
                proposal = proposal[is_nucleus | (shares(ignored, boxes.tensor) < least)]
            counted.append(proposal)
        return super().label_and_sample_proposals(counted, targets)

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
