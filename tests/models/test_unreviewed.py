"""Where nobody has looked, nothing is a negative: in the RPN and in the ROI heads."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from maskseg.models.config import load_config, set_classes
from maskseg.models.unreviewed import shares
from maskseg.training.label_masks import LabelMasks

SIDE = 64
NUCLEUS = [8.0, 8, 24, 24]


@pytest.fixture(scope="module")
def network(overrides):
    cfg = load_config("nuclei_R_18_FPN", overrides(SEED=1))
    set_classes(cfg, ("a", "b"))
    return build_model(cfg)


def target(ignored=None, kind=0, nuclei=1):
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.int32)
    labels[0, 8:24, 8:24] = 1
    instances = Instances((SIDE, SIDE))
    instances.gt_boxes = Boxes(torch.tensor([NUCLEUS])[:nuclei])
    instances.gt_classes = torch.full((nuclei,), kind)
    instances.gt_masks = LabelMasks(labels * nuclei, torch.arange(1, nuclei + 1), ignored)
    return instances


def right_half():
    ignored = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    ignored[:, 32:] = True
    return ignored


def test_shares_are_those_of_the_pixels():
    ignored = right_half()
    torch.manual_seed(0)
    corner = torch.randint(-10, 50, (40, 2)).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 30, (40, 2))], dim=1)
    for box, share in zip(boxes.int().clamp(0, SIDE).tolist(), shares(ignored, boxes).tolist(), strict=True):
        part = ignored[box[1] : box[3], box[0] : box[2]]
        assert share == pytest.approx(float(part.float().mean()) if part.numel() else 0)


def anchors_of(network, *targets):
    network.proposal_generator.batch_size_per_image = 100_000
    features = {"p2": 4, "p3": 8, "p4": 16}
    sizes = [torch.zeros(1, 16, SIDE // stride, SIDE // stride) for stride in features.values()]
    anchors = network.proposal_generator.anchor_generator(sizes[: len(network.proposal_generator.in_features)])
    torch.manual_seed(0)
    labels, _ = network.proposal_generator.label_and_sample_anchors(anchors, list(targets))
    return Boxes.cat(anchors).tensor, labels


@pytest.mark.slow
def test_anchors_that_could_hold_an_unseen_nucleus_are_no_negatives(network):
    boxes, (free, seen, none) = anchors_of(network, target(), target(right_half()), target(right_half(), nuclei=0))
    hidden = shares(right_half(), boxes) >= 0.3
    assert (free[hidden] == 0).any()
    assert not (seen[hidden] == 0).any() and not (none[hidden] == 0).any()
    # Nothing else has changed: no positive, and no negative where somebody has looked.
    assert torch.equal(seen == 1, free == 1)
    assert torch.equal(seen[~hidden], free[~hidden])


def sampled(network, *targets):
    proposals = []
    for _ in targets:
        one = Instances((SIDE, SIDE))
        # On the nucleus, beside it, in the right half, and half in it.
        one.proposal_boxes = Boxes(torch.tensor([NUCLEUS, [0.0, 40, 16, 56], [40, 40, 56, 56], [24, 40, 40, 56]]))
        one.objectness_logits = torch.zeros(4)
        proposals.append(one)
    with EventStorage():
        return network.roi_heads.label_and_sample_proposals(proposals, list(targets))


def negatives(found):
    return found.proposal_boxes.tensor[found.gt_classes == 2][:, 0].sort().values.tolist()


def test_rois_that_could_hold_an_unseen_nucleus_are_no_negatives(network):
    network.roi_heads.negatives_per_positive = 0
    free, seen, none = sampled(network, target(), target(right_half()), target(right_half(), nuclei=0))
    assert negatives(free) == [0, 24, 40]
    assert negatives(seen) == [0]
    assert negatives(none) == [0, 8]
    assert (seen.gt_classes == 0).sum() == (free.gt_classes == 0).sum() > 0
    everywhere = torch.ones(SIDE, SIDE, dtype=torch.bool)
    (nothing,) = sampled(network, target(everywhere, nuclei=0))
    assert len(nothing) == 0


def test_a_nucleus_of_unknown_class_is_neither_positive_nor_negative(network):
    (found,) = sampled(network, target(kind=-1))
    assert negatives(found) == [0, 24, 40]
    assert (found.gt_classes == 2).all()


def test_an_image_that_nobody_has_looked_at_teaches_nothing(network):
    network.train()
    everywhere = torch.ones(SIDE, SIDE, dtype=torch.bool)
    sample = {"image": torch.randint(0, 255, (3, SIDE, SIDE)).float(), "instances": target(everywhere, nuclei=0)}
    with EventStorage():
        losses = network([sample])
    assert all(float(loss) == 0 for loss in losses.values())
