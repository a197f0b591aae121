"""Convolutions for prediction on a CPU: frozen norms folded into them, Winograd's multiplications where they pay."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

from maskseg.core.threads import others_get_the_cores

# Positions of the output, of all images together, from which Winograd's way is the faster one: below, transforming the
# weights takes longer than what it saves (benchmarks/convolutions.py).
_LEAST = 1024
# Side of the squares of output that Winograd's way makes at a time, and bytes that it may hold for them.
_SQUARE, _SPACE = 6, 32 * 2**20
# Channels from which the order of the weights decides; few are faster the other way.
_MANY = 16
# Bytes of what the convolution of a stem finds at a time.
_STEM_SPACE = 4 * 2**20


def _winograd_pays() -> bool:
    """Whether the best instructions of the CPU are those of AVX2, and NNPACK gets the cores.

    oneDNN, which torch uses otherwise, has twice as wide instructions on a CPU with AVX-512. NNPACK has threads of its
    own, and those of torch would take their cores where they turn while they wait.
    """
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX2"
        and (torch.get_num_threads() == 1 or others_get_the_cores())
        and torch.backends.nnpack.is_available()
    )


class _Quick(nn.Conv2d):
    """A convolution that predicts on a CPU as said above, and is in everything else the one that it was."""

    def forward(self, input: Tensor) -> Tensor:
        """Features (N, C, H, W), as the convolution, its norm and its activation make them."""
        if not self._predicts(input):
            return super().forward(input)
        weight, bias = self._folded()
        if self._gains(input):
            found = _by_winograd(input, weight.contiguous(), bias, self.padding)
        elif self.kernel_size == self.stride == (1, 1) and self.groups == 1 and input.is_contiguous():
            # What comes from a convolution by Winograd: else it would be laid out anew, twice.
            found = _by_product(input, weight, bias)
        else:
            if self.kernel_size != (1, 1) and self.in_channels >= _MANY and input.is_contiguous():
                # In the order of what comes from Winograd's way, which would else be laid out anew.
                weight = weight.contiguous()
            found = F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        activation = getattr(self, "activation", None)
        if isinstance(activation, nn.ReLU) or activation in (F.relu, F.relu_):
            return found.relu_()
        return found if activation is None else activation(found)

    def _predicts(self, input: Tensor) -> bool:
        """Whether nothing learns from this, on a CPU, in float32, and no other program is made of it."""
        norm = getattr(self, "norm", None)
        return (
            not torch.is_grad_enabled()
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and self.padding_mode == "zeros"
            and (norm is None or isinstance(norm, FrozenBatchNorm2d))
        )

    def _gains(self, input: Tensor) -> bool:
        """Whether it is one of 3 x 3 weights over enough positions, where Winograd's way pays at all."""
        count, _, height, width = input.shape
        return (
            self.kernel_size == (3, 3)
            and not isinstance(self.padding, str)
            and self.stride == self.dilation == (1, 1)
            and self.groups == 1
            and count * height * width >= _LEAST
            and _winograd_pays()
        )

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias with the norm in them, made once for as long as neither changes."""
        norm: Any = getattr(self, "norm", None)
        if norm is None:
            return self.weight, self.bias
        parts = [self.weight, norm.running_mean, norm.running_var, norm.weight, norm.bias]
        parts += [] if self.bias is None else [self.bias]
        kept: Any = self.__dict__.get("_kept")
        # Of what was made in inference mode torch does not note when it changes.
        noted = not any(part.is_inference() for part in parts)
        now = [(part.data_ptr(), part._version) for part in parts] if noted else None
        if kept is None or kept[0] is None or kept[0] != now:
            mean, variance, scale, shift = parts[1:5]
            folded = fuse_conv_bn_weights(self.weight, self.bias, mean, variance, norm.eps, scale, shift)
            kept = self.__dict__["_kept"] = now, *(part.detach() for part in folded)
        return kept[1], kept[2]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


def _by_winograd(input: Tensor, weight: Tensor, bias: Tensor | None, padding: Any) -> Tensor:
    """A 3 x 3 convolution by NNPACK, some rows of squares of its output after the other.

    What NNPACK holds for a square is 64 numbers a channel, and it keeps the most that it ever held.
    """
    count, channels, height, width = input.shape
    down, across = padding
    tall, wide = height + 2 * down - 2, width + 2 * across - 2
    each = 4 * 64 * (channels + len(weight)) * -(-wide // _SQUARE)
    rows = max(1, _SPACE // each) * _SQUARE
    if tall <= rows:
        return torch._nnpack_spatial_convolution(input.contiguous(), weight, bias, padding)
    found = input.new_empty(count, len(weight), tall, wide)
    for begin in range(0, tall, rows):
        end = min(begin + rows, tall)
        top, bottom = begin - down, end - down + 2
        part = input[:, :, max(top, 0) : min(bottom, height)]
        part = F.pad(part, (0, 0, max(-top, 0), max(bottom - height, 0)))
        found[:, :, begin:end] = torch._nnpack_spatial_convolution(part.contiguous(), weight, bias, (0, across))
    return found


def _by_product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1 x 1 convolution of features (N, C, H, W), channel by channel in memory, as a product of matrices."""
    rows = weight.flatten(1).expand(len(input), -1, -1)
    found = torch.bmm(rows, input.flatten(2))
    if bias is not None:
        found += bias[:, None]
    return found.unflatten(2, input.shape[2:])


class _QuickConv2d(_Quick, Conv2d):
    """Of Detectron2's, with its norm and its activation."""


class _QuickStem(BasicStem):
    """Detectron2's stem, which predicts on a CPU some rows after the other.

    What its convolution finds of a large image is the most that a network of few channels holds at all, and the
    indices that torch's pooling makes and nobody asks for take half as much again.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, H / 4, W / 4) of images (N, 3, H, W), as the stem makes them."""
        conv = self.conv1
        count, _, height, width = x.shape
        high, wide, tall = _half(height), _half(_half(width)), _half(_half(height))
        # Of what is found, two rows for each that the pooling leaves.
        rows = max(1, _STEM_SPACE // max(16 * count * conv.out_channels * wide, 1))
        if not (isinstance(conv, _Quick) and conv._predicts(x) and rows < tall):
            return super().forward(x)
        weight, bias = conv._folded()
        # As what follows wants it: Winograd's way takes channel after channel.
        order = torch.contiguous_format if _winograd_pays() else torch.channels_last
        found = torch.empty((count, conv.out_channels, tall, wide), dtype=x.dtype, memory_format=order)
        for begin in range(0, tall, rows):
            end = min(begin + rows, tall)
            first, last = max(2 * begin - 1, 0), min(2 * end, high)
            top, bottom = 2 * first - 3, 2 * last + 2
            part = x[:, :, max(top, 0) : min(bottom, height)]
            part = F.pad(part, (3, 3, max(-top, 0), max(bottom - height, 0)))
            part = F.conv2d(part, weight, bias, stride=2).relu_()
            # The pooling's own padding is less than all numbers; after the activation zero is, too.
            part = F.pad(part, (1, 1, int(begin == 0), 2 * end - last))
            found[:, :, begin:end] = F.max_pool2d(part, 3, 2)
        return found


def _half(size: int) -> int:
    """What a stride of 2 leaves of a side, with the padding of the stem."""
    return -(-size // 2)


def quicken(model: nn.Module) -> None:
    """Let the convolutions of a network predict quickly on a CPU, to 1e-5 of their values; it trains as before."""
    quick = {Conv2d: _QuickConv2d, nn.Conv2d: _Quick, BasicStem: _QuickStem}
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if type(module) in quick:
            module.__class__ = quick[type(module)]
