#!/usr/bin/env python3
"""Train for so many minutes of the clock, on a machine that is lent for a while: the learning rate follows the time.

    python tools/train_timed.py --minutes 8 --config-file nuclei_R_101_v2_windows [--resume] [KEY VALUE ...]

How many iterations a machine makes in that time need not be known before: the rate rises over the first twentieth and
falls by a cosine to nothing when the time is over, in whatever number of iterations that is. The time counts from the
first iteration on, so that reading the data costs none of it. SOLVER.MAX_ITER, STEPS and EVAL_PERIOD mean nothing here.
Weights after each quarter of the time are kept in OUTPUT_DIR as quarter_1.pth to quarter_4.pth, by which the score can
be drawn over the training, and model_final.pth is the last of them.

A training that was cut off goes on with --resume, by its last checkpoint and for the minutes that were left.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks

from maskseg.cli.train import train_here
from maskseg.models.checkpoint import write_checkpoint
from maskseg.models.config import load_config, to_device
from maskseg.training.trainer import FINAL, Trainer

WARMUP, LAST = 0.05, 0.01
QUARTERS = 4


class OutOfTime(BaseException):
    """The minutes are over."""


class Clock(HookBase):
    """Sets the learning rate by the share of the time that has passed, and ends the training when all has.

    Parameters
    ----------
    seconds : float
        Of the whole training.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.spent, self.begin = 0.0, math.nan

    def share(self) -> float:
        """Of the time, what has passed, in [0, 1]."""
        now = 0.0 if math.isnan(self.begin) else time.monotonic() - self.begin
        return min((self.spent + now) / self.seconds, 1.0)

    def before_step(self) -> None:
        """The learning rate of the step."""
        share = self.share()
        factor = LAST + (1 - LAST) * (1 + math.cos(math.pi * share)) / 2
        for group in self.trainer.optimizer.param_groups:
            # As the schedule of the trainer found it: some layers may have a rate of their own.
            group["lr"] = group["initial_lr"] * min(factor, max(share, 0.01) / WARMUP)

    def after_step(self) -> None:
        """Keep the weights at each quarter; end after the last."""
        before = self.share()
        if math.isnan(self.begin):
            self.begin = time.monotonic()
        self.trainer.storage.put_scalar("lr", self.trainer.optimizer.param_groups[0]["lr"], smoothing_hint=False)
        out = Path(self.trainer.cfg.OUTPUT_DIR)
        quarter = int(before * QUARTERS)
        kept = out / f"quarter_{quarter}.pth"
        if quarter and not kept.exists():
            state = {"model": self.trainer.plain_model.state_dict(), "iteration": self.trainer.iter}
            write_checkpoint(kept, state)
        if quarter == QUARTERS:
            raise OutOfTime

    def state_dict(self) -> dict[str, Any]:
        """The time spent, kept in the checkpoint."""
        return {"spent": self.share() * self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the time that is left."""
        self.spent = state["spent"]


class ClockTrainer(Trainer):
    """The trainer whose schedule is the clock's.

    Parameters
    ----------
    cfg : CfgNode
    minutes : float
    """

    def __init__(self, cfg: CfgNode, minutes: float) -> None:
        self.minutes = minutes
        super().__init__(cfg)

    def build_hooks(self) -> list[HookBase | None]:
        """Those of the trainer, with the clock in the place of the schedule."""
        clock = Clock(60 * self.minutes)
        return [clock if isinstance(hook, hooks.LRScheduler) else hook for hook in super().build_hooks()]

    def train(self) -> None:
        """Train until the time is over, and say how fast."""
        begin, first = time.monotonic(), self.start_iter
        with contextlib.suppress(OutOfTime):
            super().train()
        out, size = Path(self.cfg.OUTPUT_DIR), self.cfg.SOLVER.IMS_PER_BATCH
        shutil.copy(out / f"quarter_{QUARTERS}.pth", out / f"{FINAL}.pth")
        count, seconds = self.iter + 1 - first, time.monotonic() - begin
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
        print(
            f"{out}: {count} iterations of {size} windows of {self.cfg.INPUT.AUG.WINDOW} pixels in {seconds:.0f} s, "
            f"{count * size / seconds:.1f} windows/s, {memory:.1f} GiB of GPU memory"
        )


def timed(cfg: CfgNode) -> CfgNode:
    """The config without an end of its own."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = 10_000_000
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.TEST.EVAL_PERIOD = 0
    cfg.DATASETS.TEST = ()
    cfg.freeze()
    return cfg


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE")
    options = parser.parse_args()
    cfg = load_config(options.config_file, options.opts)
    to_device(cfg)
    train_here(timed(cfg), options.resume, partial(ClockTrainer, minutes=options.minutes))


if __name__ == "__main__":
    main()
