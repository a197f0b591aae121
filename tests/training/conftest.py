"""A data set and a network small enough to train in a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskseg.data.coco import write_coco
from maskseg.data.split import write_split
from maskseg.masks import CropMasks

# A network of a few channels on images of 64 pixels; everything else is the CPU config.
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "INPUT.LONG_SIDE": 64,
    "INPUT.AUG.WINDOW": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.AMP.ENABLED": False,
}


@pytest.fixture(scope="session")
def overrides() -> Callable[..., list[str]]:
    """A function that gives KEY VALUE overrides of the CPU config for a tiny network; names with __ for dots."""

    def flat(**changes: Any) -> list[str]:
        values = {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}}
        return [text for key, value in values.items() for text in (key, str(value))]

    return flat


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """A function that writes label images as a data set: bright nuclei, each of its own grey, on black."""

    def write(
        folder: Path, labels: dict[str, np.ndarray], parts: Sequence[str] = (), modalities: Sequence[str] = ()
    ) -> Path:
        (folder / "images").mkdir(parents=True)
        images, annotations, rows = [], [], []
        for number, (name, label) in enumerate(labels.items()):
            image = np.where(label > 0, 60 + 5 * label, 0).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / f"{name}.png"), cv2.merge([image] * 3))
            images.append({"id": number, "file_name": f"{name}.png", "height": len(label), "width": len(label[0])})
            masks = CropMasks.from_labels(label)
            for rle, (x0, y0, x1, y1), area in zip(masks.to_rle(), masks.boxes, masks.areas, strict=True):
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [int(x0), int(y0), int(x1 - x0), int(y1 - y0)],
                        "area": int(area),
                        "iscrowd": 0,
                        "segmentation": rle,
                    }
                )
            if parts:
                modality = modalities[number] if modalities else ""
                rows.append({"image_id": name, "part": parts[number], "modality": modality})
        write_coco(folder / "annotations.json", images, annotations)
        if rows:
            write_split(folder / "split.csv", rows)
        return folder

    return write


@pytest.fixture(scope="session")
def nuclei() -> Callable[..., np.ndarray]:
    """A function that draws a label image of ellipses that do not touch."""

    def draw(seed: int, shape: tuple[int, int] = (48, 64), count: int = 6) -> np.ndarray:
        rng = np.random.default_rng(seed)
        labels = np.zeros(shape, np.int32)
        for _ in range(40 * count):
            spot = np.zeros(shape, np.uint8)
            centre = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
            cv2.ellipse(spot, centre, (int(rng.integers(4, 9)), int(rng.integers(4, 9))), 0, 0, 360, 1, -1)
            if labels.max() < count and not (labels > 0)[cv2.dilate(spot, np.ones((5, 5))) > 0].any():
                labels[spot > 0] = labels.max() + 1
        return labels

    return draw


@pytest.fixture(scope="session")
def dataset(write_dataset, nuclei, tmp_path_factory) -> Path:
    """Six images to train on, one of them without a nucleus, in two modalities; three in the part dev."""
    labels = {f"image{number}": nuclei(number) for number in range(9)}
    labels["image3"][:] = 0
    return write_dataset(
        tmp_path_factory.mktemp("data") / "tiny",
        labels,
        ["train"] * 6 + ["dev"] * 3,
        ["white", "white", "white", "white", "purple", "purple", "white", "purple", "purple"],
    )
