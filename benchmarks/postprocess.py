"""From soft masks to the final label image: masks in their boxes against Detectron2's paste into N x H x W.

    python benchmarks/postprocess.py [--repeats 5] [--skip-large]

The nuclei are ellipses of 12 to 40 pixels at random places, some of them overlapping, as soft masks of 28 x 28.
Time is the best of the repeats; memory is the most that the step held beyond what was there before it.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import numpy as np
import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from numpy.typing import NDArray

from maskseg.core.masks import SoftCrops
from maskseg.inference.postprocess import clean
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.tta import VIEWS, merge

THRESHOLD = 0.5


def detections(count: int, side: int, seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    """Soft masks (N, 28, 28), boxes (N, 4) and scores (N,) of `count` nuclei in an image of side x side pixels."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(20, side - 20, (count, 2))
    size = rng.uniform(12, 40, (count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    place = (np.arange(28) + 0.5) / 28 * 2 - 1
    radius = np.hypot(place[:, None], place[None, :])
    steep = rng.uniform(5, 20, (count, 1, 1))
    soft = 1 / (1 + np.exp(steep * (radius - rng.uniform(0.8, 0.95, (count, 1, 1)))))
    return soft.astype(np.float32), boxes.astype(np.float32), rng.uniform(0.5, 1, count).astype(np.float32)


def crop_local(soft: Any, boxes: Any, scores: Any, side: int) -> NDArray[np.int32]:
    """Our way, all of it: threshold, fill, close, overlaps, fragments, small masks, label image."""
    masks = SoftCrops.paste(soft, boxes, (side, side), scores).masks(THRESHOLD)
    return clean(masks).to_labels()


def crop_local_flip(soft: Any, boxes: Any, scores: Any, side: int) -> NDArray[np.int32]:
    """The same with the masks of a second view, a pixel off, united first."""
    shape = (side, side)
    first = SoftCrops.paste(soft, boxes, shape, scores)
    settings = PostprocessSettings(mask_threshold=THRESHOLD, tta_merge="union")
    _, masks = merge(first, VIEWS["flip"][1:], lambda view: SoftCrops.paste(soft, boxes + 1, shape, scores), settings)
    return clean(masks).to_labels()


def paste(soft: Any, boxes: Any, scores: Any, side: int) -> NDArray[np.int32]:
    """Detectron2's paste, then the label image; without any of the cleaning."""
    masks = paste_masks_in_image(torch.from_numpy(soft), torch.from_numpy(boxes), (side, side), THRESHOLD).numpy()
    labels = np.zeros((side, side), np.int32)
    for i in np.argsort(scores):
        labels[masks[i]] = i + 1
    return labels


def measure(step: Callable[..., Any], repeats: int, *arguments: Any) -> tuple[float, float]:
    """Best seconds, and peak MB as NumPy reports it to tracemalloc."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(*arguments)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    step(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(seconds), peak / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-paste", action="store_true", help="Leave out Detectron2's paste, which needs 6 GB.")
    options = parser.parse_args()
    print(f"{'':52s} {'seconds':>8s} {'MB':>8s}")
    for count, side in ((1_500, 2048), (20_000, 8192)):
        found = detections(count, side)
        title = f"{count:,} nuclei, {side} x {side}"
        for name, step in (("boxes only, cleaned", crop_local), ("boxes only, two views, cleaned", crop_local_flip)):
            seconds, peak = measure(step, options.repeats, *found, side)
            print(f"{title + ': ' + name:52s} {seconds:8.3f} {peak:8.0f}")
        if side == 2048 and not options.skip_paste:
            start = time.perf_counter()
            paste(*found, side)
            seconds = time.perf_counter() - start
            # The N x H x W result; torch's memory is not NumPy's.
            print(f"{title + ': Detectron2 paste, not cleaned':52s} {seconds:8.3f} {count * side * side / 1e6:8.0f}")


if __name__ == "__main__":
    main()
