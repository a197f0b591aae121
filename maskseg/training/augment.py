"""One affine warp for a training sample: crop, magnify, turn and mirror at once, each pixel resampled once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import measure

from maskseg.imaging.scaling import input_scale

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class Warp:
    """An affine map from image pixels to the pixels of a square sample.

    Attributes
    ----------
    matrix : float64 array (2, 3)
        As cv2 takes it.
    inside : (int, int, int, int) or None
        x0, y0, x1, y1 of the sample that are filled, where need be by the mirror image of the border; all else is
        black. None: whatever lies outside of the image is black.
    """

    matrix: NDArray[np.float64]
    inside: tuple[int, int, int, int] | None = None


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
    affine_prob: float = 1.0
    scale_draw: str = "log"
    border: str = "constant"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomWarp:
        """Made from INPUT and INPUT.AUG."""
        aug = cfg.INPUT.AUG
        return cls(
            cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK, aug.WINDOW, aug.CROP_PROB, aug.CROP_SIZE,
            (aug.SCALE[0], aug.SCALE[1]), aug.ROTATE, aug.FLIP, aug.QUARTER_TURNS,
            aug.AFFINE_PROB, aug.SCALE_DRAW, aug.BORDER,
        )  # fmt: skip

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Warp:
        """A random map for an image of `shape` (height, width)."""
        return self._within(shape, rng) if self.border == "reflect" else Warp(self._placed(shape, rng))

    def _linear(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Magnification, rotation, quarter turn and mirroring, (2, 2)."""
        scale, angle = 1.0, 0.0
        if rng.random() < self.affine_prob:
            log = self.scale_draw == "log"
            scale = np.exp(rng.uniform(*np.log(self.scale))) if log else rng.uniform(*self.scale)
            angle = rng.uniform(-self.rotate, self.rotate)
        angle = np.deg2rad(angle + (90 * rng.integers(4) if self.quarter_turns else 0))
        cos, sin = np.cos(angle), np.sin(angle)
        linear = scale * np.array([[cos, -sin], [sin, cos]])
        if self.flip:
            linear *= np.where(rng.random(2) < 0.5, -1.0, 1.0)[:, None]
        return linear

    def _within(self, shape: tuple[int, int], rng: np.random.Generator) -> Warp:
        """Warped on a canvas of the image's own size, of which a square is then taken: the order of the method."""
        linear = self._linear(rng)
        # What the quarter turn makes of width and height.
        turned = abs(linear[0, 1]) > abs(linear[0, 0])
        canvas = np.array(shape if turned else shape[::-1], np.float64)
        crop = max(shape) > self.crop_size and rng.random() < self.crop_prob
        taken = np.minimum(canvas, self.crop_size) if crop else canvas
        at = rng.uniform(-1, 1, 2) * (canvas - taken) / 2
        scale = input_scale((taken[1], taken[0]), self.long_side, self.shrink)
        slack = self.window - scale * taken
        # A larger one is cut at a random place; a smaller one is in the middle.
        middle = self.window / 2 + np.where(slack < 0, rng.uniform(-1, 1, 2), 0) * np.abs(slack) / 2
        linear = scale * linear
        offset = middle - scale * at - linear @ (np.array(shape[::-1]) / 2)
        low, high = middle - scale * taken / 2, middle + scale * taken / 2
        box = [round(value) for value in np.clip([*low, *high], 0, self.window)]
        return Warp(_pixel_centres(linear, offset), (box[0], box[1], box[2], box[3]))

    def _placed(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
        height, width = shape
        x0, y0, w, h = 0, 0, width, height
        if max(shape) > self.crop_size and rng.random() < self.crop_prob:
            w, h = min(width, self.crop_size), min(height, self.crop_size)
            x0, y0 = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        linear = input_scale((h, w), self.long_side, self.shrink) * self._linear(rng)
        # What is larger than the sample is cut at a random place, what is smaller is placed at a random one.
        extent = np.abs(linear) @ (w, h)
        slack = np.abs(extent - self.window) / 2
        centre = self.window / 2 + rng.uniform(-1, 1, 2) * slack
        offset = centre - linear @ (x0 + w / 2, y0 + h / 2)
        return _pixel_centres(linear, offset)


def _pixel_centres(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map as cv2 wants it, which counts from pixel centres; half a pixel in, half a pixel out."""
    return np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])


def warp_image(image: NDArray[np.uint8], warp: Warp, side: int) -> NDArray[np.uint8]:
    """The image resampled bilinearly to (side, side, 3)."""
    border = cv2.BORDER_CONSTANT if warp.inside is None else cv2.BORDER_REFLECT
    return _inside(cv2.warpAffine(image, warp.matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border), warp)


def warp_labels(layers: NDArray[np.integer[Any]], warp: Warp, side: int, instances: bool = True) -> NDArray[np.int32]:
    """Label images (L, H, W) resampled to (L, side, side), nearest pixel; 0 outside.

    Where the border is reflected, the mirror image of an instance is an instance of its own, unless the two touch;
    values that are no `instances` stay as they are.
    """
    # cv2 warps no 32-bit integers; float32 holds whole numbers exactly up to 2**24.
    kind = np.uint16 if layers.dtype == np.uint16 or layers.max(initial=0) < 65536 else np.float32
    border = cv2.BORDER_CONSTANT if warp.inside is None else cv2.BORDER_REFLECT
    warped = np.stack(
        [
            _inside(cv2.warpAffine(layer, warp.matrix, (side, side), flags=cv2.INTER_NEAREST, borderMode=border), warp)
            for layer in layers.astype(kind, copy=False)
        ]
    ).astype(np.int32)
    return warped if warp.inside is None or not instances else _each_mirror_image(warped)


def _inside(pixels: NDArray[Any], warp: Warp) -> NDArray[Any]:
    """Pixels (side, side, ...) with nothing but 0 outside of the box, in place."""
    if warp.inside is not None:
        x0, y0, x1, y1 = warp.inside
        pixels[:y0], pixels[y1:], pixels[:, :x0], pixels[:, x1:] = 0, 0, 0, 0
    return pixels


def _each_mirror_image(layers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Label images in which each connected piece of a label has a label of its own."""
    first = 0
    for index, layer in enumerate(layers):
        pieces = measure.label(layer, connectivity=2).astype(np.int32)
        layers[index] = np.where(pieces > 0, pieces + first, 0)
        first += int(pieces.max(initial=0))
    return layers
