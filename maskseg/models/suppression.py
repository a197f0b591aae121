"""Suppression of boxes that show one thing twice, in time that follows their number."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from maskseg.core.overlaps import box_pairs

# Boxes that are compared with each other one by one.
_CHUNK = 2048


def suppress(boxes: Tensor, threshold: float) -> Tensor:
    """Greedy suppression, the same as torchvision's ``nms``: which boxes overlap none that is kept before them.

    torchvision compares each kept box with all that follow, the square of their number. Here some boxes at a time are
    compared with those kept before that lie near them, and what is left of them with each other.

    Parameters
    ----------
    boxes : float32 tensor (N, 4)
        By falling score.
    threshold : float
        IoU above which the later of two boxes goes.

    Returns
    -------
    int64 tensor (K,)
        The boxes that stay, in their order.
    """
    if boxes.device.type != "cpu" or len(boxes) <= _CHUNK:
        return _greedy(boxes, threshold)
    kept = torch.zeros(0, dtype=torch.int64)
    for begin in range(0, len(boxes), _CHUNK):
        some = boxes[begin : begin + _CHUNK]
        free = (~overlapped(some, boxes[kept], threshold)).nonzero()[:, 0]
        kept = torch.cat([kept, begin + free[_greedy(some[free], threshold)]])
    return kept


def _greedy(boxes: Tensor, threshold: float) -> Tensor:
    return nms(boxes, torch.arange(len(boxes), 0, -1, device=boxes.device, dtype=torch.float32), threshold)


def overlapped(boxes: Tensor, others: Tensor, threshold: float) -> Tensor:
    """Which of boxes (N, 4) have an IoU over the threshold with any of others (M, 4): bool (N,)."""
    first, second = (
        torch.from_numpy(index).to(boxes.device) for index in box_pairs(boxes.cpu().numpy(), others.cpu().numpy())
    )
    one, other = boxes[first], others[second]
    shared = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).prod(dim=1)
    areas = (one[:, 2:] - one[:, :2]).prod(dim=1) + (other[:, 2:] - other[:, :2]).prod(dim=1)
    overlaps = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    overlaps[first[shared / (areas - shared) > threshold]] = True
    return overlaps
