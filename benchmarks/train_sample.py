#!/usr/bin/env python3
"""How long a training sample takes, and how much memory a batch, beside Detectron2's own mapper with bitmasks.

    python benchmarks/train_sample.py [DATASET[:PART]] [--images N]

DATASET is a converted data set; the sample, converted on the spot, where not given. The dense sample is the image with
the most nuclei among those of 696 x 520 pixels (of all where there is none). Detectron2's mapper resizes, flips and
rotates; ours does all that the reference config asks for, on one thread each. Processor seconds are what to compare on
a machine that does other work too; the loader's images/s need an idle one.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from torch.utils.data import DataLoader

from maskseg.convert.annotated import convert_annotations
from maskseg.data.dataset import dataset_dicts
from maskseg.models.config import load_config
from maskseg.training.mapper import Samples
from maskseg.training.sampler import EpochSampler, modality_weights

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "train"
SIDE = 512


def ordinary_mapper() -> DatasetMapper:
    """Detectron2's own: the longer side to 512, flips, +-15 degrees, one bitmask for each nucleus."""
    changes = [
        T.ResizeShortestEdge([SIDE, SIDE], SIDE),
        T.RandomFlip(horizontal=True, vertical=False),
        T.RandomFlip(horizontal=False, vertical=True),
        T.RandomRotation([-15, 15], expand=False),
    ]
    return DatasetMapper(
        True, augmentations=changes, image_format="RGB", use_instance_mask=True, instance_mask_format="bitmask"
    )


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median processor seconds of some runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a sample, each storage once."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, "get_fields"):
        value = list(value.get_fields().values())
    elif hasattr(value, "__dict__"):
        value = list(vars(value).values())
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, list) else []


def megabytes(batch: list[dict[str, Any]]) -> float:
    """Memory of a batch, ground truth included."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors(batch)}
    return sum(storages.values()) / 1e6


def loading(cfg: Any, records: list[dict[str, Any]], images: int) -> list[tuple[str, float, float]]:
    """Wall and processor seconds an image of a loader of two workers: first epoch and the later ones."""
    sampler = EpochSampler(modality_weights([record["modality"] for record in records], 0.0), seed=1)
    loader = iter(DataLoader(Samples(cfg, records), 4, sampler=sampler, num_workers=2, collate_fn=list))
    batches = len(records) // 4
    rows = []
    # Before the later epochs one more, in which the last images are read for the first time.
    for name, count in (("first epoch", batches), ("", batches), ("later epochs", max(images // 4, 1))):
        begin, busy = time.perf_counter(), worker_seconds(loader)
        for _ in range(count):
            next(loader)
        if name:
            wall, busy = time.perf_counter() - begin, worker_seconds(loader) - busy
            rows.append((name, wall / (4 * count), busy / (4 * count)))
    return rows


def worker_seconds(loader: Any) -> float:
    """Processor seconds that the workers of a loader have used so far."""
    total = 0
    for worker in loader._workers:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="converted data set, DIR or DIR:part")
    parser.add_argument("--images", type=int, default=1000, help="images for the loader's later epochs (default 1000)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.dataset is None:
            convert_annotations(SAMPLE, folder, "folders", progress=False)
        records = dataset_dicts(options.dataset or folder)
        same_size = [record for record in records if (record["height"], record["width"]) == (520, 696)]
        dense = max(same_size or records, key=lambda record: len(record["annotations"]))
        cfg = load_config("nuclei_R_101_FPN", ["INPUT.LONG_SIDE", f"{SIDE}", "INPUT.AUG.WINDOW", f"{SIDE}"])
        uncached = load_config("nuclei_R_101_FPN", ["DATALOADER.CACHE_MB", "0"])
        mapper = ordinary_mapper()
        cached, cold = Samples(cfg, [dense]), Samples(uncached, [dense])
        position = iter(range(1 << 30))
        print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {date.today()}")
        print(f"dense sample: {dense['width']}x{dense['height']}, {len(dense['annotations'])} nuclei, to {SIDE}x{SIDE}")
        rows = [
            ("Detectron2's mapper, bitmask", seconds(lambda: mapper(copy.deepcopy(dense)), 5)),
            ("maskseg, image read from its file", seconds(lambda: cold[next(position), 0], 30)),
            ("maskseg, image in the cache", seconds(lambda: cached[next(position), 0], 30)),
        ]
        print(f"{'one sample':36s} {'cpu s':>8s} {'times':>6s}")
        for name, value in rows:
            print(f"{name:36s} {value:8.4f} {rows[0][1] / value:6.0f}")
        ours = megabytes([cached[next(position), 0] for _ in range(4)])
        theirs = megabytes([mapper(copy.deepcopy(dense)) for _ in range(4)])
        print(f"{'batch of 4, ground truth included':36s} {'MB':>8s} {'times':>6s}")
        print(f"{rows[0][0]:36s} {theirs:8.1f} {1:6.0f}")
        print(f"{'maskseg, label maps':36s} {ours:8.1f} {theirs / ours:6.0f}")
        print(f"{f'loader, 2 workers, {len(records)} images':36s} {'images/s':>8s} {'cpu s an image':>15s}")
        for name, wall, busy in loading(cfg, records, options.images):
            print(f"{name:36s} {1 / wall:8.0f} {busy:15.4f}")


if __name__ == "__main__":
    main()
