"""Training samples of protein localisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray

from maskseg.imaging import intensity
from maskseg.imaging.scaling import channels_first
from maskseg.projects.protein.data import class_table, read_channels, require_channels
from maskseg.projects.protein.predictor import network_image
from maskseg.training.augment import warp_image
from maskseg.training.mapper import Samples


class ProteinSamples(Samples):
    """Of records of `maskseg.projects.protein.data.protein_dicts`; one that lacks a channel is an InputError."""

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]]) -> None:
        self.channels = cfg.INPUT.CHANNELS
        for record in records:
            require_channels(record["image_id"], record["files"], self.channels)
        super().__init__(cfg, records)

    def _kept(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**record, "channels": len(self.channels)}

    def _files(self, record: Mapping[str, Any]) -> list[Path]:
        return [file.path for file in record["files"].values()]

    def _read(self, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        return read_channels(record["image_id"], record["files"], self.channels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        position, index = item
        rng = np.random.default_rng((self.seed, position))
        image = self.images[index]
        image = warp_image(image, self.warp.draw(image.shape[:2], rng), self.aug.WINDOW)
        image = intensity.jitter(image, rng, self.aug.CONTRAST, self.aug.BRIGHTNESS, self.aug.GAMMA)
        pixels = torch.from_numpy(channels_first(np.atleast_3d(image), "RGB"))
        return as_sample(pixels, self.records[index])


def validation_sample(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """A record as prediction sees it, with its target."""
    return as_sample(network_image(cfg, record["image_id"], record["files"]), record)


def as_sample(image: torch.Tensor, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the classifier takes."""
    labels = torch.from_numpy(class_table([record["labels"]])[0]).float()
    return {"image": image, "labels": labels, "odds": torch.from_numpy(record["odds"]), "image_id": record["image_id"]}
