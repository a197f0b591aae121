#!/usr/bin/env python3
"""Cost against the number of nuclei: what is done to masks after the network, and their matching.

    python benchmarks/nuclei.py [--most 50000] [--plot benchmarks/nuclei.png]

Round nuclei, 24 pixels from one to the next, in an image that grows with their number. Processor seconds of one thread:
masks in their boxes from 28 x 28 cells; partners in a second view; cleaning; suppression of 30 proposals a nucleus;
matching of the labels with those moved by two pixels. Proposals are suppressed in pieces of at most 7,000 nuclei: above
2048 x 2048 pixels an image is predicted in tiles. Where the cost follows the number, the last column is the same in all
rows, and the plot a line through the origin.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import numpy as np
import torch
from machine import machine

from maskseg.core.masks import SoftCrops
from maskseg.evaluation.dsb import image_scores
from maskseg.inference.postprocess import clean, partners
from maskseg.models.suppression import suppress

STEP, PROPOSALS, TILE = 24, 30, 7000
STEPS = ("masks", "partners", "cleaning", "proposals", "matching")


def cpu(step: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a step, and what it gives."""
    begin = time.process_time()
    result = step()
    return time.process_time() - begin, result


def row(count: int) -> list[float]:
    """Processor seconds of each step for so many nuclei."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(count)))
    place = np.arange(count)
    centres = np.stack([place % across, place // across], 1) * STEP + STEP / 2 + rng.uniform(-2, 2, (count, 2))
    radius = rng.uniform(8, 13, (count, 1))
    boxes = np.concatenate([centres - radius, centres + radius], 1).astype(np.float32)
    rows, columns = np.mgrid[-1:1:28j, -1:1:28j]
    soft = np.repeat((1.3 - np.hypot(rows, columns)).clip(0, 1)[None].astype(np.float32), count, 0)
    shape, scores = (across * STEP, across * STEP), rng.random(count).astype(np.float32)
    pasting, masks = cpu(lambda: SoftCrops.paste(soft, boxes, shape, scores).masks(0.4))
    other = SoftCrops.paste(soft, boxes + 2, shape, scores).masks(0.4)
    pairing, _ = cpu(lambda: partners(masks, other, 0.1))
    cleaning, cleaned = cpu(lambda: clean(masks))
    labels = cleaned.to_labels()
    matching, _ = cpu(lambda: image_scores(labels, np.roll(labels, 2, axis=1)))
    many = np.repeat(boxes, PROPOSALS, 0) + rng.normal(0, 3, (count * PROPOSALS, 4)).astype(np.float32)
    pieces = [torch.from_numpy(rng.permutation(one)) for one in np.array_split(many, -(-count // TILE))]
    suppressing, _ = cpu(lambda: [suppress(proposals, 0.6) for proposals in pieces])
    return [pasting, pairing, cleaning, suppressing, matching]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=50_000)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    row(10)
    print(f"{machine()}, one thread, processor seconds")
    counts = [count for count in (10, 100, 1000, 5000, 20_000, 50_000) if count <= options.most]
    rows = []
    print(f"{'nuclei':>7s}" + "".join(f"{step:>11s}" for step in STEPS) + f"{'ms a nucleus':>14s}")
    for count in counts:
        rows.append(row(count))
        print(
            f"{count:7d}" + "".join(f"{value:11.4f}" for value in rows[-1]) + f"{sum(rows[-1]) / count * 1000:14.3f}",
            flush=True,
        )
    if options.plot:
        plot(counts, rows, options.plot)


def plot(counts: list[int], rows: list[list[float]], path: Path) -> None:
    """Seconds of each step on top of each other, and of all for each nucleus, against the number of nuclei."""
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    figure.suptitle(f"{machine()}, one thread", fontsize=9)
    left.stackplot(counts, np.array(rows).T, labels=STEPS)
    left.set(xlabel="nuclei", ylabel="processor seconds", xlim=(0, None), ylim=(0, None))
    left.legend(loc="upper left", fontsize=7)
    right.semilogx(counts, [1000 * sum(taken) / count for count, taken in zip(counts, rows, strict=True)], "o-")
    right.set(xlabel="nuclei", ylabel="processor ms a nucleus", ylim=(0, None))
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
