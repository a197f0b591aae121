"""Region proposals, registered with Detectron2: as many as the image holds nuclei for."""

from __future__ import annotations

import math
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances
from torch import Tensor

from maskseg.models.suppression import suppress
from maskseg.models.unreviewed import ignored_of, shares


@PROPOSAL_GENERATOR_REGISTRY.register()
class NucleiRPN(RPN):
    """Detectron2's RPN without its caps at prediction, and without negatives where nobody has looked for nuclei.

    There, every anchor whose objectness reaches `sure` is considered, and every proposal of that objectness is kept,
    however many; the stock limits (``PRE_NMS_TOPK_TEST`` a level, ``POST_NMS_TOPK_TEST`` an image) are the least that
    an image gets. A stock RPN silently loses nuclei where more anchors are sure than a limit lets through, and
    examines a thousand empty places in an image that holds five nuclei.

    What stands in one level suppresses what stands in another, too, and more of it than in training: the box head moves
    every box to the nucleus, so that fewer proposals find the same nuclei.

    Parameters
    ----------
    sure : float
        Objectness in (0, 1], ``MODEL.RPN.SURE``.
    nms_thresh_test : float
        IoU over which of two proposals the less sure one goes at prediction, ``MODEL.RPN.NMS_THRESH_TEST``.
    pre_nms_topk_all : int
        In training, most anchors of all levels together that go into the suppression, which then is one over all
        levels, as in the published method; 0: Detectron2's rule, so many a level and a suppression in each.
    box_loss_mean : bool
        ``MODEL.BOX_LOSS_MEAN``.
    """

    @configurable
    def __init__(
        self, *, sure: float, nms_thresh_test: float, pre_nms_topk_all: int, box_loss_mean: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.nms_thresh_test = nms_thresh_test
        self.pre_nms_topk_all, self.box_loss_mean = pre_nms_topk_all, box_loss_mean
        self._unseen: Tensor | None = None
        self.sure_logit = math.log(sure / (1 - sure)) if sure < 1 else math.inf

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Arguments of the constructor from a config."""
        return {
            **super().from_config(cfg, input_shape),
            "sure": cfg.MODEL.RPN.SURE,
            "nms_thresh_test": cfg.MODEL.RPN.NMS_THRESH_TEST,
            "pre_nms_topk_all": cfg.MODEL.RPN.PRE_NMS_TOPK_ALL,
            "box_loss_mean": cfg.MODEL.BOX_LOSS_MEAN,
        }

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Detectron2's; an anchor that could hold an unseen nucleus is no negative.

        That is one of which more is unreviewed (`maskseg.models.unreviewed`) than the IoU up to which it is negative.
        """
        if all(ignored_of(target) is None for target in gt_instances):
            return super().label_and_sample_anchors(anchors, gt_instances)
        boxes, most = Boxes.cat(anchors).tensor, self.anchor_matcher.thresholds[1]
        labels, matched = [], []
        for target in gt_instances:
            ignored = ignored_of(target)
            # Read by `_subsample_labels`, which is not told which image it is.
            self._unseen = None if ignored is None else shares(ignored, boxes) >= most
            (label,), (box,) = super().label_and_sample_anchors(anchors, [target])
            labels.append(label)
            matched.append(box)
        self._unseen = None
        return labels, matched

    def _subsample_labels(self, label: Tensor) -> Tensor:
        if self._unseen is not None:
            label[(label == 0) & self._unseen] = -1
        return super()._subsample_labels(label)

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Detectron2's losses; with `box_loss_mean` that of the boxes is the mean over the positive anchors."""
        losses = super().losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        if self.box_loss_mean:
            positives = sum(int((labels == 1).sum()) for labels in gt_labels)
            stock = self.batch_size_per_image * len(gt_labels)
            losses["loss_rpn_loc"] = losses["loss_rpn_loc"] * (stock / max(4 * positives, 1))
        return losses

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Proposals of each image by falling objectness; see Detectron2's RPN for the arguments."""
        if self.training and not self.pre_nms_topk_all:
            return super().predict_proposals(anchors, pred_objectness_logits, pred_anchor_deltas, image_sizes)
        if self.training:
            # All levels as one: what stands in one level suppresses what stands in another, too.
            return find_top_rpn_proposals(
                [torch.cat(self._decode_proposals(anchors, pred_anchor_deltas), 1)],
                [torch.cat(pred_objectness_logits, 1)],
                image_sizes,
                self.nms_thresh,
                self.pre_nms_topk_all,
                self.post_nms_topk[True],
                self.min_box_size,
                True,
            )
        # One by one: what is found in an image does not depend on the others of its batch.
        return [
            self._proposals_of(
                anchors,
                [level[i] for level in pred_objectness_logits],
                [level[i] for level in pred_anchor_deltas],
                size,
            )
            for i, size in enumerate(image_sizes)
        ]

    def _proposals_of(
        self, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], size: tuple[int, int]
    ) -> Instances:
        """The proposals of one image, whose levels have A anchors each: logits (A,), deltas (A, 4)."""
        # No tissue has nuclei in an eighth of all places and sizes; a network that is sure of more has not learned yet.
        most = sum(map(len, logits)) // 8
        scores, boxes = [], []
        for anchors_i, logits_i, deltas_i in zip(anchors, logits, deltas, strict=True):
            sure = min(int((logits_i >= self.sure_logit).sum()), most)
            best, index = logits_i.topk(min(max(sure, self.pre_nms_topk[False]), len(logits_i)))
            scores.append(best)
            boxes.append(self.box2box_transform.apply_deltas(deltas_i[index], anchors_i.tensor[index]))
        score, order = torch.cat(scores).sort(descending=True, stable=True)
        candidates = Boxes(torch.cat(boxes)[order])
        valid = torch.isfinite(candidates.tensor).all(dim=1) & torch.isfinite(score)
        candidates.clip(size)
        valid &= candidates.nonempty(threshold=self.min_box_size)
        candidates, score = candidates[valid], score[valid]
        kept = suppress(candidates.tensor, self.nms_thresh_test)
        kept = kept[: max(self.post_nms_topk[False], int((score[kept] >= self.sure_logit).sum()))]
        return Instances(size, proposal_boxes=candidates[kept], objectness_logits=score[kept])
