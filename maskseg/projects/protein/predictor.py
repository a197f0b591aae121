"""Prediction of protein localisation: the classes of each image, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.errors import InputError
from maskseg.formats.measures import Measures
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.scaling import channels_first, input_scale, resize_image
from maskseg.inference.predictor import Predictor, refuse_formats, refuse_options
from maskseg.projects.protein.data import CLASSES, group_channels, read_channels, write_predicted
from maskseg.projects.protein.evaluator import decide

if TYPE_CHECKING:
    from maskseg.projects.protein.network import ProteinClassifier


def network_image(cfg: CfgNode, image_id: str, files: Mapping[str, ImageFile]) -> torch.Tensor:
    """Channels of an image as the network sees them, uint8 (C, h, w), without augmentation."""
    image = read_channels(image_id, files, cfg.INPUT.CHANNELS)
    image = resize_image(image, input_scale(image.shape[:2], cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK))
    # OpenCV drops the third axis where there is one channel.
    return torch.from_numpy(channels_first(np.atleast_3d(image), "RGB"))


class ProteinPredictor(Predictor):
    """A classifier with its config: `predict` gives classes, and there are no masks."""

    title = "classifier of proteins"
    # One table for Kaggle.
    formats = ("rle",)

    def __init__(self, cfg: CfgNode, model: ProteinClassifier) -> None:
        self.cfg = cfg
        self.model = model

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """Of the classes, float32 (K,)."""
        return self.model.thresholds.cpu().numpy().copy()

    @torch.inference_mode()
    def predict(self, image_id: str, files: Mapping[str, ImageFile]) -> NDArray[np.float32]:
        """Probability of each class of an image, float32 (K,)."""
        return self.model([{"image": network_image(self.cfg, image_id, files)}])[0].float().cpu().numpy()


def predict_proteins(
    predictor: ProteinPredictor,
    files: Sequence[ImageFile],
    out: Path,
    formats: Sequence[str] = ("rle",),
    tta: str | None = None,
    settings: object = None,
    microns_per_pixel: float | None = None,
    tiles: object = None,
    cluster: bool = False,
    measures: Measures | None = None,
) -> list[tuple[str, str]]:
    """Write ``submission.csv`` for images whose channels are the files; images that were left out, with the reasons.

    The arguments are those of `maskseg.inference.run.predict_files`.

    Raises
    ------
    InputError
        If one is given that is for masks.
    """
    refuse_formats(predictor, formats)
    refuse_options(
        predictor,
        {
            "tta": tta,
            "microns-per-pixel": microns_per_pixel,
            "tile": tiles,
            "cluster": "ray" if cluster else None,
            "expand": measures.expand if measures else None,
            "texture": (measures and measures.texture) or None,
        },
    )
    probabilities: dict[str, NDArray[np.float32]] = {}
    failed: list[tuple[str, str]] = []
    for image_id, channels in tqdm(group_channels(files).items(), desc="predict", unit="image", disable=None):
        try:
            probabilities[image_id] = predictor.predict(image_id, channels)
        except InputError as error:
            failed.append((image_id, str(error)))
    chosen = decide(np.array([*probabilities.values()], np.float32).reshape(-1, len(CLASSES)), predictor.thresholds)
    write_predicted(out / "submission.csv", zip(probabilities, map(np.flatnonzero, chosen), strict=True))
    return failed
