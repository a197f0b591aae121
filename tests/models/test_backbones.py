"""The pyramid between the backbone and the heads."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes

from maskseg.models.config import load_config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"])).eval()


def test_boxes_keep_their_place_in_mixed_precision(model):
    image = torch.rand(1, 3, 64, 1024)
    # One pixel apart at 700, where bfloat16 knows every fourth whole number.
    boxes = [Boxes(torch.tensor([[700.0 + x, 10.0, 720.0 + x, 40.0] for x in range(3)]))]
    pooler = model.roi_heads.mask_pooler
    with torch.no_grad():
        exact = pooler(list(model.backbone(image).values())[:3], boxes)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.backbone(image)
            mixed = pooler([features[f"p{level}"] for level in (2, 3, 4)], boxes)
    moved = (exact[1] - exact[0]).abs().mean()
    assert (mixed - exact).abs().mean() < 0.2 * moved
    assert (mixed[1] - mixed[0]).abs().mean() > 0.5 * moved
    assert all(value.dtype == torch.float32 for value in features.values())


def test_levels_above_the_last_are_subsampled(model):
    with torch.no_grad():
        features = model.backbone(torch.rand(1, 3, 64, 96))
    assert {name: tuple(value.shape[2:]) for name, value in features.items()} == {
        "p2": (16, 24),
        "p3": (8, 12),
        "p4": (4, 6),
        "p5": (2, 3),
    }
    assert torch.equal(features["p5"], features["p4"][:, :, ::2, ::2])
