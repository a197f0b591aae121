"""Mask folders made for a test: small, and each with a fault of its own where one is wanted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


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
