#!/usr/bin/env python3
"""Prediction of the same images by maskseg, StarDist and Cellpose 3: time and memory against size and number of nuclei.

    python benchmarks/peers.py [--stardist PYTHON] [--cellpose PYTHON] [--most 2048] [--plot benchmarks/peers.png]

PYTHON is the interpreter of an environment that has `stardist` and TensorFlow, or `cellpose<4` and torch; where none is
given, or it has them not, a line says so and the other rows are printed. Nobody's weights are downloaded: the networks
of the two are those of their published nucleus models with random weights, which take the same time, and what they do
after the network they do on the true distances, flows and probabilities of the nuclei. maskseg runs as it comes, with
its own weights.

Each program runs in a process of its own, with one thread: processor seconds of the network, and of the rest; memory is
what the process held at most above what it held after a first, small image. Round nuclei, 16 to 26 pixels wide,
sparse (60 in a megapixel) and dense (900).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES, DENSITIES = (256, 512, 1024, 2048), (60, 900)
THREADS = {
    name: "1" for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NUMBA_NUM_THREADS")
}
PROGRAMS = ("maskseg, one view", "maskseg, two views", "StarDist", "Cellpose 3")


def field(side: int, density: int) -> tuple[Any, Any]:
    """An image, uint8 (side, side), of round nuclei on a dark background, and their labels, int32."""
    import numpy as np

    rng = np.random.default_rng(0)
    # On a grid, so that the densest image has them all; a place is left empty now and then.
    step = 30
    places = np.stack(np.mgrid[step // 2 : side - step // 2 : step, step // 2 : side - step // 2 : step], -1)
    places = places.reshape(-1, 2)
    count = min(len(places), max(4, round(density * side * side / 1e6)))
    labels, image = np.zeros((side, side), np.int32), np.full((side, side), 12.0)
    for number, (y, x) in enumerate(rng.permutation(places)[:count] + rng.uniform(-2, 2, (count, 2)), start=1):
        radius = rng.uniform(8, 13)
        top, left = max(int(y) - 15, 0), max(int(x) - 15, 0)
        rows, columns = np.mgrid[top : min(top + 31, side), left : min(left + 31, side)]
        distance = np.hypot(rows - y, columns - x)
        part = np.s_[top : top + rows.shape[0], left : left + rows.shape[1]]
        labels[part][distance <= radius] = number
        image[part] += rng.uniform(60, 180) / (1 + np.exp(distance - radius))
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8), labels


def memory(key: str) -> float:
    """A line of /proc/self/status in MB: VmRSS, now, or VmHWM, at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(":", 1) for line in lines)[key].split()[0]) / 1e3


def timed(step: Any) -> tuple[float, Any]:
    """Processor seconds of a step in all threads, and what it gives."""
    begin = time.process_time()
    result = step()
    return time.process_time() - begin, result


class Maskseg:
    """The bundled model as `maskseg predict` has it."""

    def __init__(self, views: str) -> None:
        import torch

        from maskseg import load_model

        torch.set_num_threads(1)
        self.views, self.predictor = views, load_model("nuclei")
        self.network, self.spent = self.predictor.on_canvases, 0.0
        self.predictor.on_canvases = self._timed  # type: ignore[method-assign]

    def _timed(self, canvases: Any) -> Any:
        seconds, found = timed(lambda: self.network(canvases))
        self.spent += seconds
        return found

    def __call__(self, image: Any, _labels: Any) -> tuple[float, float, int]:
        """Processor seconds of the network and of the rest, and the nuclei."""
        import numpy as np

        self.spent = 0.0
        colour = np.repeat(image[..., None], 3, axis=2)
        seconds, masks = timed(lambda: self.predictor.segment(colour, self.views))
        return self.spent, seconds - self.spent, len(masks)


class StarDist:
    """The network of its fluorescence model, 32 rays on every second pixel; suppression and polygons of the truth."""

    def __init__(self) -> None:
        import tensorflow as tf
        from stardist.models import Config2D, StarDist2D

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.model = StarDist2D(Config2D(n_rays=32, grid=(2, 2), n_channel_in=1), name=None, basedir=None)

    def __call__(self, image: Any, labels: Any) -> tuple[float, float, int]:
        """See `Maskseg`."""
        import numpy as np
        from stardist import edt_prob, star_dist

        distances, probability = star_dist(labels, 32, mode="cpp")[::2, ::2], edt_prob(labels)[::2, ::2]
        low, high = np.percentile(image, (1, 99.8))
        seen = (image.astype(np.float32) - low) / (high - low)
        # A first time for its graph, which is made for each size of image.
        for _ in range(2):
            network, _ = timed(lambda: self.model.keras_model.predict(seen[None, ..., None], verbose=0))
        rest, (found, _) = timed(
            lambda: self.model._instances_from_prediction(
                image.shape, probability, distances, prob_thresh=0.5, nms_thresh=0.4
            )
        )
        return network, rest, int(found.max())


class Cellpose:
    """The network of Cellpose 3 in its own tiles of 224 pixels; its dynamics on true flows."""

    def __init__(self) -> None:
        import torch
        from cellpose.resnet_torch import CPnet

        torch.set_num_threads(1)
        self.network = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=True, max_pool=True, diam_mean=17.0).eval()

    def __call__(self, image: Any, labels: Any) -> tuple[float, float, int]:
        """See `Maskseg`."""
        import numpy as np
        import torch
        from cellpose import core, dynamics

        (flows,) = dynamics.labels_to_flows([labels], device=torch.device("cpu"))
        probability = np.where(labels > 0, 6.0, -6.0).astype(np.float32)
        seen = np.stack([image, np.zeros_like(image)], axis=-1).astype(np.float32)[None] / 255
        network, _ = timed(lambda: core.run_net(self.network, seen, bsize=224))
        # 5 is what its network learns flows times.
        field = flows[2:4].astype(np.float32) * 5 * (labels > 0)
        rest, found = timed(lambda: dynamics.compute_masks(field, probability, niter=200))
        return network, rest, int(np.max(found))


def measure(program: str, most: int) -> None:
    """Print a line of JSON for each image: what a program takes of it."""
    if program.startswith("maskseg"):
        model: Any = Maskseg("none" if "one" in program else "flip")
    else:
        model = StarDist() if program == "StarDist" else Cellpose()
    # What is made at the first image only: graphs, compiled loops.
    model(*field(256, 60))
    before = memory("VmRSS")
    for side in (side for side in SIDES if side <= most):
        for density in DENSITIES:
            image, labels = field(side, density)
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            network, rest, found = model(image, labels)
            row = {"side": side, "nuclei": int(labels.max()), "found": found, "network": network, "rest": rest}
            print(json.dumps({**row, "memory": memory("VmHWM") - before}), flush=True)


def rows_of(program: str, python: str | None, most: int) -> list[dict[str, Any]]:
    """The rows of a program, printed as they come; none, and a line, where it is not there."""
    if not python:
        print(f"{program}: no interpreter was given", flush=True)
        return []
    environment = {**os.environ, **THREADS, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [python, __file__, "--measure", program, "--most", str(most)]
    rows = []
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as process,
    ):
        assert process.stdout
        for line in filter(lambda line: line.startswith("{"), process.stdout):
            row = {"program": program, **json.loads(line)}
            row["sum"] = row["network"] + row["rest"]
            print(
                f"{program:20s}{row['side']:6d}{row['nuclei']:8d}{row['found']:8d}{row['network']:10.2f}"
                f"{row['rest']:9.2f}{row['sum']:9.2f}{row['memory']:9.0f}",
                flush=True,
            )
            rows.append(row)
        if process.wait():
            said.seek(0)
            print(f"{program}: not here ({(said.read().strip().splitlines() or ['ended'])[-1]})", flush=True)
    return rows


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Seconds and memory of dense and sparse images against their size."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    figure.suptitle(title, fontsize=9)
    for program in PROGRAMS:
        mine = [row for row in rows if row["program"] == program]
        for part, (name, key) in enumerate((("sparse", "sum"), ("dense", "sum"), ("dense", "memory"))):
            some = mine[1::2] if name == "dense" else mine[::2]
            if some:
                axes[part].loglog(
                    [row["side"] ** 2 / 1e6 for row in some], [row[key] for row in some], "o-", label=program
                )
            axes[part].set(xlabel="megapixels", title=f"{name} nuclei")
            axes[part].set_ylabel("processor seconds" if key == "sum" else "MB beyond those of a small image")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stardist", metavar="PYTHON")
    parser.add_argument("--cellpose", metavar="PYTHON")
    parser.add_argument("--most", type=int, default=SIDES[-1], help="Side of the largest image.")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.most)
        return
    from machine import machine

    title = f"{machine()}, one thread, processor seconds"
    print(title)
    columns = f"{'side':>6s}{'nuclei':>8s}{'found':>8s}{'network':>10s}{'rest':>9s}{'sum':>9s}{'MB':>9s}"
    print(f"{'program':20s}{columns}")
    pythons = (sys.executable, sys.executable, given.stardist, given.cellpose)
    rows = [
        row for program, python in zip(PROGRAMS, pythons, strict=True) for row in rows_of(program, python, given.most)
    ]
    if given.plot:
        plot(rows, given.plot, title)


if __name__ == "__main__":
    main()
