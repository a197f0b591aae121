#!/usr/bin/env python3
"""How long the network takes on a CPU under different engines, and whether it finds the same boxes.

    python benchmarks/backends.py [--model NAME|FILE] [--threads N] [--repeats N]

The images are those of datasets/sample/heldout. "Exported" are backbone, FPN and RPN head, with dynamic height and
width, as one graph, and box head and mask head, for any number of boxes, as two more; anchors, NMS and ROIAlign stay in
torch.
A box agrees where the engine finds one of the same nucleus within TOLERANCE pixels of the image and 0.02 of score.
Processor seconds are what to compare on a machine that does other work; best of the repeats for each image.
In int8 are the box head by torch (weights; values as they come) and the dense graph by ONNX Runtime (calibrated on the
images of datasets/sample/train, weights by channel, of 7 bits since the instructions of AVX2 overflow otherwise).
ONNX Runtime and OpenVINO are left out where they are not installed: pip install onnx onnxruntime openvino
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: the threads of torch look at the environment once

# isort: split
import cv2
import numpy as np
import torch
from torch import nn

from maskseg.imaging.exposure import normalized
from maskseg.imaging.reading import read_image
from maskseg.inference.api import load_model
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.soft_masks import SoftMasks
from maskseg.models.convolutions import _Quick
from maskseg.models.precision import half_precision

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "heldout"
CALIBRATION = SAMPLE.parent / "train"
TOLERANCE = 1.0  # pixels
Run = Callable[[torch.Tensor], Sequence[torch.Tensor]]


class Dense(nn.Module):
    """Backbone, FPN and RPN head of a model: a normalised image (1, 3, H, W) to a flat list of maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.proposal_generator.rpn_head
        self.names = list(model.backbone.output_shape())
        self.levels = model.proposal_generator.in_features

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of all levels, then objectness of the RPN's levels, then their deltas."""
        features = self.backbone(image)
        logits, deltas = self.head([features[name] for name in self.levels])
        return (*(features[name] for name in self.names), *logits, *deltas)


@dataclass(frozen=True)
class Graph:
    """A part of the network that can be written as a graph: its module, an input, and which of its axes are dynamic."""

    module: nn.Module
    example: torch.Tensor
    dynamic: dict[int, str]


def graphs(model: nn.Module) -> dict[str, Graph]:
    """The network without anchors, NMS and ROIAlign: the dense part, and the two heads for any number of boxes."""
    heads, channels = model.roi_heads, model.backbone.output_shape()["p2"].channels
    parts = {
        "dense": Graph(Dense(model), torch.zeros(1, 3, 256, 320), {2: "height", 3: "width"}),
        "box": Graph(
            nn.Sequential(heads.box_head, heads.box_predictor),
            torch.zeros(3, channels, *heads.box_pooler.output_size),
            {0: "boxes"},
        ),
        "mask": Graph(
            nn.Sequential(*heads.mask_head), torch.zeros(3, channels, *heads.mask_pooler.output_size), {0: "boxes"}
        ),
    }
    for part in parts.values():
        part.module.eval()
    return parts


@contextmanager
def replaced(model: nn.Module, dense: Dense, runs: dict[str, Run]) -> Iterator[None]:
    """Let the functions stand for the parts of the model that `graphs` names."""
    features, levels, kept = len(dense.names), len(dense.levels), []
    heads, plain = model.roi_heads, model.roi_heads.mask_head.layers

    def maps(image: torch.Tensor) -> dict[str, torch.Tensor]:
        kept[:] = runs["dense"](image)
        return dict(zip(dense.names, kept[:features], strict=True))

    steps = {
        (model.backbone, "forward"): maps,
        (model.proposal_generator.rpn_head, "forward"): lambda _: (
            kept[features : features + levels],
            kept[features + levels :],
        ),
        (heads.box_head, "forward"): lambda pooled: pooled,
        (heads.box_predictor, "forward"): lambda pooled: tuple(runs["box"](pooled)),
        # Where nothing was found there is nothing to run a graph on.
        (heads.mask_head, "layers"): lambda pooled: runs["mask"](pooled)[0] if len(pooled) else plain(pooled),
    }
    for (module, name), step in steps.items():
        setattr(module, name, step)
    try:
        yield
    finally:
        for module, name in steps:
            delattr(module, name)


def traced(parts: dict[str, Graph]) -> dict[str, Run]:
    """The graphs as TorchScript."""

    def run(part: Graph) -> Run:
        with torch.inference_mode():
            script = torch.jit.freeze(torch.jit.trace(part.module, part.example))
        return lambda x: found if isinstance(found := script(x), tuple) else (found,)

    return {name: run(part) for name, part in parts.items()}


def onnx_files(parts: dict[str, Graph], folder: str) -> dict[str, Path]:
    """The graphs as ONNX files."""
    paths = {}
    for name, part in parts.items():
        paths[name] = Path(folder) / f"{name}.onnx"
        torch.onnx.export(
            part.module,
            (part.example,),
            str(paths[name]),
            input_names=["input"],
            dynamic_axes={"input": part.dynamic},
            opset_version=17,
            dynamo=False,
        )
    return paths


def in_int8(path: Path, model: nn.Module) -> Path:
    """The dense graph in int8, calibrated on the pixels of the sample's training images."""
    from onnxruntime import quantization as ort

    pixels = [read_image(file)[:256, :256] for file in sorted(CALIBRATION.glob("*/images/*.png"))]
    tensors = [torch.from_numpy(normalized(one, "auto", "colour").transpose(2, 0, 1).copy()) for one in pixels]
    inputs = iter([{"input": model.preprocess_image([{"image": one}]).tensor.numpy()} for one in tensors])

    class Images(ort.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(inputs, None)

    quick = path.with_name("int8.onnx")
    ort.quantize_static(str(path), str(quick), Images(), per_channel=True, reduce_range=True)
    return quick


def int8_head(model: nn.Module) -> Run:
    """The box head with its linear layers in int8, by torch."""
    heads = copy.deepcopy(nn.Sequential(model.roi_heads.box_head, model.roi_heads.box_predictor))
    found: nn.Module = torch.ao.quantization.quantize_dynamic(heads[0], {nn.Linear}, dtype=torch.qint8)
    return lambda pooled: heads[1](found(pooled))


@contextmanager
def plain(predictor: MaskRCNNPredictor) -> Iterator[None]:
    """Predict by the convolutions as torch has them."""
    kept = _Quick._predicts
    _Quick._predicts = lambda *_: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        _Quick._predicts = kept  # type: ignore[method-assign]


@contextmanager
def with_head(model: nn.Module, run: Run) -> Iterator[None]:
    """Let a function stand for the box head and its predictor."""
    heads = model.roi_heads
    heads.box_head.forward, heads.box_predictor.forward = lambda pooled: pooled, run
    try:
        yield
    finally:
        del heads.box_head.forward, heads.box_predictor.forward


def onnx_runtime(path: Path, threads: int) -> Run:
    """The graph run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # It takes two pyramid levels of unknown size for equally large and would reuse the memory of one for the other.
    options.enable_mem_reuse = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(one) for one in session.run(None, {"input": x.contiguous().numpy()})]


def open_vino(path: Path, threads: int) -> Run:
    """The graph run by OpenVINO in the precision that it chooses for this CPU."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": threads})

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        found = compiled([x.contiguous().numpy()])
        return [torch.from_numpy(found[i].copy()) for i in range(len(compiled.outputs))]

    return run


def agreement(one: list[SoftMasks], other: list[SoftMasks]) -> float:
    """Share of boxes, of both, that have a partner in the other within the tolerance."""
    near = total = 0
    for a, b in zip(one, other, strict=True):
        total += len(a.scores) + len(b.scores)
        if len(a.scores) and len(b.scores):
            close = np.abs(a.boxes[:, None] - b.boxes[None]).max(axis=2) <= TOLERANCE
            close &= np.abs(a.scores[:, None] - b.scores[None]) <= 0.02
            near += int(close.any(axis=1).sum() + close.any(axis=0).sum())
    return near / max(total, 1)


def best(step: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least processor and wall seconds of some runs."""
    times = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(cpu for cpu, _ in times), min(wall for _, wall in times)


@contextmanager
def bfloat16(predictor: MaskRCNNPredictor) -> Iterator[None]:
    """Predict as by default, in bfloat16."""
    predictor.cfg.MODEL.BFLOAT16 = True
    try:
        yield
    finally:
        predictor.cfg.MODEL.BFLOAT16 = False


def engines(predictor: MaskRCNNPredictor, threads: int, folder: str) -> Iterator[tuple[str, Any]]:
    """Names, each with the context in which the predictor, in float32, uses that engine."""
    model = predictor.model
    yield "eager, channels last", plain(predictor)
    yield "with quick convolutions (as loaded)", nullcontext()
    yield "the same, the box head in int8", with_head(model, int8_head(model))
    with bfloat16(predictor):
        usable = half_precision(predictor.cfg, model)
    if usable:
        yield "as loaded, in bfloat16 (the default)", bfloat16(predictor)
    else:
        print("bfloat16 left out: this CPU has no instructions for it")
    # Written and traced from the plain form, before anything is replaced.
    parts = graphs(model)
    dense = parts["dense"].module
    yield "exported, torch.jit.trace", replaced(model, dense, traced(parts))
    model.to(memory_format=torch.contiguous_format)
    yield "eager, contiguous", plain(predictor)
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "openvino")):
        print("ONNX Runtime and OpenVINO left out; to have them: pip install onnx onnxruntime openvino")
        return
    paths = onnx_files(parts, folder)
    for name, engine in (("ONNX Runtime", onnx_runtime), ("OpenVINO", open_vino)):
        runs = {part: engine(path, threads) for part, path in paths.items()}
        yield f"exported, {name}", replaced(model, dense, runs)
        if name == "ONNX Runtime":
            runs["dense"] = onnx_runtime(in_int8(paths["dense"], model), threads)
            yield f"exported, {name}, the dense part in int8", replaced(model, dense, runs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    # Tracing warns of each Python condition on a shape; the graphs are run on other shapes below.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    begin = time.process_time(), time.perf_counter()
    predictor = load_model(options.model, ["MODEL.DEVICE", "cpu", "MODEL.BFLOAT16", "False"])
    load = time.process_time() - begin[0], time.perf_counter() - begin[1]
    images = [read_image(path) for path in sorted(SAMPLE.glob("*/images/*.png"))]
    small = [image for image in images if max(image.shape[:2]) <= 320]
    print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, {date.today()}")
    print(f"model load {load[0]:.2f} cpu s, {load[1]:.2f} s; {len(images)} images, {len(small)} of 256 to 320 pixels")
    heads = " ".join(f"{head:>16s}" for head in ("network, all", "small, no flip", "small, flip"))
    print(f"{'cpu s (wall s) an image':42s} {heads}  same boxes")
    reference: list[SoftMasks] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, context in engines(predictor, options.threads, folder):
            with context:
                found = [predictor.detect(image) for image in images]
                reference = reference or found
                row = [
                    (images, predictor.detect),
                    (small, lambda image: predictor.segment(image, tta="none")),
                    (small, lambda image: predictor.segment(image, tta="flip")),
                ]
                cells = []
                for chosen, step in row:
                    times = [best(lambda image=image, step=step: step(image), options.repeats) for image in chosen]
                    cpu, wall = np.mean(times, axis=0)
                    cells.append(f"{cpu:8.3f} ({wall:5.3f})")
            print(f"{name:42s} {' '.join(f'{c:>16s}' for c in cells)}  {agreement(reference, found):9.1%}", flush=True)


if __name__ == "__main__":
    main()
