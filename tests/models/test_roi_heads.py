"""The sampling of ROIs and the box losses of the published method."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from maskseg.models.config import load_config, set_classes
from maskseg.models.roi_heads import BoxMeanOutputLayers, NucleiOutputLayers

TINY = (
    "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM", "16",
)  # fmt: skip


def heads(*overrides: str):
    return build_model(load_config("nuclei_R_18_FPN", [*TINY, *overrides])).roi_heads


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def of_three_classes(*overrides: str):
    cfg = load_config("nuclei_R_18_FPN", [*TINY, *overrides])
    set_classes(cfg, ("a", "b", "c"))
    return build_model(cfg).roi_heads


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("MODEL.BOX_LOSS_MEAN", "True")])
def test_a_nucleus_is_found_once_whatever_its_class(overrides):
    layer = of_three_classes(*overrides).box_predictor
    assert isinstance(layer, NucleiOutputLayers)
    proposals = Instances((64, 64))
    proposals.proposal_boxes = Boxes(
        torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [50, 50, 60, 60], [0, 40, 10, 50]])
    )
    # Chances of a, b, c and of none; no class alone reaches the threshold of 0.8, and the last is no number.
    chances = torch.tensor(
        [[0.5, 0.45, 0, 0.05], [0.3, 0.6, 0, 0.1], [0.1, 0.2, 0.6, 0.1], [0.3, 0.3, 0.1, 0.3], [0.9, 0, 0, 0.1]]
    )
    logits = chances.clamp(min=1e-9).log()
    deltas = torch.zeros(5, 4)
    deltas[4] = float("nan")
    (found,), (index,) = layer.inference((logits, deltas), [proposals])
    assert index.tolist() == [0, 2]
    assert found.pred_classes.tolist() == [0, 2]
    assert found.scores.tolist() == pytest.approx([0.95, 0.9])


@pytest.mark.slow
def test_masks_and_boxes_are_drawn_by_the_same_weights_for_all_classes():
    one, three = heads().state_dict(), of_three_classes().state_dict()
    other = {name for name, value in three.items() if one[name].shape != value.shape}
    assert other == {"box_predictor.cls_score.weight", "box_predictor.cls_score.bias"}
