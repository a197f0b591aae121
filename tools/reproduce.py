#!/usr/bin/env python3
"""Train a config, score it on parts it was not trained on, measure its speed, and write it all down.

    python tools/reproduce.py --config-file nuclei_R_101_v2_FPN --data data/dsb2018 \
        --weights resnet101v2_imagenet.npz -o runs/reference --minutes 9

For machines that are lent by the hour and have no network: --minutes ends the call in good order, and the same
command goes on from there. When the training is done, results.json holds the scores of each part of the data set
(--score), with and without the flipped view, images/s of training and prediction, and what it ran on. The data set
may be packed (maskseg pack). --iterations makes the schedule shorter in all its steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import torch
from detectron2.engine import HookBase
from detectron2.utils.logger import setup_logger

from maskseg.core.files import write_whole
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.evaluator import evaluate_records
from maskseg.inference.api import build_predictor
from maskseg.inference.predictor import Predictor
from maskseg.models.config import load_config, to_device
from maskseg.models.zoo import export, find_model
from maskseg.training.schedule import scale_schedule
from maskseg.training.trainer import Trainer


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


def parsed() -> argparse.Namespace:
    """The arguments of the call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--data", required=True, help="data set folder with a split.csv")
    parser.add_argument("--weights", default="", help="ImageNet start")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--minutes", type=float, default=1e6, help="of training in this call")
    parser.add_argument("--iterations", type=int, help="of the whole training, in place of the config's")
    parser.add_argument("--score", default="dev,val_stratified,val_grouped", help="parts to score at the end")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE")
    return parser.parse_args()


def main() -> None:
    """Train, score, measure, write."""
    arguments = parsed()
    cfg = load_config(arguments.config_file, arguments.opts)
    to_device(cfg)
    cfg.DATASETS.TRAIN = (f"{arguments.data}:train",)
    cfg.DATASETS.TEST = (f"{arguments.data}:dev",)
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
        records = dataset_dicts(f"{arguments.data}:{part}")
        for tta in ("none", "flip"):
            summary = evaluate_records(predictor, records, tta)
            results["scores"][f"{part}, {'flip' if tta == 'flip' else 'one view'}"] = summary
            print(f"{part:16s} {'flip' if tta == 'flip' else 'one view':8s} {summary['dsb_score']:.4f}")
    sample = dataset_dicts(f"{arguments.data}:dev")[:20]
    for tta in ("none", "flip"):
        results[f"prediction_images_per_s_{'flip' if tta == 'flip' else 'one_view'}"] = speed(predictor, sample, tta)
    with write_whole(out / "results.json", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    export(out, out / "model.safetensors")
    print(json.dumps({key: value for key, value in results.items() if key != "scores"}, indent=1))


if __name__ == "__main__":
    main()
