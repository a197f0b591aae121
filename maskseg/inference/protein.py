"""Prediction of protein localisation: the classes of each image, in one table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.data.protein import CLASSES, group_channels, read_channels, write_predicted
from maskseg.errors import InputError
from maskseg.evaluation.multilabel import decide
from maskseg.files import write_whole
from maskseg.images import ImageFile
from maskseg.inference.predictor import Predictor
from maskseg.models.scaling import channels_first, input_scale, resize_image


def network_image(cfg: CfgNode, image_id: str, files: Mapping[str, ImageFile]) -> torch.Tensor:
    """Channels of an image as the network sees them, uint8 (C, h, w), without augmentation."""
    image = read_channels(image_id, files, cfg.INPUT.CHANNELS)
    scaled = resize_image(image, input_scale(image.shape[:2], cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK))  # type: ignore[arg-type]
    # OpenCV forgets the third axis where it has one channel.
    return torch.from_numpy(channels_first(scaled.reshape(*scaled.shape[:2], -1), "RGB"))


class ProteinPredictor(Predictor):
    """A classifier with its config."""

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """Of the classes, float32 (K,)."""
        return self.model.thresholds.cpu().numpy().copy()

    @torch.inference_mode()
    def predict(self, image_id: str, files: Mapping[str, ImageFile]) -> NDArray[np.float32]:
        """Probability of each class of an image, float32 (K,)."""
        return self.model([{"image": network_image(self.cfg, image_id, files)}])[0].float().cpu().numpy()


def predict_proteins(
    predictor: ProteinPredictor, files: Sequence[ImageFile], out: Path, *args: Any
) -> list[tuple[str, str]]:
    """Write ``submission.csv`` and ``probabilities.csv`` of images; the files of one image are its channels.

    Returns
    -------
    list of (image_id, reason)
        The images that were left out.
    """
    found: dict[str, NDArray[np.float32]] = {}
    failed: list[tuple[str, str]] = []
    for image_id, channels in tqdm(group_channels(files).items(), desc="predict", unit="image", disable=None):
        try:
            found[image_id] = predictor.predict(image_id, channels)
        except InputError as error:
            failed.append((image_id, str(error)))
    probabilities = np.array([*found.values()], np.float32).reshape(-1, len(CLASSES))
    chosen = decide(probabilities, predictor.thresholds)
    write_predicted(out / "submission.csv", zip(found, map(np.flatnonzero, chosen), strict=True))
    with write_whole(out / "probabilities.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Id", *CLASSES])
        writer.writerows([name, *(f"{value:.4f}" for value in values)] for name, values in found.items())
    return failed
