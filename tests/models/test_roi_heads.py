"""The sampling of ROIs and the box losses of the published method."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from maskseg.models.config import load_config
from maskseg.models.roi_heads import BoxMeanOutputLayers

TINY = (
    "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM", "16",
)  # fmt: skip


def heads(*overrides: str):
    return build_model(load_config("nuclei_R_18_FPN", [*TINY, *overrides])).roi_heads


@pytest.mark.parametrize(
    ("ratio", "positives", "negatives"), [(2.0, 10, 20), (0.5, 10, 5), (0.0, 10, 118), (2.0, 0, 0)]
)
def test_there_are_no_more_negatives_than_the_ratio_allows(ratio, positives, negatives):
    sampler = heads("MODEL.ROI_HEADS.NEGATIVES_PER_POSITIVE", str(ratio))
    assert sampler.batch_size_per_image == 128
    matched = torch.tensor([1] * positives + [0] * 500)
    index, classes = sampler._sample_proposals(
        torch.zeros(len(matched), dtype=torch.int64), matched, torch.zeros(1).long()
    )
    assert (int((classes == 0).sum()), int((classes == 1).sum())) == (positives, negatives)
    # Each index has the class that its proposal has.
    assert torch.equal(classes == 0, matched[index] == 1)


def test_the_box_loss_of_rois_is_the_mean_over_the_coordinates_of_the_positives():
    layer = heads("MODEL.BOX_LOSS_MEAN", "True", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "1.0").box_predictor
    assert type(layer) is BoxMeanOutputLayers
    assert type(heads().box_predictor) is FastRCNNOutputLayers
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 10, 30, 40]]).repeat(6, 1)
    truth = boxes + torch.rand(6, 4) * 4
    predicted, classes = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 1, 1])
    # By hand: deltas of the centre divided by 0.1, of the logarithm of the size by 0.2.
    size, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    true_size, true_centre = truth[:, 2:] - truth[:, :2], (truth[:, 2:] + truth[:, :2]) / 2
    wanted = torch.cat([(true_centre - centre) / size / 0.1, torch.log(true_size / size) / 0.2], 1)
    expected = F.smooth_l1_loss(predicted[:2], wanted[:2])
    assert layer.box_reg_loss(boxes, truth, predicted, classes).item() == pytest.approx(expected.item(), rel=1e-5)
    assert layer.box_reg_loss(boxes, truth, predicted, torch.ones(6).long()).item() == 0


def test_the_box_loss_of_anchors_is_the_mean_over_the_coordinates_of_the_positives():
    torch.manual_seed(0)
    anchors = [Boxes(torch.tensor([[0.0, 0, 16, 16], [8, 8, 24, 24], [20, 20, 36, 36]]))]
    deltas, logits = [torch.randn(1, 3, 4)], [torch.randn(1, 3)]
    truth = [anchors[0].tensor + torch.rand(3, 4)]
    labels = [torch.tensor([1, 0, 1])]
    losses = {}
    for mean in (True, False):
        rpn = build_model(
            load_config("nuclei_R_18_FPN", [*TINY, "MODEL.BOX_LOSS_MEAN", str(mean), "MODEL.RPN.SMOOTH_L1_BETA", "1.0"])
        ).proposal_generator
        with EventStorage():
            losses[mean] = rpn.losses(anchors, logits, labels, deltas, truth)
    wanted = rpn.box2box_transform.get_deltas(anchors[0].tensor, truth[0])
    expected = F.smooth_l1_loss(deltas[0][0][[0, 2]], wanted[[0, 2]])
    assert losses[True]["loss_rpn_loc"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses[False]["loss_rpn_loc"].item() == pytest.approx(expected.item() * 8 / 256, rel=1e-5)
    assert losses[True]["loss_rpn_cls"].item() == losses[False]["loss_rpn_cls"].item()
