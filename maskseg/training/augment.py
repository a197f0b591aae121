"""One affine warp for a training sample: crop, magnify, turn and mirror at once, each pixel resampled once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.imaging.scaling import input_scale

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class RandomWarp:
    """Draws affine maps from image pixels to the pixels of a square sample. The fields are those of INPUT.AUG."""

    long_side: int
    shrink: bool
    window: int
    crop_prob: float
    crop_size: int
    scale: tuple[float, float]
    rotate: float
    flip: bool
    quarter_turns: bool

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomWarp:
        """Made from INPUT and INPUT.AUG."""
        aug = cfg.INPUT.AUG
        return cls(
            cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK, aug.WINDOW, aug.CROP_PROB, aug.CROP_SIZE,
            (aug.SCALE[0], aug.SCALE[1]), aug.ROTATE, aug.FLIP, aug.QUARTER_TURNS,
        )  # fmt: skip

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
        """A random map for an image of `shape` (height, width), as cv2's 2 x 3 matrix."""
        height, width = shape
        x0, y0, w, h = 0, 0, width, height
        if max(shape) > self.crop_size and rng.random() < self.crop_prob:
            w, h = min(width, self.crop_size), min(height, self.crop_size)
            x0, y0 = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        scale = input_scale((h, w), self.long_side, self.shrink) * np.exp(rng.uniform(*np.log(self.scale)))
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate) + (90 * rng.integers(4) if self.quarter_turns else 0))
        cos, sin = np.cos(angle), np.sin(angle)
        linear = scale * np.array([[cos, -sin], [sin, cos]])
        if self.flip:
            linear *= np.where(rng.random(2) < 0.5, -1.0, 1.0)[:, None]
        # What is larger than the sample is cut at a random place, what is smaller is placed at a random one.
        extent = np.abs(linear) @ (w, h)
        slack = np.abs(extent - self.window) / 2
        centre = self.window / 2 + rng.uniform(-1, 1, 2) * slack
        offset = centre - linear @ (x0 + w / 2, y0 + h / 2)
        # cv2 counts from pixel centres; half a pixel in, half a pixel out.
        return np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])


def warp_image(image: NDArray[np.uint8], matrix: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """The image resampled bilinearly to (side, side, 3); black outside."""
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)


def warp_labels(layers: NDArray[np.integer[Any]], matrix: NDArray[np.float64], side: int) -> NDArray[np.int32]:
    """Label images (L, H, W) resampled to (L, side, side), nearest pixel; 0 outside."""
    # cv2 warps no 32-bit integers; float32 holds whole numbers exactly up to 2**24.
    kind = np.uint16 if layers.dtype == np.uint16 or layers.max(initial=0) < 65536 else np.float32
    return np.stack(
        [
            cv2.warpAffine(layer, matrix, (side, side), flags=cv2.INTER_NEAREST)
            for layer in layers.astype(kind, copy=False)
        ]
    ).astype(np.int32)
