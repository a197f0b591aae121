#!/usr/bin/env python3
"""How fast the networks of protein localisation train, by batch size and by number of weights, as table and picture.

    python benchmarks/protein.py [--data DIR] [--channels N] [--seconds S] [--out FILE.png]

Then: what a training sample costs in the first epoch, when its files are decoded, in a later one, from the cache, and
without a cache, on the images of --data (layout of the competition; pictures of blobs where not given).

A step is forward, backward and optimizer on images of the config's size; noise does as well as cells. Processor seconds
of one thread, at least one step a point after one that does not count: what a quiet core takes, whatever else runs.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import product
from pathlib import Path

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
import torch
from detectron2.modeling import build_model
from matplotlib.figure import Figure
from tabulate import tabulate
from tqdm import tqdm

from maskseg.models.config import load_config
from maskseg.projects.protein.data import CHANNELS, CLASSES, protein_dicts
from maskseg.projects.protein.samples import ProteinSamples
from maskseg.training.trainer import build_optimizer

BATCHES = (1, 2, 5, 10, 20)
BATCH, EPOCH = 10, 31072  # of the published figures, and the images of the competition
# Name: batch sizes, config and what is changed in it.
NETWORKS = {
    "small": (BATCHES, "protein_small"),
    "ResNet-18 to res4": (BATCHES, "protein_R_18"),
    "ResNet-50": ((BATCH,), "protein_R_152", "MODEL.RESNETS.DEPTH", "50"),
    "ResNet-152": ((BATCH,), "protein_R_152"),
}
# Weights and seconds an image, as published at a batch of 10.
PUBLISHED = ((200e3, 0.05), (58e6, 0.6))


def measure(
    config: str, changes: Sequence[str], batches: Sequence[int], least: float
) -> Iterator[tuple[int, int, float]]:
    """Weights, batch size and seconds an image, for each batch size."""
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *changes])
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    image = torch.randint(0, 60, (len(cfg.INPUT.CHANNELS), cfg.INPUT.LONG_SIDE, cfg.INPUT.LONG_SIDE)).byte()
    sample = {"image": image, "labels": torch.eye(len(CLASSES))[0], "odds": torch.ones(len(CLASSES))}
    for batch in batches:
        spent: list[float] = []
        while len(spent) < 2 or sum(spent[1:]) < least:
            begin = time.process_time()
            optimizer.zero_grad()
            model([sample] * batch)["loss_classes"].backward()
            optimizer.step()
            spent.append(time.process_time() - begin)
        yield sum(value.numel() for value in model.parameters()), batch, float(np.mean(spent[1:])) / batch


def made_up(folder: Path, channels: Sequence[str], images: int = 40) -> Path:
    """Pictures of 512 x 512 pixels with bright blobs, in the layout of the competition."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    for number, channel in product(range(images), channels):
        noise = cv2.GaussianBlur(rng.random((512, 512), np.float32), (0, 0), 6)
        noise = 255 * ((noise - noise.min()) / np.ptp(noise)) ** 3
        cv2.imwrite(str(folder / "train" / f"{number}_{channel}.png"), noise.astype(np.uint8))
    rows = [f"{number},{number % len(CLASSES)}" for number in range(images)]
    (folder / "train.csv").write_text("\n".join(["Id,Target", *rows]) + "\n")
    return folder


def sample_seconds(data: Path, channels: Sequence[str]) -> list[tuple[str, float]]:
    """Processor seconds of a training sample: without a cache, in the epoch that fills it, and from it."""
    times = []
    for name, megabytes, epochs in (("no cache", 0, 1), ("first epoch", 4096, 1), ("later epochs", 4096, 2)):
        changes = ["MODEL.DEVICE", "cpu", "INPUT.CHANNELS", str(list(channels)), "DATALOADER.CACHE_MB", str(megabytes)]
        records = protein_dicts((str(data),))
        samples = ProteinSamples(load_config("protein_R_18", changes), records)
        for _ in range(epochs):
            begin = time.process_time()
            for index in range(len(records)):
                samples[index, index]
            spent = time.process_time() - begin
        times.append((name, spent / len(records)))
    return times


def draw(rows: list[tuple[str, float, int, float]], cached: list[tuple[str, float]], path: Path) -> None:
    """Speed against batch size, time of an epoch against number of weights, time of a sample."""
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    left, right, last = figure.subplots(1, 3)
    last.bar([name for name, _ in cached], [1000 * value for _, value in cached])
    last.set(ylabel="processor milliseconds a training sample")
    for name in dict.fromkeys(row[0] for row in rows if row[2] != BATCH):
        speeds = [(batch, 1 / value) for other, _, batch, value in rows if other == name]
        left.plot(*zip(*speeds, strict=True), marker="o", label=name)
    left.set(xlabel="batch size", ylabel="images a second in training", ylim=(0, None))
    for label, published in (("here, one thread of a CPU", False), ("published", True)):
        chosen = [row for row in rows if row[2] == BATCH and (row[0] == "published") == published]
        points = [(weights, value * EPOCH / 3600) for _, weights, _, value in chosen]
        right.plot(*zip(*points, strict=True), marker="o", label=label)
        for (name, *_), point in zip(chosen, points, strict=True):
            right.annotate("" if published else name, point, (8, -12), textcoords="offset points")
    right.set(xlabel="weights", ylabel=f"hours an epoch of {EPOCH:,} images", xscale="log", yscale="log")
    right.margins(0.35, 0.12)
    for axes in (left, right):
        axes.legend()
    last.set_title("reading, decoding and warping")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.csv and train/")
    parser.add_argument("--channels", type=int, default=1, help="channels of an image (default 1)")
    parser.add_argument("--seconds", type=float, default=4, help="least processor seconds a point (default 4)")
    parser.add_argument("--out", type=Path, default=Path("out/protein_speed.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    channels = ("INPUT.CHANNELS", str(list(CHANNELS[: options.channels])))
    rows: list[tuple[str, float, int, float]] = []
    for name, (batches, config, *changes) in tqdm(NETWORKS.items(), unit="network"):
        rows += [(name, *row) for row in measure(config, [*channels, *changes], batches, options.seconds)]
    rows += [("published", weights, BATCH, value) for weights, value in PUBLISHED]
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {date.today()}")
    head = ("network", "weights", "batch", "cpu s an image", "images/s", "hours an epoch")
    table = [(*row, 1 / row[3], row[3] * EPOCH / 3600) for row in rows]
    print(tabulate(table, head, floatfmt=("", ",.0f", "", ".4f", ".2f", ".2f")))
    with tempfile.TemporaryDirectory() as folder:
        # Green first: the sample of the competition that is at hand has no other.
        names = ["green", *(name for name in CHANNELS if name != "green")][: options.channels]
        cached = sample_seconds(options.data or made_up(Path(folder) / "hpa", names), names)
    print(tabulate([(name, 1000 * value) for name, value in cached], ("sample", "cpu ms"), floatfmt=".2f"))
    draw(rows, cached, options.out)


if __name__ == "__main__":
    main()
