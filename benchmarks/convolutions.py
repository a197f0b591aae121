"""The convolutions of a network, and a whole look at a tile, beside oneDNN's: time, memory, how far results differ.

    python benchmarks/convolutions.py [--model NAME] [--side 1024] [--threads N] [--repeats 5] [--tissue ZIP]

For each kind of layer that goes another way (`maskseg.models.convolutions`): milliseconds as Detectron2 computes it and
now, medians turn by turn, on features of that size; then one view of an image of side x side, tissue images of the zip
side by side, or noise without a zip.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
import torch
from dense import stock_convolutions
from machine import machine
from numpy.typing import NDArray

from maskseg.inference.api import load_model
from maskseg.models.convolutions import _Quick


def turns(ways: dict[str, Any], step: Any, repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds and processor seconds of a step in each context, turn by turn."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            with way():
                wall, cpu = time.perf_counter(), time.process_time()
                step()
                if turn:
                    took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: (median(w for w, _ in times), median(c for _, c in times)) for name, times in took.items()}


def picture(archive: Path | None, side: int) -> NDArray[np.uint8]:
    """A picture, uint8 (side, side, 3)."""
    if archive is None:
        return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    from tiles import tissue

    pieces = tissue(archive)
    across = -(-side // len(pieces[0]))
    places = (np.arange(across * across) % len(pieces)).reshape(across, across)
    rows = [np.hstack([pieces[number] for number in row]) for row in places]
    return np.ascontiguousarray(np.vstack(rows)[:side, :side])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tissue", type=Path, help="Zip with tissue_images/*.tif.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    predictor = load_model(options.model, ["MODEL.DEVICE", "cpu", "MODEL.BFLOAT16", "False"])
    image, ways = picture(options.tissue, options.side), {"before": stock_convolutions, "now": nullcontext}
    layers: dict[tuple[Any, ...], tuple[Any, torch.Tensor]] = {}

    def noted(layer: Any, given: Any) -> None:
        layers.setdefault((tuple(given[0].shape), tuple(layer.weight.shape), layer.stride), (layer, given[0].clone()))

    quick = [module for module in predictor.model.modules() if isinstance(module, _Quick)]
    hooks = [module.register_forward_pre_hook(noted) for module in quick]
    predictor.segment(image, "none")
    for hook in hooks:
        hook.remove()
    print(f"{machine()}, {options.threads} threads")
    with torch.inference_mode():
        for (shape, weight, stride), (layer, features) in layers.items():
            took = turns(ways, lambda layer=layer, features=features: layer(features), options.repeats)
            with stock_convolutions():
                plain = layer(features)
            apart = float((layer(features) - plain).abs().max() / plain.abs().max())
            old, new = took["before"][0], took["now"][0]
            print(
                f"{'x'.join(map(str, shape)):>18s} by {'x'.join(map(str, weight)):12s} step {stride[0]}: "
                f"{old * 1e3:7.1f} ms, now {new * 1e3:7.1f}, {old / new:4.2f} x, apart by {apart:.0e} of the largest"
            )
    layers.clear()
    took = turns(ways, lambda: predictor.segment(image, "none"), options.repeats)
    for name, (wall, cpu) in took.items():
        print(f"{options.side} x {options.side}, one view, {name}: {wall:.2f} s, {cpu:.2f} cpu s")


if __name__ == "__main__":
    main()
