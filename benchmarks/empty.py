"""What a model finds where no nucleus is: textures, print, photographs, noise, uneven light, unstained brightfield.

    python benchmarks/empty.py [--model nuclei] [-o overlays/]

Twenty pictures of 512 x 512: those that come with scikit-image, and made-up ones. Prints how many nuclei are found in
each and in all, at the default settings; with -o the pictures in which something was found are kept with its outlines.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from tabulate import tabulate

from maskseg.formats.overlay import overlay, write_picture
from maskseg.imaging.reading import to_rgb8
from maskseg.inference.api import load_model

SIDE = 512
# Pictures of scikit-image in which nothing is a nucleus.
NAMED = ("astronaut", "brick", "camera", "cat", "checkerboard", "clock", "coffee", "grass", "gravel", "page", "text")


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Pictures by name, uint8 (512, 512, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    named: dict[str, NDArray[Any]] = {name: getattr(skimage.data, name)() for name in NAMED}
    named["noise"] = rng.normal(120, 20, (SIDE, SIDE))
    named["dim noise"] = rng.poisson(4, (SIDE, SIDE))
    named["coarse noise"] = 90 + 400 * cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 6)
    named["vignette"] = 30 + 150 * np.exp(-((np.hypot(x - 0.5, y - 0.5) / 0.4) ** 2)) + rng.normal(0, 2, x.shape)
    named["scratches"] = scratches(rng)
    named["stripes"] = 120 + 60 * np.sin(2 * np.pi * (x + y) * 20)
    named["empty well"] = np.full((SIDE, SIDE), 14) + rng.normal(0, 1, x.shape)
    # Unstained tissue: pale, with a little grain of about the size of cells.
    pale = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE, 3)), (0, 0), 8) * 60
    named["unstained"] = np.array([232, 224, 228]) + pale + rng.normal(0, 3, (SIDE, SIDE, 3))
    named["glass"] = np.array([243, 242, 240]) + rng.normal(0, 2, (SIDE, SIDE, 3))
    return {name: square(to_rgb8(np.clip(picture, 0, 255).astype(np.uint8))) for name, picture in named.items()}


def scratches(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bright lines on dark, as dust and fibres are."""
    drawn = np.full((SIDE, SIDE), 20, np.uint8)
    for _ in range(40):
        (x0, y0), (x1, y1) = rng.integers(0, SIDE, (2, 2)).tolist()
        cv2.line(drawn, (x0, y0), (x1, y1), int(rng.integers(60, 200)), 1, cv2.LINE_AA)
    return drawn


def square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a picture, scaled to 512 x 512."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    cut = picture[top : top + side, left : left + side]
    return cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def main() -> None:
    """Predict, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    model, rows = load_model(options.model), []
    for name, picture in pictures().items():
        masks = model.segment(picture)
        rows.append([name, len(masks), f"{masks.scores.max():.2f}" if len(masks) else ""])
        if options.out and len(masks):
            options.out.mkdir(parents=True, exist_ok=True)
            write_picture(options.out / f"{name}.png", overlay(picture, None, masks.to_labels()))
    rows.append(["all", sum(row[1] for row in rows), ""])
    print(tabulate(rows, headers=["picture", "nuclei", "highest score"]))


if __name__ == "__main__":
    main()
