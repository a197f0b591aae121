#!/usr/bin/env python3
"""Cost against the number of nuclei: what is done to masks after the network, and their matching.

    python benchmarks/nuclei.py [--most 50000]

Round nuclei, 24 pixels from one to the next, in an image that grows with their number. Processor seconds of one thread:
masks in their boxes from 28 x 28 cells; partners in a second view; cleaning; suppression of 30 proposals a nucleus;
matching of the labels with those moved by two pixels. Where the cost follows the number, the last column is the same in
all rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
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

STEP, PROPOSALS = 24, 30


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
    proposals = torch.from_numpy(rng.permutation(many))
    suppressing, _ = cpu(lambda: suppress(proposals, 0.6))
    return [pasting, pairing, cleaning, suppressing, matching]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=50_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    row(10)
    print(f"{machine()}, one thread, processor seconds")
    steps = ("masks", "partners", "cleaning", "proposals", "matching")
    print(f"{'nuclei':>7s}" + "".join(f"{step:>11s}" for step in steps) + f"{'ms a nucleus':>14s}")
    for count in (10, 100, 1000, 5000, 20_000, 50_000):
        if count <= options.most:
            taken = row(count)
            print(
                f"{count:7d}" + "".join(f"{value:11.4f}" for value in taken) + f"{sum(taken) / count * 1000:14.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
