"""Training samples for Mask R-CNN: one image, one label image (more where nuclei overlap)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from maskseg.data.dataset import load_layers, record_layers
from maskseg.imaging import intensity
from maskseg.imaging.reading import read_image
from maskseg.imaging.scaling import channels_first, input_scale, resize_image
from maskseg.training.augment import RandomWarp, warp_image, warp_labels
from maskseg.training.cache import ImageCache, kept_file
from maskseg.training.label_masks import LabelMasks
from maskseg.training.stain import jitter_stain


class Samples(Dataset):
    """Training samples, made from (position, index) pairs as `maskseg.training.sampler` draws them.

    Every random choice comes from the seed and the position in the training, so that a resumed run sees what the
    unbroken one would have seen, whatever the number of workers.

    Parameters
    ----------
    cfg : CfgNode
    records : list of dict
        From `maskseg.data.dataset.dataset_dicts`.
    """

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]]) -> None:
        self.records = records
        self.warp = RandomWarp.from_config(cfg)
        self.aug = cfg.INPUT.AUG
        self.normalize = cfg.INPUT.NORMALIZE
        self.order = cfg.INPUT.FORMAT
        self.seed = max(cfg.SEED, 0)
        kept = [self._kept(record) for record in records]
        seen = cfg.INPUT.clone()
        seen.pop("AUG")
        files = [file for record in records for file in self._files(record)]
        path = kept_file(cfg.DATALOADER.CACHE_DIR, kept, files, f"{type(self).__name__} {seen.dump()}")
        self.images = ImageCache(kept, cfg.DATALOADER.CACHE_MB << 20, self._read, path)

    def _files(self, record: Mapping[str, Any]) -> list[Path]:
        """What `_read` reads."""
        return [Path(record["file_name"])]

    def _kept(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with ``height`` and ``width`` of what `_read` gives."""
        return record

    def _read(self, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        image = read_image(Path(record["file_name"]))
        return intensity.normalized(image, self.normalize)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        position, index = item
        record = self.records[index]
        rng = np.random.default_rng((self.seed, position))
        image = self.images[index]
        # Read from the run lengths each time: that takes less than keeping label images would save.
        layers = self._layers(record, image.shape[:2])
        warp = self.warp.draw(image.shape[:2], rng)
        image = warp_image(image, warp, self.aug.WINDOW)
        layers = warp_labels(layers, warp, self.aug.WINDOW)
        image = jitter_stain(image, rng, self.aug.STAIN)
        image = intensity.jitter(image, rng, self.aug.CONTRAST, self.aug.BRIGHTNESS, self.aug.GAMMA)
        return self._sample(channels_first(image, self.order), layers, record)

    def _layers(self, record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
        return record_layers(record, shape)

    def _sample(self, image: NDArray[np.uint8], layers: NDArray[np.int32], record: dict[str, Any]) -> dict[str, Any]:
        return as_sample(image, layers, record, self.aug.MIN_PIXELS)


def validation_sample(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """A record as prediction sees it, without augmentation, with its targets."""
    image, layers = load_layers(record)
    image = intensity.normalized(image, cfg.INPUT.NORMALIZE)
    image = resize_image(image, input_scale(image.shape[:2], cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK))
    kind = np.uint16 if layers.dtype == np.uint16 else np.float32
    # The exact kind counts from pixel centres, as the image's resize does; the other lies half a pixel off.
    seen = np.stack(
        [
            cv2.resize(layer, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            for layer in layers.astype(kind, copy=False)
        ]
    ).astype(np.int32)
    return as_sample(channels_first(image, cfg.INPUT.FORMAT), seen, record, cfg.INPUT.AUG.MIN_PIXELS)


def as_sample(
    image: NDArray[np.uint8], layers: NDArray[np.int32], record: dict[str, Any], min_pixels: int
) -> dict[str, Any]:
    """Detectron2's input dict: the image, uint8 (3, H, W), and one instance for each label of enough pixels.

    `layers` are label images (L, H, W), each label in one of them.
    """
    counts = np.bincount(layers.ravel())
    places: dict[int, tuple[slice, slice]] = {}
    for layer in layers:
        for value, place in enumerate(ndimage.find_objects(layer), start=1):
            if place is not None and counts[value] >= min_pixels:
                places[value] = place[0], place[1]
    ids = sorted(places)
    boxes = [(places[i][1].start, places[i][0].start, places[i][1].stop, places[i][0].stop) for i in ids]
    instances = Instances(layers.shape[1:])
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(ids), dtype=torch.int64)
    instances.gt_masks = LabelMasks(torch.from_numpy(layers), torch.tensor(ids, dtype=torch.int64))
    return {
        "image": torch.from_numpy(image),
        "instances": instances,
        "image_id": record["image_id"],
        "height": record["height"],
        "width": record["width"],
    }
