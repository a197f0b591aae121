"""From a dataset record to what Mask R-CNN eats: one image, one label map."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from maskseg import intensity
from maskseg.data.coco import load_record
from maskseg.models.scaling import channels_first, input_scale, resize_image
from maskseg.training.augment import RandomWarp, warp_image, warp_labels
from maskseg.training.label_masks import LabelMasks


class Samples(Dataset):
    """Training samples, made from (position, index) pairs as `maskseg.training.sampler` draws them.

    Every random choice comes from the seed and the position in the training, so that a resumed run sees what the
    unbroken one would have seen, whatever the number of workers.

    Parameters
    ----------
    cfg : CfgNode
    records : list of dict
        From `maskseg.data.coco.dataset_dicts`.
    """

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]]) -> None:
        self.records = records
        self.warp = RandomWarp.from_config(cfg)
        self.aug = cfg.INPUT.AUG
        self.stretch = cfg.INPUT.STRETCH
        self.order = cfg.INPUT.FORMAT
        self.seed = max(cfg.SEED, 0)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        position, index = item
        record = self.records[index]
        rng = np.random.default_rng((self.seed, position))
        image, labels = load_record(record)
        if self.stretch:
            image = intensity.stretch(image)
        matrix = self.warp.draw(labels.shape, rng)  # type: ignore[arg-type]
        image = warp_image(image, matrix, self.aug.WINDOW)
        labels = warp_labels(labels, matrix, self.aug.WINDOW)
        image = intensity.jitter(image, rng, self.aug.CONTRAST, self.aug.BRIGHTNESS, self.aug.GAMMA)
        return as_sample(channels_first(image, self.order), labels, record, self.aug.MIN_PIXELS)


def validation_sample(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """A record as prediction sees it, without augmentation, with its targets."""
    image, labels = load_record(record)
    if cfg.INPUT.STRETCH:
        image = intensity.stretch(image)
    image = resize_image(image, input_scale(labels.shape, cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK))  # type: ignore[arg-type]
    kind = np.uint16 if labels.max(initial=0) < 65536 else np.float32
    # The exact kind counts from pixel centres, as the image's resize does; the other lies half a pixel off.
    labels = cv2.resize(labels.astype(kind), image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
    return as_sample(channels_first(image, cfg.INPUT.FORMAT), labels, record, cfg.INPUT.AUG.MIN_PIXELS)


def as_sample(
    image: NDArray[np.uint8], labels: NDArray[np.int32], record: dict[str, Any], min_pixels: int
) -> dict[str, Any]:
    """Detectron2's input dict: the image, uint8 (3, H, W), and one instance for each label of enough pixels."""
    counts = np.bincount(labels.ravel())
    ids, boxes = [], []
    for value, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None and counts[value] >= min_pixels:
            rows, columns = found
            ids.append(value)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
    instances = Instances(labels.shape)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(ids), dtype=torch.int64)
    instances.gt_masks = LabelMasks(torch.from_numpy(labels), torch.tensor(ids, dtype=torch.int64))
    return {
        "image": torch.from_numpy(image),
        "instances": instances,
        "image_id": record["image_id"],
        "height": record["height"],
        "width": record["width"],
    }
