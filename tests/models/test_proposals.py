"""Proposals without a silent cap."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from torchvision.ops import nms

from maskseg.core.errors import InputError
from maskseg.models import proposals as proposals_module
from maskseg.models.config import load_config


@pytest.fixture(autouse=True)
def one_thread():
    """Several add up in an order of their own each time, and a last digit may change the order of proposals."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def proposer(*overrides: str, name: str = "NucleiRPN", unsure: float = 3.0):
    """The proposal generator of the small config, in prediction, and its random features of a 256 x 256 image."""
    torch.manual_seed(0)
    cfg = load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu", "MODEL.PROPOSAL_GENERATOR.NAME", name, *overrides])
    generator = build_model(cfg).eval().proposal_generator
    # Objectnesses that spread out, as a trained network's do.
    generator.rpn_head.objectness_logits.weight.data *= 100
    generator.rpn_head.objectness_logits.bias.data -= unsure
    torch.manual_seed(1)
    features = {f"p{level}": torch.randn(2, 96, 256 >> level, 256 >> level) for level in (2, 3, 4, 5)}
    return generator, features


def proposals(generator, features):
    count = len(features["p2"])
    images = ImageList(torch.zeros(count, 3, 256, 256), [(256, 256)] * count)
    with torch.no_grad():
        return generator(images, features)[0]


def limits(before: int, after: int) -> list[str]:
    return ["MODEL.RPN.PRE_NMS_TOPK_TEST", str(before), "MODEL.RPN.POST_NMS_TOPK_TEST", str(after)]


def decoded(generator, features):
    """Boxes inside of the image and objectness logits of all anchors, level by level, of each image."""
    levels = list(features.values())
    with torch.no_grad():
        logits, deltas = generator.rpn_head(levels)
        deltas = [level.view(2, -1, 4, *level.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, -2) for level in deltas]
        boxes = generator._decode_proposals(generator.anchor_generator(levels), deltas)
    logits = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
    return [([b[i].clamp(0, 256) for b in boxes], [s[i] for s in logits]) for i in range(2)]


def suppressed(boxes, scores, threshold=0.6):
    kept = nms(boxes, scores, threshold)
    return boxes[kept], scores[kept]


@pytest.mark.slow
def test_all_that_are_sure_are_proposed_whatever_the_limits():
    generator, features = proposer(*limits(10, 10), "MODEL.RPN.SURE", "0.7")
    found = proposals(generator, features)
    for (boxes, scores), item in zip(decoded(generator, features), found, strict=True):
        boxes, scores = suppressed(torch.cat(boxes), torch.cat(scores))
        sure = scores.sigmoid() >= 0.7
        assert sure.sum() > 100
        torch.testing.assert_close(item.proposal_boxes.tensor, boxes[sure])
        torch.testing.assert_close(item.objectness_logits, scores[sure])


@pytest.mark.slow
def test_where_none_is_sure_the_limits_are_what_an_image_gets():
    generator, features = proposer(*limits(50, 40), "MODEL.RPN.SURE", "1.0", "MODEL.RPN.NMS_THRESH_TEST", "0.7")
    found = proposals(generator, features)
    for (boxes, scores), item in zip(decoded(generator, features), found, strict=True):
        best = [level.topk(50).indices for level in scores]
        boxes = torch.cat([level[index] for level, index in zip(boxes, best, strict=True)])
        boxes, _ = suppressed(boxes, torch.cat([level.topk(50).values for level in scores]), 0.7)
        assert len(item) == 40
        torch.testing.assert_close(item.proposal_boxes.tensor, boxes[:40])


@pytest.mark.slow
def test_the_other_images_of_a_batch_change_nothing():
    generator, features = proposer(*limits(20, 500), "MODEL.RPN.SURE", "0.9")
    together = proposals(generator, features)
    for number, expected in enumerate(together):
        (alone,) = proposals(generator, {name: level[number : number + 1] for name, level in features.items()})
        torch.testing.assert_close(alone.proposal_boxes.tensor, expected.proposal_boxes.tensor)


@pytest.mark.slow
def test_a_network_that_is_sure_everywhere_is_held_to_an_eighth(monkeypatch):
    original = proposals_module.suppress
    # Before any training.
    generator, features = proposer(*limits(10, 10), "MODEL.RPN.SURE", "0.01", unsure=-100.0)
    seen = []
    monkeypatch.setattr(
        proposals_module, "suppress", lambda boxes, *values: seen.append(len(boxes)) or original(boxes, *values)
    )
    anchors = [3 * level.shape[2] * level.shape[3] for level in features.values()]
    assert all(len(item) > 100 for item in proposals(generator, features))
    assert all(1000 < count <= sum(min(level, sum(anchors) // 8) for level in anchors) for count in seen)


def test_in_training_it_is_the_stock_generator():
    generator, _ = proposer()
    assert generator.pre_nms_topk[True] == 1000
    anchors, logits, deltas = generator.anchor_generator([torch.zeros(1, 96, 8, 8)] * 4), [torch.randn(1, 192)] * 4, []
    deltas = [torch.zeros(1, 192, 4)] * 4
    generator.train()
    generator.post_nms_topk[True] = 7
    assert len(generator.predict_proposals(anchors, logits, deltas, [(256, 256)])[0]) == 7


@pytest.mark.parametrize("value", ["0.0", "1.5"])
def test_an_objectness_that_is_none(value):
    with pytest.raises(InputError, match=r"MODEL\.RPN\.SURE"):
        load_config("nuclei_R_18_FPN", ["MODEL.RPN.SURE", value])


@pytest.mark.slow
def test_in_training_the_best_anchors_of_all_levels_together_are_suppressed_together():
    generator, features = proposer("MODEL.RPN.PRE_NMS_TOPK_ALL", "300", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "200")
    with torch.no_grad():
        anchors = generator.anchor_generator(list(features.values()))
        logits, deltas = generator.rpn_head(list(features.values()))
        logits = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
        deltas = [level.view(2, -1, 4, *level.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, -2) for level in deltas]
        generator.train()
        found = generator.predict_proposals(anchors, logits, deltas, [(256, 256)] * 2)
        boxes = torch.cat(generator._decode_proposals(anchors, deltas), 1)
    scores = torch.cat(logits, 1)
    for image, item in enumerate(found):
        best = scores[image].argsort(descending=True)[:300]
        clipped = boxes[image][best].clamp(0, 256)
        kept = nms(clipped, scores[image][best], generator.nms_thresh)[:200]
        torch.testing.assert_close(item.proposal_boxes.tensor, clipped[kept])
        assert len(item) <= 200
