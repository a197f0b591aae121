"""Pooling by rows gives the numbers of torchvision's ROIAlign."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.models.config import load_config
from maskseg.models.pooling import RowPooler

SCALES = (1 / 4, 1 / 8, 1 / 16)


def pyramid(images: int = 2, memory_format=torch.channels_last):
    torch.manual_seed(0)
    return [
        torch.randn(images, 8, 160 >> level, 96 >> level).contiguous(memory_format=memory_format) for level in (0, 1, 2)
    ]


def boxes(count: int, beyond: float = 0) -> Boxes:
    """Boxes of 2 to 400 pixels of an image of 384 x 640 pixels, of all shapes, up to `beyond` pixels outside."""
    centre, size = torch.rand(count, 2) * torch.tensor([384, 640]), 2 * 200 ** torch.rand(count, 2)
    corners = torch.cat([centre - size / 2, centre + size / 2], 1)
    return Boxes(corners.clamp(min=-beyond).minimum(torch.tensor([384, 640, 384, 640]) + beyond))


def stock_and_own(size, samples):
    stock = ROIPooler(size, SCALES, samples, "ROIAlignV2", canonical_box_size=60, canonical_level=3).eval()
    own = RowPooler.like(stock).eval()
    assert isinstance(own, RowPooler)
    return stock, own


@pytest.mark.parametrize(("size", "samples"), [((7, 7), 1), ((14, 14), 1), ((5, 5), 2), ((7, 7), 0)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_it_is_torchvisions(size, samples, memory_format):
    stock, own = stock_and_own(size, samples)
    levels = pyramid(memory_format=memory_format)
    lists = [boxes(150), boxes(70, beyond=60)]
    with torch.no_grad():
        expected, found = stock([level.contiguous() for level in levels], lists), own(levels, lists)
    assert found.shape == expected.shape == (220, 8, *size)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (3, 0)])
def test_images_without_boxes(counts):
    stock, own = stock_and_own((7, 7), 1)
    lists = [boxes(count) for count in counts]
    with torch.no_grad():
        torch.testing.assert_close(own(pyramid(), lists), stock(pyramid(), lists), atol=2e-4, rtol=0)


def test_gradients_are_those_of_the_stock_pooler():
    stock, own = stock_and_own((7, 7), 1)
    grads = []
    for pooler in (stock.train(), own.train()):
        levels = [level.requires_grad_() for level in pyramid()]
        pooled = pooler(levels, [boxes(150), boxes(70, beyond=60)])
        (pooled * torch.randn(pooled.shape)).sum().backward()
        grads.append([level.grad for level in levels])
    for expected, found in zip(*grads, strict=True):
        assert expected.abs().max() > 1
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_another_kind_of_pooler_stays():
    pooler = ROIPooler(7, SCALES, 1, "ROIAlign")
    assert RowPooler.like(pooler) is pooler


@pytest.mark.slow
def test_every_predictor_of_a_mask_rcnn_has_it(monkeypatch):
    cfg = load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"])
    model = build_model(cfg).eval()
    heads = MaskRCNNPredictor(cfg, model).model.roi_heads
    assert type(heads.box_pooler) is type(heads.mask_pooler) is RowPooler
    assert not heads.box_pooler.training
    assert heads.mask_pooler.output_size == (14, 14)
    # And it is what predicts.
    monkeypatch.setattr(ROIPooler, "forward", None)
    assert MaskRCNNPredictor(cfg, model).detect(np.zeros((64, 64, 3), np.uint8)).masks.shape[1:] == (28, 28)
