"""What of an image nobody has looked at: neither nucleus nor background in the losses."""

from __future__ import annotations

import torch
from detectron2.structures import Instances
from torch import Tensor


def ignored_of(target: Instances) -> Tensor | None:
    """Where an image is unreviewed, bool (H, W), as its ``gt_masks`` carry it; None where all of it counts."""
    return getattr(target.gt_masks, "ignored", None) if target.has("gt_masks") else None


def shares(ignored: Tensor, boxes: Tensor) -> Tensor:
    """Share of each box that is ignored, to the pixel.

    Parameters
    ----------
    ignored : bool tensor (H, W)
    boxes : float tensor (N, 4)
        x0, y0, x1, y1 in pixels; of those that reach beyond the image the part inside counts.

    Returns
    -------
    float tensor (N,)
        0 for a box without a pixel of the image.

    Examples
    --------
    >>> left = torch.arange(8).expand(4, 8) < 4
    >>> shares(left, torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [-4, 0, 4, 4]])).tolist()
    [1.0, 0.5, 0.0, 1.0]
    """
    height, width = ignored.shape
    sums = torch.zeros(height + 1, width + 1, dtype=torch.int32, device=ignored.device)
    sums[1:, 1:] = ignored.int().cumsum(0).cumsum(1)
    x0, x1 = (boxes[:, side].round().long().clamp(0, width) for side in (0, 2))
    y0, y1 = (boxes[:, side].round().long().clamp(0, height) for side in (1, 3))
    within = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return within / ((x1 - x0) * (y1 - y0)).clamp(min=1)
