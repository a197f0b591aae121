"""The pyramid between the backbone and the heads."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.backbone import FPN
from detectron2.structures import Boxes

from maskseg.models.config import load_config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"])).eval()


@pytest.mark.slow
def test_boxes_keep_their_place_in_mixed_precision(model):
    # Bfloat16 knows every fourth whole number at 700.
    boxes = [Boxes(torch.tensor([[700.0 + x, 4.0, 720.0 + x, 28.0] for x in range(4)]))]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = model.backbone(torch.rand(1, 3, 32, 768))
        # The column number, of the size and type of the network's features.
        columns = [torch.arange(features[name].shape[3]).expand_as(features[name]) for name in ("p2", "p3", "p4")]
        pooled = model.roi_heads.mask_pooler([value.to(features["p2"].dtype) for value in columns], boxes)
    # A step of one pixel is a quarter of a column of p2.
    torch.testing.assert_close(pooled.diff(dim=0), torch.full_like(pooled[1:], 0.25), rtol=0, atol=1e-3)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("fuse", ["sum", "avg"])
def test_the_features_are_those_of_detectron2s_pyramid(model, monkeypatch, fuse):
    monkeypatch.setattr(model.backbone, "_fuse_type", fuse)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for name, expected in FPN.forward(model.backbone, x).items():
            torch.testing.assert_close(model.backbone(x)[name], expected)


@pytest.mark.slow
def test_it_learns_as_detectron2s_pyramid(model):
    x, gradients = torch.rand(2, 3, 64, 96), []
    for forward in (model.backbone.forward, lambda x: FPN.forward(model.backbone, x)):
        model.zero_grad()
        sum(level.square().mean() for level in forward(x).values()).backward()
        gradients.append(
            {name: value.grad for name, value in model.backbone.named_parameters() if value.grad is not None}
        )
    assert "fpn_lateral4.weight" in gradients[0]
    torch.testing.assert_close(gradients[0], gradients[1])
