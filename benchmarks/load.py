"""Memory, open files and time over 20,000 small images in one folder, and over 2,000 scored pairs.

    python benchmarks/load.py [-n 20000] [--pairs 2000] [-o benchmarks/load.png]

The network is a stand-in that finds the bright disks of each image by a threshold, so that what is measured is what
lies around it: finding, reading, parts, the files of all images, and the default formats but the overlay, which takes
nine tenths of the time. Processor time, resident memory and open files are looked at after every
500th image, or of fewer than 20,000 after every 100th.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.core.morphology import components
from maskseg.evaluation.sets import compare, open_set
from maskseg.imaging.finding import find_images
from maskseg.inference.predictor import OPTIONS, Predictor
from maskseg.inference.run import predict_files

FORMATS = ["rle", "coco", "table", "labels"]
Point = tuple[int, float, float, int]


def held() -> tuple[float, int]:
    """Resident megabytes of this process, and its open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len([*Path("/proc/self/fd").iterdir()])


class Disks(Predictor):
    """Finds what is bright; looks at memory and files as it goes."""

    title = "stand-in"
    options = frozenset(OPTIONS)
    cfg = SimpleNamespace(
        MODEL=SimpleNamespace(META_ARCHITECTURE="GeneralizedRCNN", DEVICE="cpu"),
        TEST=SimpleNamespace(IMS_PER_BATCH=1),
        INPUT=SimpleNamespace(NORMALIZE="auto"),
    )

    def __init__(self, every: int) -> None:
        self.seen, self.every, self.start = 0, every, time.process_time()
        self.points: list[Point] = []

    def segment(self, image: NDArray[np.uint8], tta: str | None) -> CropMasks:
        """See `Predictor`."""
        self.seen += 1
        if self.seen % self.every == 0:
            self.points.append((self.seen, time.process_time() - self.start, *held()))
        return CropMasks.from_labels(components(image[..., 0] > 100)[0])


def write_images(folder: Path, number: int) -> None:
    """Images of 64 x 64 pixels with two disks, no two alike."""
    for value in range(number):
        image = np.full((64, 64), 10 + value % 7, np.uint8)
        for x in (8 + value % 12, 40 + value // 12 % 12):
            cv2.circle(image, (x, 10 + value // 144 % 40), 5, 200, -1)
        cv2.imwrite(str(folder / f"image_{value:06d}.png"), image)


def counted(ids: Iterable[str], points: list[Point], every: int) -> Iterable[str]:
    """Ids, with a look at memory and files now and then."""
    start = time.process_time()
    for number, name in enumerate(ids, start=1):
        yield name
        if number % every == 0:
            points.append((number, time.process_time() - start, *held()))


def plot(points: list[Point], file: Path) -> None:
    """Memory, and processor time of an image, by the number of images."""
    from matplotlib import pyplot as plt

    values = np.array(points)
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3), constrained_layout=True)
    left.plot(values[:, 0], values[:, 2])
    left.set(xlabel="images", ylabel="resident memory, MB", ylim=(0, 1.2 * values[:, 2].max()))
    right.plot(values[1:, 0], 1000 * np.diff(values[:, 1]) / np.diff(values[:, 0]))
    right.set(xlabel="images", ylabel="processor ms an image", ylim=(0, None))
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
    plt.savefig(file, dpi=80)


def at(points: list[Point], number: int) -> Any:
    """The first point of that many images, or more."""
    return next(point for point in points if point[0] >= number)


def main() -> None:
    """Print the figures and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("-o", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        images, out = Path(name) / "images", Path(name) / "out"
        images.mkdir()
        write_images(images, given.n)
        every = 500 if given.n >= 20_000 else 100
        network = Disks(every)
        failed = predict_files(network, find_images([images]), out, FORMATS)
        first, last = at(network.points, given.n // 10), network.points[-1]
        files = {point[3] for point in network.points}
        print(f"{given.n} images of 64 x 64, {len(failed)} left out, {last[1]:.0f} processor s")
        early, late = (
            1000 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in ((first, network.points[-1]), network.points[-2:])
        )
        print(f"processor ms an image: {early:.1f} from image {first[0]} to the last, {late:.1f} in the last {every}")
        print(f"resident at image {first[0]}: {first[2]:.1f} MB; at image {last[0]}: {last[2]:.1f} MB", end="")
        print(f" ({100 * (last[2] / first[2] - 1):+.1f} %); open files {min(files)} to {max(files)}")
        print(f"after the files of all images: {held()[0]:.1f} MB")
        labels, points = Path(name) / "pairs", list[Point]()
        labels.mkdir()
        for path in sorted((out / "labels").iterdir())[: given.pairs]:
            path.rename(labels / path.name)
        results, problems = compare(
            open_set(str(labels)), open_set(str(labels)), lambda ids: counted(ids, points, every)
        )
        print(
            f"{len(results)} pairs scored, {len(problems)} problems: {points[0][2]:.1f} MB at pair {points[0][0]}",
            end="",
        )
        print(
            f", {points[-1][2]:.1f} MB at pair {points[-1][0]}; open files at most {max(point[3] for point in points)}"
        )
        if given.o:
            plot(network.points, given.o)


if __name__ == "__main__":
    main()
