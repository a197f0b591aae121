#!/usr/bin/env python3
"""How fast the networks of protein localisation train, by batch size and by number of weights, as table and picture.

    python benchmarks/protein.py [DATASET[:PART]] [--channels green ...] [--seconds S] [--out FILE.png]

DATASET is laid out as in the competition; where it is not given, noise of the same size stands for its images. A step
is what a training does: images from the cache, turned and mirrored, forward, backward, optimizer. Processor seconds of
one thread, at least one step a point after one that does not count: what a quiet core takes, whatever else runs.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.modeling import build_model
from matplotlib.figure import Figure
from tabulate import tabulate
from tqdm import tqdm

from maskseg.data.protein import protein_dicts
from maskseg.models.config import load_config
from maskseg.training.protein import ProteinSamples
from maskseg.training.trainer import build_optimizer

BATCHES = (1, 2, 5, 10, 20)
BATCH, EPOCH = 10, 31072  # of the published figures, and the images of the competition
DEEP = ("MODEL.RESNETS.RES2_OUT_CHANNELS", "256", "MODEL.RESNETS.OUT_FEATURES", "['res5']", "MODEL.RESNETS.DEPTH")
# Name: batch sizes, config and what is changed in it.
NETWORKS = {
    "small": (BATCHES, "protein_small"),
    "ResNet-18 to res4": (BATCHES, "protein_R_18"),
    "ResNet-50": ((BATCH,), "protein_R_18", *DEEP, "50"),
    "ResNet-152": ((BATCH,), "protein_R_18", *DEEP, "152"),
}
# Weights and seconds an image, as published at a batch of 10.
PUBLISHED = ((200e3, 0.05), (58e6, 0.6))


def measure(network: Sequence[str], channels: Sequence[str], data: str, batches: Sequence[int], least: float) -> Any:
    """Weights, batch size and seconds an image, of each batch size."""
    config, *changes = network
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", "INPUT.CHANNELS", str(list(channels)), *changes])
    model, samples = build_model(cfg), ProteinSamples(cfg, protein_dicts([data]))
    optimizer = build_optimizer(cfg, model)
    position = 0
    for batch in batches:
        spent: list[float] = []
        while len(spent) < 2 or sum(spent[1:]) < least:
            begin = time.process_time()
            images = [samples[position + item, (position + item) % len(samples)] for item in range(batch)]
            optimizer.zero_grad()
            model(images)["loss_classes"].backward()
            optimizer.step()
            spent.append(time.process_time() - begin)
            position += batch
        yield sum(value.numel() for value in model.parameters()), batch, float(np.mean(spent[1:])) / batch


def draw(rows: list[tuple[str, float, int, float]], path: Path) -> None:
    """Speed against batch size, time of an epoch against number of weights."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(row[0] for row in rows if row[2] != BATCH):
        speeds = [(batch, 1 / value) for other, _, batch, value in rows if other == name]
        left.plot(*zip(*speeds, strict=True), marker="o", label=name)
    left.set(xlabel="batch size", ylabel="images a second in training", yscale="log")
    left.legend()
    for label, published in (("here, one thread of a CPU", False), ("published", True)):
        epochs = [
            (weights, value * EPOCH / 3600, name)
            for name, weights, batch, value in rows
            if batch == BATCH and (name == "published") == published
        ]
        right.plot([row[0] for row in epochs], [row[1] for row in epochs], marker="o", label=label)
        for weights, hours, name in epochs:
            right.annotate("" if published else name, (weights, hours), (-8, 8), textcoords="offset points", ha="right")
    right.set(xlabel="weights", ylabel=f"hours an epoch of {EPOCH:,} images", xscale="log", yscale="log")
    right.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="data set, DIR or DIR:part")
    parser.add_argument("--channels", nargs="+", default=["green"])
    parser.add_argument("--seconds", type=float, default=4, help="least processor seconds a point (default 4)")
    parser.add_argument("--out", type=Path, default=Path("out/protein_speed.png"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows: list[tuple[str, float, int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.dataset is None:
            (Path(folder) / "train").mkdir()
            noise = np.random.default_rng(0).integers(0, 60, (512, 512)).astype(np.uint8)
            for channel in options.channels:
                cv2.imwrite(f"{folder}/train/noise_{channel}.png", noise)
            (Path(folder) / "train.csv").write_text("Id,Target\nnoise,0 25\n")
        for name, (batches, *network) in tqdm(NETWORKS.items(), unit="network"):
            found = measure(network, options.channels, options.dataset or folder, batches, options.seconds)
            rows += [(name, *row) for row in found]
    rows += [("published", weights, BATCH, value) for weights, value in PUBLISHED]
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {date.today()}")
    head = ("network", "weights", "batch", "cpu s an image", "images/s", "hours an epoch")
    table = [(*row, 1 / row[3], row[3] * EPOCH / 3600) for row in rows]
    print(tabulate(table, head, floatfmt=("", ",.0f", "", ".4f", ".2f", ".2f")))
    draw(rows, options.out)


if __name__ == "__main__":
    main()
