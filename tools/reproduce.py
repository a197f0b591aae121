#!/usr/bin/env python3
"""Train a config, score it on parts it was not trained on, measure its speed, and write it all down.

    python tools/reproduce.py --config-file nuclei_R_101_v2_FPN --data data/dsb2018 --data data/mosaics \
        --weights resnet101v2_imagenet.npz -o runs/reference --minutes 9 --carry carried

For machines that are lent by the hour and have no network: --minutes ends the call in good order, and the same
command goes on from there. When the training is done, results.json holds the scores of each part of the first data set
(--score), with and without the flipped view, images/s of training and prediction, what it ran on, and how far its masks
are those of float32 on a CPU. Data sets may be packed (maskseg pack); without --data they are those of the config, and
DATASETS.TRAIN_SHARES says which share of the draws each gets. --iterations makes the schedule shorter in all its steps,
validation too.

--carry writes what is worth keeping in files of less than 16 MiB each: the results, log, curves and config of the
training, and the model in pieces (cat model.safetensors.* > model.safetensors; sha256sum -c model.sha256).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils.logger import setup_logger

from maskseg.core.files import write_whole
from maskseg.data.dataset import dataset_dicts, folder_and_part, load_record
from maskseg.evaluation.evaluator import evaluate_records
from maskseg.evaluation.matching import matches, overlaps
from maskseg.inference.api import build_predictor
from maskseg.inference.memory import keep_freed_memory
from maskseg.inference.predictor import Predictor
from maskseg.models.config import load_config, to_device
from maskseg.models.zoo import export, find_model
from maskseg.training.schedule import scale_schedule
from maskseg.training.trainer import Trainer

# A piece of the model, with room for what a transfer adds to 16 MiB.
PIECE = 15 << 20
# Images that are predicted once more on the CPU.
COMPARED = 8
# Of a training, what --carry takes along besides the model.
KEPT = ("results.json", "metrics.json", "config.yaml", "curves.png", "log.txt")


class TimeUp(Exception):
    """The minutes of this call are over; the checkpoint is written."""


class StopInTime(HookBase):
    """Saves and ends the training when its time is over, and counts the seconds it took."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.seconds = 0.0
        self.iterations = 0

    def after_step(self) -> None:
        """End the call if it is time."""
        self.iterations += 1
        if time.monotonic() > self.end and self.trainer.iter + 1 < self.trainer.max_iter:
            iteration = self.trainer.iter
            self.trainer.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            raise TimeUp

    def state_dict(self) -> dict[str, float]:
        """Kept in the checkpoint, so that the calls add up."""
        return {"seconds": self.seconds, "iterations": self.iterations}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Of the calls before."""
        self.seconds, self.iterations = state["seconds"], int(state["iterations"])


class TimedTrainer(Trainer):
    """A trainer that knows how long its steps take, without what its hooks do between them."""

    def run_step(self) -> None:
        """One iteration, timed."""
        begin = time.monotonic()
        super().run_step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.watch.seconds += time.monotonic() - begin


def speed(predictor: Predictor, records: list[dict[str, Any]], tta: str) -> float:
    """Images a second of prediction, files already read."""
    images = [load_record(record)[0] for record in records]
    predictor.segment(images[0], tta)
    begin = time.monotonic()
    for image in images:
        predictor.segment(image, tta)
    return len(images) / (time.monotonic() - begin)


def agreement(predictor: Predictor, other: Predictor, records: list[dict[str, Any]]) -> dict[str, int]:
    """How many nuclei of two predictors are the same, one view: by an IoU over 0.5, over 0.9, and to the pixel."""
    count = dict.fromkeys(("images", "nuclei", "nuclei_of_other", "iou_over_50", "iou_over_90", "images_equal"), 0)
    for record in records:
        image = load_record(record)[0]
        first, second = (one.segment(image, "none").to_labels() for one in (predictor, other))
        pairs = overlaps(first, second)
        count["images"] += 1
        count["nuclei"] += len(pairs.truth_labels)
        count["nuclei_of_other"] += len(pairs.pred_labels)
        count["iou_over_50"] += int(matches(pairs, 50).sum())
        count["iou_over_90"] += int(matches(pairs, 90).sum())
        count["images_equal"] += int(((first > 0) == (second > 0)).all())
    return count


def on_cpu(cfg: CfgNode, weights: Path) -> Predictor:
    """The same model on the CPU, in full precision."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.BFLOAT16 = "cpu", False
    return build_predictor(cfg, weights)


def data_sets(given: Sequence[str], cfg: CfgNode) -> tuple[tuple[str, ...], str]:
    """Data sets to train on, and the folder whose parts are scored: that of the first one."""
    names = tuple(given) or tuple(cfg.DATASETS.TRAIN)
    folder, part = folder_and_part(names[0])
    return (f"{folder}:{part or 'train'}", *names[1:]), folder


def carry(out: Path, model: Path, folder: Path) -> None:
    """Copy what is worth keeping to a folder, the model in pieces with the checksum of the whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (out / name).is_file():
            shutil.copyfile(out / name, folder / name)
    content = model.read_bytes()
    for number, start in enumerate(range(0, len(content), PIECE)):
        with write_whole(folder / f"{model.name}.{number:03d}") as file:
            file.write(content[start : start + PIECE])
    with write_whole(folder / "model.sha256", "w", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(content).hexdigest()}  {model.name}\n")


def parsed() -> argparse.Namespace:
    """What the command was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR[:PART]",
        help="to train on; may be given several times. The first has a split.csv: its train is used, its dev validates",
    )
    parser.add_argument("--weights", default="", help="ImageNet start")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--minutes", type=float, default=1e6, help="of training in this call")
    parser.add_argument("--iterations", type=int, help="of the whole training, in place of the config's")
    parser.add_argument("--score", default="dev,val_stratified,val_grouped", help="parts to score at the end")
    parser.add_argument("--carry", type=Path, help="folder for what is worth keeping, in files of less than 16 MiB")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE")
    return parser.parse_args()


def main() -> None:
    """Train, score, measure, write."""
    keep_freed_memory()
    arguments = parsed()
    cfg = load_config(arguments.config_file, arguments.opts)
    to_device(cfg)
    cfg.DATASETS.TRAIN, scored = data_sets(arguments.data, cfg)
    cfg.DATASETS.TEST = (f"{scored}:dev",)
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = arguments.weights or cfg.MODEL.WEIGHTS, arguments.out
    if arguments.iterations:
        cfg.SOLVER.EPOCHS = 0
        scale_schedule(cfg, arguments.iterations)
    cfg.freeze()
    out = Path(arguments.out)
    for name in ("fvcore", "maskseg"):
        setup_logger(str(out), name=name)
    trainer = TimedTrainer(cfg)
    # With what it found out about the data.
    cfg = trainer.cfg
    trainer.watch = StopInTime(arguments.minutes * 60)
    trainer.register_hooks([trainer.watch])
    trainer.resume_or_load(resume=True)
    # It says the end of the call with a traceback otherwise.
    logging.getLogger("detectron2.engine.train_loop").addFilter(lambda record: not record.exc_info)
    try:
        trainer.train()
    except TimeUp:
        print(f"time is up after {trainer.iter + 1} of {trainer.max_iter} iterations; the same command goes on")
        return

    watch = trainer.watch
    del trainer.optimizer
    predictor = build_predictor(cfg, find_model(out).weights)
    results: dict[str, Any] = {
        "config": arguments.config_file,
        "overrides": arguments.opts,
        "data": {"names": list(cfg.DATASETS.TRAIN), "images": len(trainer.records)},
        "iterations": cfg.SOLVER.MAX_ITER,
        "seed": cfg.SEED,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "parameters": sum(value.numel() for value in predictor.model.parameters()),
        "training_images_per_s": watch.iterations * cfg.SOLVER.IMS_PER_BATCH / max(watch.seconds, 1e-9),
        "training_hours": watch.seconds / 3600,
        "scores": {},
    }
    for part in arguments.score.split(","):
        records = dataset_dicts(f"{scored}:{part}")
        for tta in ("none", "flip"):
            summary = evaluate_records(predictor, records, tta)
            results["scores"][f"{part}, {'flip' if tta == 'flip' else 'one view'}"] = summary
            print(f"{part:16s} {'flip' if tta == 'flip' else 'one view':8s} {summary['dsb_score']:.4f}")
    sample = dataset_dicts(f"{scored}:dev")[:20]
    for tta in ("none", "flip"):
        results[f"prediction_images_per_s_{'flip' if tta == 'flip' else 'one_view'}"] = speed(predictor, sample, tta)
    results["against_float32_on_cpu"] = agreement(predictor, on_cpu(cfg, find_model(out).weights), sample[:COMPARED])
    with write_whole(out / "results.json", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    export(out, out / "model.safetensors")
    if arguments.carry:
        carry(out, out / "model.safetensors", arguments.carry)
    print(json.dumps({key: value for key, value in results.items() if key != "scores"}, indent=1))


if __name__ == "__main__":
    main()
