"""Overlaps of the masks of one image, as `maskseg check` looks for them, against counting them pixel by pixel.

    python benchmarks/check.py [--repeats 3]

Both give the same pairs, which is checked. Processor time is the least of the repeats.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np

from maskseg.core.masks import CropMasks, trim
from maskseg.core.overlaps import overlaps_within


def discs(count: int, side: int, radius: tuple[int, int], seed: int = 0) -> CropMasks:
    """Nuclei as discs at random places, of which many overlap."""
    rng = np.random.default_rng(seed)
    boxes, bitmaps = [], []
    for _ in range(count):
        r = int(rng.integers(*radius))
        disc = np.zeros((2 * r + 1, 2 * r + 1), np.uint8)
        cv2.circle(disc, (r, r), r, 1, -1)
        x, y = rng.integers(0, side - 2 * r, 2).tolist()
        box, bitmap = trim(disc > 0, x, y)
        boxes.append(box)
        bitmaps.append(bitmap)
    return CropMasks((side, side), np.array(boxes, np.int32), bitmaps)


def whole_images(side: int) -> CropMasks:
    """Two masks that cover all of an image."""
    return CropMasks((side, side), np.array([[0, 0, side, side]] * 2, np.int32), [np.ones((side, side), bool)] * 2)


def by_boxes(masks: CropMasks) -> dict[tuple[int, int], int]:
    """Shared pixels of each pair: as maskseg does it."""
    pairs = overlaps_within(masks)
    places = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(zip(places, pairs.intersection.tolist(), strict=True))


def by_pixels(masks: CropMasks) -> dict[tuple[int, int], int]:
    """The same by the owners of every shared pixel."""
    count = np.zeros(masks.shape, np.uint16)
    for (x0, y0, x1, y1), bitmap in zip(masks.boxes, masks.bitmaps, strict=True):
        count[y0:y1, x0:x1] += bitmap
    owners: dict[int, list[int]] = defaultdict(list)
    for index, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes, masks.bitmaps, strict=True)):
        y, x = np.nonzero(bitmap & (count[y0:y1, x0:x1] > 1))
        for pixel in ((y + y0) * masks.shape[1] + x + x0).tolist():
            owners[pixel].append(index)
    pairs: Counter[tuple[int, int]] = Counter()
    for of_pixel in owners.values():
        pairs.update(combinations(of_pixel, 2))
    return dict(sorted(pairs.items()))


def best(step: Callable[[CropMasks], object], masks: CropMasks, repeats: int) -> float:
    """Fewest seconds of the processor."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        step(masks)
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'overlaps of the masks of one image, cpu s':44s} {'pairs':>7s} {'by boxes':>11s} {'by pixels':>12s}")
    for title, masks in (
        ("3,000 nuclei, 1024 x 1024", discs(3000, 1024, (12, 20))),
        ("3,000 nuclei, 4096 x 4096", discs(3000, 4096, (12, 20))),
        ("2 masks of all of 1024 x 1024", whole_images(1024)),
    ):
        found = by_boxes(masks)
        if found != by_pixels(masks):
            raise SystemExit(f"{title}: the two ways differ")
        ours, theirs = best(by_boxes, masks, options.repeats), best(by_pixels, masks, options.repeats)
        print(f"{title:44s} {len(found):7d} {ours:11.4f} {theirs:12.3f}")


if __name__ == "__main__":
    main()
