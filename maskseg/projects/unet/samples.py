"""Training samples for the U-Net: an image and its foreground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.data.dataset import load_layers, record_layers, unreviewed
from maskseg.imaging.exposure import normalized
from maskseg.imaging.scaling import channels_first, input_scale, labels_to_shape, scaled_shape, to_shape
from maskseg.projects.unet.network import IGNORED
from maskseg.projects.unet.predictor import on_canvas
from maskseg.training.mapper import Samples


class PixelSamples(Samples):
    """As `maskseg.training.mapper.Samples`, with the foreground as target.

    What the config shrinks is shrunk as in prediction and kept like that; the random warp comes after. With INPUT.SIZE
    the middle of the warped square is the sample.
    """

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]]) -> None:
        self.limit = cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK
        self.size = tuple(cfg.INPUT.SIZE)
        super().__init__(cfg, records)

    def _kept(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        height, width = self._shape((record["height"], record["width"]))
        return {"file_name": record["file_name"], "height": height, "width": width}

    def _read(self, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        image = super()._read(record)
        return to_shape(image, self._shape(image.shape[:2]))

    def _shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return self.size or scaled_shape(shape, min(1.0, input_scale(shape, *self.limit)))

    def _layers(self, record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
        # Held against the size of the image as it was kept: of a file of another size all the masks are wrong.
        kept = self._kept(record)
        if shape != (kept["height"], kept["width"]):
            raise InputError(f"{record['file_name']}: its masks are of another size; convert the data set again")
        return foreground(record_layers(record, (record["height"], record["width"])), shape)[None]

    def _sample(self, image: NDArray[np.uint8], layers: NDArray[np.int32], record: dict[str, Any]) -> dict[str, Any]:
        height, width = self.size or image.shape[1:]
        y0, x0 = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        middle = np.s_[y0 : y0 + height, x0 : x0 + width]
        ignored = record.get("ignored")
        unseen = None if ignored is None else ignored[middle]
        return as_sample(np.ascontiguousarray(image[:, *middle]), layers[0][middle], record, unseen)


def validation_sample(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """A record as prediction sees it, without augmentation, with its target."""
    image, layers = load_layers(record)
    image = normalized(image, cfg.INPUT.NORMALIZE, cfg.INPUT.STAINED)
    canvas, (height, width) = on_canvas(image, cfg)
    target = np.zeros(canvas.shape[:2], np.uint8)
    target[:height, :width] = foreground(layers, (height, width))
    unseen = unreviewed(record, layers.shape[1:])
    if unseen is not None:
        ignored = np.zeros(canvas.shape[:2], bool)
        ignored[:height, :width] = labels_to_shape(unseen, (height, width))
        unseen = ignored
    return as_sample(channels_first(canvas, cfg.INPUT.FORMAT), target, record, unseen)


def foreground(layers: NDArray[np.integer[Any]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Where label images (L, H, W) have an instance, 0 or 1, in an image of another height and width.

    Pixels at which two instances touch are background, so that the network learns to part them [1]_.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
    """
    # cv2 knows no 32-bit integers; float32 holds whole numbers exactly up to 2**24.
    labels = layers.max(axis=0).astype(np.uint16 if layers.dtype == np.uint16 else np.float32)
    around = np.ones((3, 3), np.uint8)
    lowest = cv2.erode(np.where(labels > 0, labels, labels.max()), around)
    mask = (labels > 0) & (lowest == cv2.dilate(labels, around))
    # Where it shrinks, by what most of a pixel is: of two pixels the nearest is always the same one.
    if shape[0] >= len(mask):
        return labels_to_shape(mask, shape).astype(np.uint8)
    return (cv2.resize(mask * np.uint8(255), shape[::-1], interpolation=cv2.INTER_AREA) >= 128).astype(np.uint8)


def as_sample(
    image: NDArray[np.uint8],
    target: NDArray[np.integer[Any]],
    record: dict[str, Any],
    unseen: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """What `maskseg.projects.unet.network.UNet` takes: the image, uint8 (3, H, W), and the target (H, W), 0 or 1.

    Where nobody has looked at the image, bool (H, W), the target is `IGNORED`.
    """
    target = target.astype(np.uint8)
    if unseen is not None:
        target[unseen] = IGNORED
    return {
        "image": torch.from_numpy(image),
        "target": torch.from_numpy(target),
        "image_id": record["image_id"],
    }
