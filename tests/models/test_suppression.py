"""Suppression in time that follows the number of boxes is torchvision's."""

import pytest
import torch
from torchvision.ops import nms

from maskseg.models import suppression
from maskseg.models.suppression import suppress


def crowd(count: int, seed: int) -> torch.Tensor:
    """Boxes of 1 to 300 pixels, many of each thing, some without area and some beyond the image."""
    torch.manual_seed(seed)
    things = torch.rand(count // 12 + 1, 2) * 900
    centre = things[torch.randint(len(things), (count,))] + 4 * torch.randn(count, 2)
    size = 300 ** torch.rand(count, 2)
    size[::97] = 0
    return torch.cat([centre - size / 2, centre + size / 2], 1)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize(("count", "chunk"), [(0, 5), (5, 5), (6, 5), (1500, 64), (1500, 5000)])
def test_the_same_boxes_stay(monkeypatch, count, chunk, threshold):
    monkeypatch.setattr(suppression, "_CHUNK", chunk)
    boxes = crowd(count, seed=count)
    falling = torch.arange(count, 0, -1, dtype=torch.float32)
    assert suppress(boxes, threshold).tolist() == nms(boxes, falling, threshold).tolist()
