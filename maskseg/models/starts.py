"""How residual blocks begin that no stored weights were loaded for: nearly as the identity."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from detectron2.layers import CNNBlockBase, FrozenBatchNorm2d
from torch import nn

# What a new block adds to its input, beside what its own initialisation would make it add. Seventeen such blocks in a
# row, as a ResNet-101 has beyond a ResNet-50, then leave the size of the features as it is; at 1, each block adds about
# as much as it is given, and the features grow a thousandfold.
BRANCH = 0.1


class TrainedAffine(FrozenBatchNorm2d):
    """Batch norm of frozen statistics whose scale (gamma) and shift (beta) are trained.

    The names of its state are those of `FrozenBatchNorm2d`, so that the same weight files fit.

    Parameters
    ----------
    num_features : int
    eps : float
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
        del self.weight, self.bias
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))


def train_affine(module: nn.Module) -> None:
    """Put a `TrainedAffine` in place of each frozen batch norm in a network; a frozen block keeps its own."""
    for name, child in module.named_children():
        if isinstance(child, CNNBlockBase) and not any(value.requires_grad for value in child.parameters()):
            continue
        if type(child) is FrozenBatchNorm2d:
            frozen: Any = child  # to nn.Module every attribute is a tensor or a module
            trained = TrainedAffine(frozen.num_features, frozen.eps)
            trained.load_state_dict(frozen.state_dict())
            setattr(module, name, trained)
        else:
            train_affine(child)


@torch.no_grad()
def damp_new_blocks(model: nn.Module, missing: Collection[str]) -> list[str]:
    """Let residual blocks begin near the identity whose weights were not loaded.

    The last norm of the block is scaled by `BRANCH` where it is trained, its last convolution otherwise.

    Parameters
    ----------
    model : torch.nn.Module
    missing : collection of str
        Names of the weights that keep their own start.

    Returns
    -------
    list of str
        Names of the blocks.
    """
    damped = []
    for name, block in model.named_modules():
        last = getattr(block, "conv3", getattr(block, "conv2", None))
        if not isinstance(block, CNNBlockBase) or last is None or f"{name}.conv1.weight" not in missing:
            continue
        norm = getattr(last, "norm", None)
        scale = getattr(norm, "weight", None)
        (scale if isinstance(scale, nn.Parameter) else last.weight).mul_(BRANCH)
        damped.append(name)
    return damped
