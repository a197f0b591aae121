"""U-Net: an encoder-decoder that says for each pixel how probably it is foreground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling import META_ARCH_REGISTRY
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from maskseg.core.errors import InputError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of a target: not looked at by anybody. And log-odds of background beyond doubt.
IGNORED = 255
_SURELY_NONE = -30.0


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - Dice of the foreground of a batch, all its pixels together [1]_, smooth by a pixel in common.

    That pixel makes nothing on nothing a Dice of 1.

    References
    ----------
    .. [1] Milletari, Navab, Ahmadi: V-Net. 3DV 2016; with smooth = 1 as published for ultrasound nerves.
    """
    probability = logits.sigmoid()
    return 1 - (2 * (probability * targets).sum() + 1) / (probability.sum() + targets.sum() + 1)


# By the names that MODEL.UNET.LOSS has for them: (logits, targets in [0, 1]), both float (N, 1, H, W) -> loss.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"bce": binary_cross_entropy_with_logits, "dice": dice_loss}


@META_ARCH_REGISTRY.register()
class UNet(nn.Module):
    """U-Net [1]_ with as many levels as there are numbers of channels, and a skip connection at each level.

    Parameters
    ----------
    channels : sequence of int
        Of each level, the finest first; each level has half the resolution of the one before.
    rate : float
        The numbers of channels are multiplied by it.
    norm : str
        As in Detectron2: ``BN``, ``SyncBN`` ... or "" for none.
    loss : str
        Key of `LOSSES`.
    pixel_mean, pixel_std : sequence of float
        One a channel of the image.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        channels: Sequence[int],
        rate: float,
        norm: str,
        loss: str,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.loss = LOSSES[loss]
        widths = [max(1, round(width * rate)) for width in channels]
        self.down = nn.ModuleList(
            _two_convolutions(before, width, norm) for before, width in pairwise([len(pixel_mean), *widths])
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for width, below in pairwise(widths))
        self.merge = nn.ModuleList(_two_convolutions(2 * width, width, norm) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Arguments from MODEL.UNET, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD.

        Raises
        ------
        InputError
            If the sizes of the input cannot be halved from level to level.
        """
        unet = cfg.MODEL.UNET
        stride = 2 ** (len(unet.CHANNELS) - 1)
        for key, size in (("LONG_SIDE", cfg.INPUT.LONG_SIDE), ("AUG.WINDOW", cfg.INPUT.AUG.WINDOW)):
            if size % stride:
                raise InputError(f"INPUT.{key} is {size}; give a multiple of {stride}, which its levels halve")
        return {
            "channels": unet.CHANNELS,
            "rate": unet.CHANNEL_RATE,
            "norm": unet.NORM,
            "loss": unet.LOSS,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def logits(self, images: Tensor) -> Tensor:
        """Log-odds of foreground, float (N, 1, H, W), for images (N, C, H, W) with the values of their files."""
        features = (images.to(self.device) - self.pixel_mean) / self.pixel_std
        features = features.contiguous(memory_format=torch.channels_last)
        skips = []
        for level, block in enumerate(self.down):
            if level:
                features = nn.functional.max_pool2d(features, 2)
            features = block(features)
            skips.append(features)
        for level in reversed(range(len(self.up))):
            features = self.merge[level](torch.cat([skips[level], self.up[level](features)], dim=1))
        return self.head(features).float()

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The loss of samples of one size, each with ``image`` (C, H, W) and ``target`` (H, W), 0, 1 or `IGNORED`."""
        targets = torch.stack([sample["target"] for sample in batch])[:, None].to(self.device)
        logits = self.logits(torch.stack([sample["image"] for sample in batch]))
        ignored = targets == IGNORED
        if ignored.any():
            # As if surely right, whatever the loss: nothing is learned there.
            logits, targets = logits.masked_fill(ignored, _SURELY_NONE), targets.masked_fill(ignored, 0)
        return {"loss_mask": self.loss(logits, targets.to(logits))}


def _two_convolutions(before: int, width: int, norm: str) -> nn.Sequential:
    convolutions = [
        Conv2d(inputs, width, 3, padding=1, bias=not norm, norm=get_norm(norm, width), activation=nn.ReLU(inplace=True))
        for inputs in (before, width)
    ]
    for convolution in convolutions:
        c2_msra_fill(convolution)
    return nn.Sequential(*convolutions)
