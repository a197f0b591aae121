#!/usr/bin/env python3
"""How long mask folders to COCO takes, beside the floor (reading and decoding the same files) and the ordinary way.

    python benchmarks/convert.py [SRC] [--folders N] [--ordinary N]

SRC is a folder of image folders or a zip file; the sample where not given. All ways run one after the other. The
ordinary way (fill each whole picture, stack, encode; one process) is slow and runs on the first N folders only, with
the floor for these beside it. Processor seconds, those of all processes together, are what to compare on a machine that
does other work too.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskseg.convert.annotated import convert_annotations

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "train"


def pack(source: Path, target: Path, count: int | None) -> None:
    """The first folders of a source as a zip file without compression, as the data set is had."""
    with zipfile.ZipFile(target, "w") as packed:
        if source.is_file():
            with zipfile.ZipFile(source) as file:
                names = [name for name in file.namelist() if name.endswith(".png")]
                kept = set(list(dict.fromkeys(name.rsplit("/", 2)[0] for name in names))[:count])
                for name in names:
                    if name.rsplit("/", 2)[0] in kept:
                        packed.writestr(name, file.read(name))
        else:
            for folder in sorted(path.parent for path in source.glob("**/images"))[:count]:
                for path in sorted(folder.glob("*/*.png")):
                    packed.write(path, path.relative_to(source).as_posix())


def decoded(file: zipfile.ZipFile, name: str) -> Any:
    """A picture of a zip file, by OpenCV: images as they are, masks as grey."""
    flag = cv2.IMREAD_GRAYSCALE if "/masks/" in name else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(file.read(name), np.uint8), flag)


def floor(source: Path) -> int:
    """Read and decode every file and do nothing else; the number of masks."""
    with zipfile.ZipFile(source) as file:
        names = file.namelist()
        for name in names:
            decoded(file, name)
    return sum("/masks/" in name for name in names)


def ordinary(source: Path) -> int:
    """Fill each whole mask, stack those of an image, encode the stack; the number of masks."""
    with zipfile.ZipFile(source) as file:
        names = file.namelist()
        masks_of: dict[str, list[str]] = {}
        for name in names:
            if "/masks/" in name:
                masks_of.setdefault(name.rsplit("/", 2)[0], []).append(name)
            else:
                decoded(file, name)
        for masks in masks_of.values():
            filled = [ndimage.binary_fill_holes(decoded(file, name) > 128) for name in masks]
            rles = coco_mask.encode(np.asfortranarray(np.stack(filled, axis=-1).astype(np.uint8)))
            coco_mask.toBbox(rles)
            for rle in rles:  # the area of a whole list fails with NumPy 2 when it is longer than 255
                coco_mask.area(rle)
    return sum(map(len, masks_of.values()))


def ours(workers: int, source: Path) -> int:
    """The whole of ``maskseg convert folders``, files written included; the number of masks."""
    with tempfile.TemporaryDirectory() as out:
        return convert_annotations(source, out, "folders", workers=workers, progress=False).annotation_count


def processor_seconds() -> float:
    """Of this process and of those it started, which have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(run: Callable[[Path], int], source: Path, repeats: int) -> tuple[int, float, float]:
    """Number of masks, wall and processor seconds of the best of some runs."""
    best = (0, float("inf"), float("inf"))
    for _ in range(repeats):
        wall, busy = time.perf_counter(), processor_seconds()
        masks = run(source)
        best = min(best, (masks, time.perf_counter() - wall, processor_seconds() - busy), key=lambda row: row[1])
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, default=SAMPLE, help="folder of image folders, or a zip file")
    parser.add_argument("--folders", type=int, help="take the first N folders only")
    parser.add_argument("--ordinary", type=int, default=10, help="folders for the ordinary way (default 10)")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the shortest counts (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "whole.zip", Path(folder) / "part.zip"
        pack(options.source, whole, options.folders)
        pack(options.source, part, min(options.ordinary, options.folders or options.ordinary))
        rows = [
            ("read and decode", *measure(floor, whole, options.repeats)),
            ("maskseg, one process", *measure(partial(ours, 1), whole, options.repeats)),
            ("maskseg, two processes", *measure(partial(ours, 2), whole, options.repeats)),
            ("read and decode, part", *measure(floor, part, 1)),
            ("fill, stack, encode, part", *measure(ordinary, part, 1)),
        ]
    print(f"{options.source.name}, {platform.machine()}, Python {platform.python_version()}, {date.today()}")
    print(f"{'':26s} {'masks':>6s} {'wall s':>8s} {'cpu s':>8s} {'ms a mask':>10s} {'x decoding':>11s}")
    for name, masks, wall, busy in rows:
        if name.startswith("read"):
            base = busy
        print(
            f"{name:26s} {masks:6d} {wall:8.2f} {busy:8.2f} {1000 * busy / masks:10.3f} {busy / max(base, 1e-9):11.2f}"
        )


if __name__ == "__main__":
    main()
