#!/usr/bin/env python3
"""How long the network takes on a CPU under different engines, and whether it finds the same boxes.

    python benchmarks/backends.py [--model NAME|FILE] [--threads N] [--repeats N]

The images are those of datasets/sample/heldout. "Exported" are backbone, FPN and RPN head, with dynamic height and
width, as one graph; anchors, NMS, ROIAlign and the two heads, whose sizes depend on what is found, stay in torch.
A box agrees where the engine finds one of the same nucleus within TOLERANCE pixels of the image and 0.02 of score.
Processor seconds are what to compare on a machine that does other work; best of the repeats for each image.
ONNX Runtime and OpenVINO are left out where they are not installed: pip install onnx onnxruntime openvino
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from maskseg.images import read_image
from maskseg.inference.predictor import Predictor, SoftMasks, load_model

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "heldout"
TOLERANCE = 1.0  # pixels


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


@contextmanager
def replaced(model: nn.Module, dense: Dense, run: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Let `run` stand for `dense` in the model."""
    features, levels, kept = len(dense.names), len(dense.levels), []
    backbone, head = model.backbone.forward, model.proposal_generator.rpn_head.forward

    def maps(image: torch.Tensor) -> dict[str, torch.Tensor]:
        kept[:] = run(image)
        return dict(zip(dense.names, kept[:features], strict=True))

    def proposals(_features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return kept[features : features + levels], kept[features + levels :]

    model.backbone.forward, model.proposal_generator.rpn_head.forward = maps, proposals
    try:
        yield
    finally:
        model.backbone.forward, model.proposal_generator.rpn_head.forward = backbone, head


@contextmanager
def bfloat16(*steps: tuple[nn.Module, str]) -> Iterator[None]:
    """Run methods of modules in bfloat16 where torch's autocast does; what leaves them is float32 again."""

    def half(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                found = step(*arguments)
            return found.float() if isinstance(found, torch.Tensor) else found

        return run

    for module, name in steps:
        setattr(module, name, half(getattr(module, name)))
    try:
        yield
    finally:
        for module, name in steps:
            delattr(module, name)


def onnx_file(dense: Dense, folder: str) -> Path:
    """The dense part as an ONNX graph of dynamic height and width."""
    path = Path(folder) / "dense.onnx"
    torch.onnx.export(
        dense,
        (torch.zeros(1, 3, 256, 320),),
        str(path),
        input_names=["image"],
        dynamic_axes={"image": {2: "height", 3: "width"}},
        opset_version=17,
        dynamo=False,
    )
    return path


def onnx_runtime(path: Path, threads: int) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """The graph run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # It takes two pyramid levels of unknown size for equally large and would reuse the memory of one for the other.
    options.enable_mem_reuse = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(x) for x in session.run(None, {"image": image.contiguous().numpy()})]


def open_vino(path: Path, threads: int) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """The graph run by OpenVINO in the precision that it chooses for this CPU."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": threads})

    def run(image: torch.Tensor) -> list[torch.Tensor]:
        found = compiled([image.contiguous().numpy()])
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
    """Least processor and wall seconds of some runs, after one that does not count."""
    step()
    times = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(cpu for cpu, _ in times), min(wall for _, wall in times)


def engines(predictor: Predictor, threads: int, folder: str) -> Iterator[tuple[str, Any]]:
    """Names, each with the context in which the predictor uses that engine; eager float32 first."""
    model = predictor.model
    dense = Dense(model).eval()
    yield "eager, channels last (as loaded)", nullcontext()
    model.to(memory_format=torch.contiguous_format)
    yield "eager, contiguous", nullcontext()
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "openvino")):
        # Written from the plain form, before anything is replaced.
        path = onnx_file(dense, folder)
        for name, engine in (("ONNX Runtime", onnx_runtime), ("OpenVINO", open_vino)):
            yield f"exported, {name}", replaced(model, dense, engine(path, threads))
    else:
        print("ONNX Runtime and OpenVINO left out; to have them: pip install onnx onnxruntime openvino")
    model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(dense, torch.zeros(1, 3, 256, 320)))
    yield "exported, torch.jit.trace", replaced(model, dense, traced)
    steps = {
        "backbone": (model.backbone, "forward"),
        "mask head": (model.roi_heads.mask_head, "layers"),
        "box head": (model.roi_heads.box_head, "forward"),
    }
    for count in range(1, len(steps) + 1):
        yield f"bfloat16: {', '.join(list(steps)[:count])}", bfloat16(*list(steps.values())[:count])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    begin = time.process_time(), time.perf_counter()
    predictor = load_model(options.model, ["MODEL.DEVICE", "cpu"])
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
