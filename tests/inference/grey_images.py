"""Small images in which nothing is but their number as a grey value."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def grey_images(folder: Path, count: int) -> Path:
    """The folder, with image_0.png and on, of 20 x 30 pixels."""
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"image_{number}.png"), np.full((20, 30, 3), number * 3, np.uint8))
    return folder
