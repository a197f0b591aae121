"""Whether the score depends on how much of the picture the nuclei fill, on fill values and on the kind of values.

    python benchmarks/brightness.py [--model nuclei] [--images datasets/sample/heldout] [--sizes 256,512,1024,4096]
                                    [--diameter estimated] [--only fields|fills|kinds|blank]

Small fluorescence images of a folder (DSB layout), without the nuclei at their edges, are set in the middle of larger
fields of their own background, with its noise and a smooth unevenness of two of its grey values. Each is written as a
tiled TIFF and predicted as a whole and in tiles, up to a side of 1024 of 256 network pixels, since these would be one
tile otherwise. One table varies the fields, one what is filled in (rows at the top, a border, a scale bar, outside of
the nuclei), one the kind of values, and one counts what is found where nothing is: noise of several grains, blank
wells, uneven light. Scores are the mean IoU (DSB score), of all images together.

The diameter of the nuclei is told to the model, so that all fields are seen at one magnification, but for
``--diameter estimated``. One view of each, which takes half the time of two.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from maskseg.evaluation.dsb import image_scores
from maskseg.imaging.intensity import limits
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source
from maskseg.inference.api import load_model
from maskseg.inference.predictor import Predictor
from maskseg.inference.tile_grid import SIDE
from maskseg.inference.tiling import TiledImage

Image, Labels = NDArray[Any], NDArray[np.int32]
# Larger images are predicted in tiles anyway.
WHOLE = 2048


def sample(folder: Path) -> tuple[Image, Labels]:
    """Grey image and label image of a DSB image folder."""
    image = cv2.imread(str(next((folder / "images").glob("*.png"))), cv2.IMREAD_GRAYSCALE)
    labels = np.zeros(image.shape, np.int32)
    for number, path in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
        labels[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 128] = number
    return image.astype(np.float64), labels


def samples(folder: Path, count: int) -> list[tuple[Image, Labels]]:
    """The first images of 256 x 256 pixels that are bright on dark, without the nuclei at their edges."""
    found = [sample(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    return [whole_ones(*one) for one in found if one[0].shape == (256, 256) and np.median(one[0]) < 30][:count]


def whole_ones(image: Image, labels: Labels, edge: int = 8) -> tuple[Image, Labels]:
    """An image in which the nuclei near its edges are painted over: a larger field would cut them."""
    inner = np.s_[edge:-edge, edge:-edge]
    cut = ~np.isin(labels, _away(labels, inner)) & (labels > 0)
    around = cv2.dilate(cut.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool) & ((labels == 0) | cut)
    return np.where(around, np.median(image), image), np.where(cut, 0, labels)


def _away(labels: Labels, inner: Any) -> NDArray[Any]:
    """The labels that have no pixel outside of a part of the image."""
    outside = labels.copy()
    outside[inner] = 0
    return np.setdiff1d(labels, outside[outside > 0])


def field(image: Image, labels: Labels, side: int, seed: int = 0) -> tuple[Image, Labels]:
    """The image in the middle of `side` x `side` pixels of its background, float, and its labels."""
    rng = np.random.default_rng(seed)
    level = float(np.median(image))
    noise = max(1.4826 * float(np.median(np.abs(image - cv2.medianBlur(image.astype(np.float32), 5)))), 0.7)
    light = cv2.resize(rng.normal(0, 2, (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
    whole = level + (light + rng.normal(0, noise, (side, side)) if side > len(image) else np.zeros((side, side)))
    # The image goes over into the field within eight pixels.
    weight = np.zeros((side, side))
    start = (side - len(image)) // 2
    place = np.s_[start : start + len(image), start : start + len(image)]
    distance = np.minimum.outer(*[np.minimum(np.arange(len(image)), np.arange(len(image))[::-1])] * 2)
    weight[place] = np.clip((distance + 1) / 8, 0, 1) if side > len(image) else 1
    padded = np.full((side, side), level)
    padded[place] = image
    truth = np.zeros((side, side), np.int32)
    truth[place] = labels
    return whole * (1 - weight) + padded * weight, truth


def top_rows(image: Image, share: float) -> Image:
    """Rows of zeros above the image, as a share of the result."""
    return np.pad(image, ((round(len(image) * share / (1 - share)) or 1, 0), (0, 0)))


FILLS: dict[str, Callable[[Image], Image]] = {
    "none": lambda image: image,
    "0.1 % rows": lambda image: top_rows(image, 0.001),
    "1 % rows": lambda image: top_rows(image, 0.01),
    "5 % rows": lambda image: top_rows(image, 0.05),
    "5 % border": lambda image: np.pad(image, round(len(image) * 0.0127)),
    "scale bar": lambda image: bar(image),
}


def bar(image: Image) -> Image:
    """A scale bar in 24 rows of background below the image."""
    image = np.vstack([image, image[:1].repeat(24, axis=0)])
    image[-16:-10, 20:120] = np.inf
    return image


# Grey values of the sample images as other files have them; infinite becomes the greatest of the type.
KINDS: dict[str, Callable[[Image], Image]] = {
    "8 bit": lambda image: np.clip(np.rint(image), 0, 255).astype(np.uint8),
    "12 bit in 16": lambda image: filled(image, image * 16, 4095).astype(np.uint16),
    "16 bit, offset": lambda image: filled(image, image * 20 + 1000, 65535).astype(np.uint16),
    "float": lambda image: np.where(np.isinf(image), 1, image / 600).astype(np.float32),
}


def filled(image: Image, values: Image, most: int) -> Image:
    """Values of a type, with the fill of the image, 0 and infinite, at the ends of it."""
    return np.where(image == 0, 0, np.clip(np.rint(np.where(np.isinf(image), most, values)), 0, most))


def blanks(side: int) -> Iterator[tuple[str, Image]]:
    """Names and pictures of nothing."""
    rng = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side] / side - 0.5
    middle = np.exp(-((np.hypot(x, y) / 0.4) ** 2))
    white = rng.normal(size=(side, side))
    yield "noise, 14 +- 1", 14 + white
    yield "noise, 128 +- 20", 128 + 20 * white
    yield "Poisson noise, 3", rng.poisson(3, (side, side)).astype(float)
    for grain in (1, 2, 3, 4):
        soft = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), grain)
        yield f"noise, 40 +- 6, grain {grain}", 40 + 6 * soft / soft.std()
    yield "vignette, 20 to 80", 20 + 60 * middle + white
    yield "vignette, 20 to 170", 20 + 150 * middle + white
    yield "bright vignette, 150 to 230", 150 + 80 * middle + 2 * white
    yield "light from one side", 20 + 100 * (x + 0.5) + white
    yield "well, even", np.full((side, side), 77.0)


class Scorer:
    """Scores of pictures, each written as a file and read again."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.predictor, self.folder = predictor, folder

    def found(self, image: Image, tiled: bool) -> Labels:
        """Label image of what is found."""
        path = self.folder / "image.tif"
        tifffile.imwrite(path, image, tile=(256, 256))
        file = ImageFile("image", path)
        if not tiled:
            return self.predictor.segment(file.read()).to_labels()
        with tempfile.TemporaryDirectory() as parts:
            whole = TiledImage(
                self.predictor, open_source(file)[0], Path(parts), side=256 if max(image.shape) <= 1024 else SIDE
            )
            whole.predict()
            labels, count = np.zeros(image.shape, np.int32), 0
            for settled in whole.settled():
                for (x0, y0, x1, y1), bitmap in zip(settled.masks.boxes, settled.masks.bitmaps, strict=True):
                    count += 1
                    labels[y0:y1, x0:x1][bitmap] = count
        return labels

    def score(self, pairs: list[tuple[Image, Labels]], kind: str, fill: str, tiled: bool) -> float:
        """Mean score of pictures with their labels."""
        scores = []
        for image, truth in pairs:
            shown, mask = FILLS[fill](image), FILLS[fill](truth.astype(np.float64))
            mask = np.where(np.isinf(mask), 0, mask).astype(np.int32)
            scores.append(image_scores(mask, self.found(KINDS[kind](shown), tiled))["dsb_score"])
        return float(np.mean(scores))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=Path, default=Path("datasets/sample/heldout"))
    parser.add_argument("--number", type=int, default=2, help="of the images")
    parser.add_argument("--sizes", default="256,512,1024,4096")
    parser.add_argument("--diameter", default="told", choices=["told", "estimated"])
    parser.add_argument("--only", choices=["fields", "fills", "kinds", "blank"])
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    chosen = samples(options.images, options.number)
    areas = np.concatenate([np.bincount(labels.ravel())[1:] for _, labels in chosen])
    diameter = str(float(np.median(np.sqrt(4 / np.pi * areas[areas > 0]))))
    told = ["POSTPROCESS.DIAMETER", diameter] if options.diameter == "told" else []
    predictor = load_model(options.model, ["POSTPROCESS.TTA", "none", *told])
    with tempfile.TemporaryDirectory() as folder:
        scorer = Scorer(predictor, Path(folder))

        def row(size: int, kind: str = "8 bit", fill: str = "none") -> None:
            pairs = [field(image, labels, size) for image, labels in chosen]
            low, high = limits(KINDS[kind](FILLS[fill](pairs[0][0])))
            whole = f"{scorer.score(pairs, kind, fill, False):6.3f}" if size <= WHOLE else "     -"
            tiled = scorer.score(pairs, kind, fill, True)
            print(f"{size:6d}  {fill:11s}  {kind:15s}  {whole}  {tiled:6.3f}  {low:8.1f} {high:9.1f}", flush=True)

        print("  side  fill         values            whole   tiled       low      high")
        for size in sizes if options.only in (None, "fields") else []:
            row(size)
        for fill in list(FILLS)[1:] if options.only in (None, "fills") else []:
            row(512, fill=fill)
        for kind in list(KINDS)[1:] if options.only in (None, "kinds") else []:
            row(512, kind)
            row(512, kind, "scale bar")
        for name, image in blanks(512) if options.only in (None, "blank") else []:
            picture = KINDS["8 bit"](image)
            low, high = limits(picture)
            print(f"{name:30s} {scorer.found(picture, False).max():4d} nuclei  {low:8.1f} {high:9.1f}", flush=True)


if __name__ == "__main__":
    main()
