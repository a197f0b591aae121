"""Mask folders made for a test: small, and each with a fault of its own where one is wanted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskseg.data.coco import write_coco
from maskseg.data.split import write_split
from maskseg.masks import CropMasks


@pytest.fixture
def make_folder(tmp_path: Path):
    """A function that makes an image folder with square nuclei below tmp_path/source and returns it."""

    def make(name: str, nuclei: int = 2, size: tuple[int, int] = (40, 50), where: str = "source") -> Path:
        folder = tmp_path / where / name
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True)
        image = np.zeros((*size, 3), np.uint8)
        for number in range(nuclei):
            mask = np.zeros(size, np.uint8)
            mask[5 : 12 + number, 10 * number + 2 : 10 * number + 9] = 255
            image[mask > 0] = 200
            cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        return folder

    return make


# ---- a data set with one fault of each kind ----

# Images 64 x 64, each named after the one kind of fault that is in it; "ok" has none of its own.
SIDE = 64


def _box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _texture(seed: int) -> np.ndarray:
    """A picture like no other: coarse noise."""
    coarse = np.random.default_rng(seed).integers(30, 200, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="session")
def faulty(tmp_path_factory) -> Path:
    """A data set folder in which every kind of fault that `maskseg check` knows is planted once."""
    whole = [_box(4, 4, 14, 12), _box(40, 40, 52, 54)]
    ring = _box(20, 20, 32, 32) & ~_box(24, 24, 27, 26)
    masks = {
        "ok": whole,
        "missing-image": whole,
        "unreadable-image": whole,
        "sizes-differ": whole,
        "bad-mask": whole,
        "blank": whole,
        "saturated": whole,
        "no-nuclei": [],
        "covers-image": [_box(0, 0, 60, 50)],
        "pieces": [*whole, _box(20, 4, 28, 12) | _box(30, 4, 36, 10) | _box(38, 4, 40, 6)],
        "hole": [*whole, ring],
        "duplicate": [*whole, _box(41, 40, 52, 54)],
        "overlap": [*whole, _box(48, 40, 60, 52)],
        "speck": [*whole, _box(20, 20, 23, 23)],
        "near-duplicate": whole,
    }
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "images").mkdir()
    images, annotations = [], []
    for number, (name, of_image) in enumerate(masks.items(), start=1):
        pixels = _texture(number)
        if name == "blank":
            pixels = np.full_like(pixels, 100) + pixels % 5
        if name == "saturated":
            pixels[of_image[0] | of_image[1]] = 255
        if name == "near-duplicate":
            pixels = cv2.imread(str(folder / "images" / "ok.png"))[::-1]
        cv2.imwrite(str(folder / "images" / f"{name}.png"), pixels)
        images.append({"id": number, "file_name": f"{name}.png", "height": SIDE, "width": SIDE})
        for mask in of_image:
            # The masks of this one were drawn on a part of it.
            (rle,) = CropMasks.from_labels(mask[:60] if name == "sizes-differ" else mask).to_rle()
            annotations.append({"id": len(annotations) + 1, "image_id": number, "segmentation": rle, "bbox": []})
    (folder / "images" / "missing-image.png").unlink()
    damaged = folder / "images" / "unreadable-image.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    images.append({"id": 90, "file_name": "record-only.png", "height": 60, "width": SIDE})
    cv2.imwrite(str(folder / "images" / "record-only.png"), _texture(90))
    images.append({**images[0], "id": 91})
    template = annotations[0]
    annotations += [
        {**template, "id": 901, "image_id": 90},
        {**template, "id": 902, "image_id": 91},
        {**template, "id": 903, "image_id": 999},
        {**template, "id": 904, "image_id": 5, "segmentation": {"size": [SIDE, SIDE], "counts": "no run lengths"}},
    ]
    write_coco(folder / "annotations.json", images, annotations)
    names = [*masks, "record-only"]
    rows = [{"image_id": name, "part": "dev" if name == "near-duplicate" else "train"} for name in names]
    write_split(folder / "split.csv", rows)
    return folder
