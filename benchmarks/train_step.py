#!/usr/bin/env python3
"""What an iteration of training takes on a CPU, beside the way that it went before.

    python benchmarks/train_step.py [DATASET[:PART] ...] [--config NAME] [--iterations N] [--repeats N]

DATASET is a converted data set; the sample, converted on the spot, where not given. "Before" is torchvision's ROIAlign
in the heads and memory that the C library gives back to the system after each layer; each way in a process of its own,
turn by turn, after some iterations that do not count. Medians over all iterations of all repeats.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.utils.events import EventStorage
from machine import machine

from maskseg.convert.annotated import convert_annotations
from maskseg.inference.memory import keep_freed_memory
from maskseg.models.config import load_config, to_device
from maskseg.models.pooling import RowPooler
from maskseg.training.trainer import Trainer

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "train"
WAYS = {"before": (False, False), "ROIAlign by rows": (True, False), "and freed memory kept": (True, True)}
# Iterations that do not count.
FIRST = 4


def times(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Processor and wall seconds of each iteration of one way."""
    rows, keep = WAYS[options.way]
    if keep:
        keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(options.data)
        if not names:
            convert_annotations("folders", [SAMPLE], Path(folder) / "sample")
            names = (f"{folder}/sample",)
        cfg = load_config(options.config)
        to_device(cfg)
        cfg.MODEL.DEVICE, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = "cpu", names, ()
        cfg.DATASETS.TRAIN_SHARES, cfg.TEST.EVAL_PERIOD = [], 0
        cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = folder, ""
        cfg.freeze()
        trainer = Trainer(cfg)
        trainer.model.train()
        trainer.iter, trainer.max_iter, measured = 0, FIRST + options.iterations, list[tuple[float, float]]()
        pooling = RowPooler.forward if rows else ROIPooler.forward
        with EventStorage(0) as trainer.storage, patch.object(RowPooler, "forward", pooling):
            for number in range(trainer.max_iter):
                trainer.iter = number
                cpu, wall = time.process_time(), time.perf_counter()
                trainer.run_step()
                measured.append((time.process_time() - cpu, time.perf_counter() - wall))
                trainer.storage.step()
        return measured[FIRST:]


def main() -> None:
    """Measure every way in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATASET[:PART]")
    parser.add_argument("--config", default="nuclei_R_18_FPN")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(times(options)))
        return
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.config}")
    print(f"{'':24s}{'cpu s':>8s}{'s':>8s}  an iteration")
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, so_far in measured.items():
            run = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--way", way], check=True, stdout=subprocess.PIPE, text=True
            )
            so_far += json.loads(run.stdout.splitlines()[-1])
    for way, so_far in measured.items():
        cpu, wall = (median(one) for one in zip(*so_far, strict=True))
        print(f"{way:24s}{cpu:8.3f}{wall:8.3f}", flush=True)


if __name__ == "__main__":
    main()
