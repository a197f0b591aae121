#!/usr/bin/env python3
"""What `maskseg predict` takes beyond the network itself: reading, resizing, masks, post-processing and files.

    python benchmarks/predict.py [--data DIR:PART] [--number 60] [--model NAME|FILE] [--threads N] [--repeats N]

First the command as it is typed, on the sample images, in a process of its own: imports and the model included. Then,
with the model loaded, predict with ``--formats rle`` beside the network alone on the same canvases in the same batches:
backbone to soft masks, turn by turn, and the medians of the repeats. Processor seconds are what to compare on a machine
that does other work. With ``--dense`` another table: `benchmarks/dense.py`, new beside old on dense tissue.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from machine import machine

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "heldout"


def seconds(step: Callable[[], Any], whose: int = resource.RUSAGE_SELF) -> tuple[float, float]:
    """Processor and wall seconds of a step, in all threads of this process or in its children."""
    before, begin = resource.getrusage(whose), time.perf_counter()
    step()
    after, wall = resource.getrusage(whose), time.perf_counter() - begin
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def cold(model: str, folder: str) -> None:
    """The command on the sample images, as it is typed."""
    given = ["-o", folder, "--model", model, "--formats", "rle", "--tta", "none"]
    command = [sys.executable, "-m", "maskseg.cli.main", "predict", str(SAMPLE), *given]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows(name: str, files: Sequence[Any], predictor: Any, repeats: int) -> None:
    """Print what predict and its network take, without and with the flipped view."""
    from maskseg.inference.run import predict_files

    for tta in ("none", "flip"):
        batches: list[list[Any]] = []

        def predict(tta: str = tta) -> None:
            with tempfile.TemporaryDirectory() as folder:
                failed = predict_files(predictor, files, Path(folder) / "out", ["rle"], tta)
            assert not failed, failed

        def network(batches: list[list[Any]] = batches) -> None:
            for batch in batches:
                predictor.on_canvases(batch)

        plain = predictor.on_canvases
        predictor.on_canvases = lambda batch, plain=plain, batches=batches: batches.append(batch) or plain(batch)
        predict()
        del predictor.on_canvases
        alone, whole = zip(*((seconds(network), seconds(predict)) for _ in range(repeats)), strict=True)
        views = sum(map(len, batches))
        (cpu, wall), (all_cpu, all_wall) = (map(median, zip(*times, strict=True)) for times in (alone, whole))
        print(
            f"{name:24s}{tta:6s}{len(files):7d}{views:7d}{cpu / views:12.3f}{wall / views:8.3f}"
            f"{all_cpu / views:12.3f}{all_wall / views:8.3f}{all_cpu / cpu:9.3f}{all_wall / wall:8.3f}",
            flush=True,
        )


def dense_rows(options: argparse.Namespace) -> None:
    """Print what `segment` takes on dense tissue."""
    # Like all that is imported below: not before the command is timed.
    import cv2
    import dense
    import torch

    from maskseg.inference.api import load_model

    torch.set_num_threads(options.threads or torch.get_num_threads())
    cv2.setNumThreads(torch.get_num_threads())
    predictor = load_model(options.model)
    print(f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {predictor.model.device}")
    dense.rows(predictor, dense.images_of(options.data, options.tissue), options.repeats)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/dsb2018:train", help="converted data set, with :PART for a part of it")
    parser.add_argument("--number", type=int, default=60, help="images of it")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dense", action="store_true", help="dense tissue, beside the way before; nothing else")
    parser.add_argument("--tissue", help="with --dense, a zip with tissue_images/*.tif to be predicted too")
    options = parser.parse_args()
    if options.dense:
        dense_rows(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = seconds(lambda: cold(options.model, folder), resource.RUSAGE_CHILDREN)

    def imports() -> None:
        import maskseg.inference.api
        import maskseg.inference.run  # noqa: F401

    import_cpu, import_wall = seconds(imports)
    import cv2
    import torch

    from maskseg.data.dataset import folder_and_part
    from maskseg.imaging.finding import find_images
    from maskseg.inference.api import load_model
    from maskseg.training.trainer import load_records

    threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    predictor = None

    def load() -> None:
        nonlocal predictor
        predictor = load_model(options.model)

    load_cpu, load_wall = seconds(load)
    sample = find_images([str(SAMPLE)])
    print(f"{machine()}, {threads} threads, torch {torch.__version__}, {predictor.model.device}")
    print(f"maskseg predict, {len(sample)} sample images, one view, all included: {cpu:.2f} cpu s, {wall:.2f} s")
    print(f"imports {import_cpu:.2f} cpu s, {import_wall:.2f} s; model load {load_cpu:.2f} cpu s, {load_wall:.2f} s")
    print(f"{'a view':50s}{'network':>14s}{'predict':>20s}{'ratio':>17s}")
    times = f"{'cpu s':>12s}{'wall s':>8s}"
    print(f"{'':24s}{'tta':6s}{'images':>7s}{'views':>7s}{times}{times}{'cpu':>9s}{'wall':>8s}")
    rows("datasets/sample/heldout", sample, predictor, options.repeats)
    if not Path(folder_and_part(options.data)[0]).exists():
        print(f"{options.data} is not there: its images are left out")
        return
    records = load_records((options.data,))[: options.number]
    rows(options.data, find_images([record["file_name"] for record in records]), predictor, options.repeats)


if __name__ == "__main__":
    main()
