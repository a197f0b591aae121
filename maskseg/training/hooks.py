"""What is watched during training: progress, the loss and the score on the validation set, the best weights."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from maskseg.evaluation.evaluator import evaluate_records
from maskseg.models import tasks
from maskseg.models.checkpoint import Checkpointer, write_checkpoint

logger = logging.getLogger(__name__)


class _Lines(io.TextIOBase):
    """Where a bar writes that nobody watches: each state is a line of its own, for log files."""

    def __init__(self) -> None:
        self.last = ""

    def write(self, text: str) -> int:
        """Write a state of the bar; nothing for the same one again."""
        line = text.strip()
        if line and line != self.last:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
            self.last = line
        return len(text)


class ProgressBar(HookBase):
    """A tqdm bar with the smoothed loss and the learning rate; in a log file a line every half minute."""

    def before_train(self) -> None:
        """Open the bar."""
        common: dict[str, Any] = {"desc": "train", "unit": "it", "smoothing": 0.05}
        common |= {"total": self.trainer.max_iter, "initial": self.trainer.start_iter}
        if sys.stderr.isatty():
            self.bar = tqdm(**common, dynamic_ncols=True, mininterval=0.2)
        else:
            shown = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
            self.bar = tqdm(**common, file=_Lines(), mininterval=30, bar_format=shown)

    def after_step(self) -> None:
        """Move the bar."""
        storage = self.trainer.storage
        if self.trainer.iter % 10 == 0:
            latest = storage.histories()
            self.bar.set_postfix(
                loss=f"{latest['total_loss'].median(20):.3f}",
                lr=f"{latest['lr'].latest():.1e}" if "lr" in latest else "",
                refresh=False,
            )
        self.bar.update()

    def after_train(self) -> None:
        """Close the bar."""
        self.bar.close()


class Validation(HookBase):
    """Loss and score over the whole validation set, every TEST.EVAL_PERIOD iterations and at the end.

    The loss is taken without augmentation and with the same random proposals each time, so that its curve shows the
    weights and nothing else. The score is taken of one view.

    Attributes
    ----------
    latest : dict or None
        The summary of the last evaluation.
    """

    def __init__(self, cfg: CfgNode, model: torch.nn.Module, records: list[dict[str, Any]]) -> None:
        self.cfg = cfg
        self.model = model
        self.records = records
        self.latest: dict[str, Any] | None = None

    def after_step(self) -> None:
        """Evaluate when it is due."""
        done = self.trainer.iter + 1
        self.latest = None
        period = self.cfg.TEST.EVAL_PERIOD
        if done == self.trainer.max_iter or (period > 0 and done % period == 0):
            self.run()

    def run(self) -> None:
        """Evaluate now and put the figures into the event storage."""
        # In full precision also where training is not, as prediction is.
        losses = validation_losses(self.cfg, self.model, self.records) if comm.is_main_process() else {}
        self.model.eval()
        evaluator = tasks.part(self.cfg, "evaluator")()
        try:
            predictor = tasks.part(self.cfg, "predictor")(self.cfg, self.model)
            summary = evaluate_records(predictor, self.records, tta="none", shared=True, evaluator=evaluator)
        finally:
            self.model.train()
        if comm.is_main_process():
            self.latest = {**summary, "validation_loss": losses["total_loss"]}
            evaluator.keep(self.model, summary)
            figures = {f"validation/{key}": value for key, value in losses.items()}
            figures[f"validation/{evaluator.score}"] = summary[evaluator.score]
            self.trainer.storage.put_scalars(**figures, smoothing_hint=False)
            title = f"iteration {self.trainer.iter + 1}: validation loss {losses['total_loss']:.4f}"
            tqdm.write(f"{title}\n{evaluator.table(summary)}")
        comm.synchronize()


@torch.no_grad()
def validation_losses(cfg: CfgNode, model: torch.nn.Module, records: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of each loss over all records, image by image, and their sum as ``total_loss``."""
    sums: dict[str, float] = {}
    validation_sample = tasks.part(cfg, "validation_sample")
    # One image says little of the means that a batch is normalised by, and must not change those that are kept.
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    state = torch.random.get_rng_state()
    # The heads write accuracies to the storage while they compute losses; those of validation go nowhere.
    with EventStorage():
        for number, record in enumerate(records):
            torch.manual_seed(number)
            for key, value in model([validation_sample(cfg, record)]).items():
                sums[key] = sums.get(key, 0.0) + float(value)
    torch.random.set_rng_state(state)
    means = {key: value / len(records) for key, value in sums.items()}
    means["total_loss"] = sum(means.values())
    return means


class KeepBest(HookBase):
    """Keeps the weights of the best validation score, or of the least loss, in ``model_best.pth``."""

    def __init__(self, checkpointer: Checkpointer, validation: Validation) -> None:
        self.checkpointer = checkpointer
        self.validation = validation
        self.by_loss = validation.cfg.TEST.KEEP_BEST == "loss"
        self.score = tasks.part(validation.cfg, "evaluator").score
        self.best = -math.inf

    def after_step(self) -> None:
        """Keep the weights if they are the best so far."""
        summary = self.validation.latest
        if summary is None:
            return
        value = -summary["validation_loss"] if self.by_loss else summary[self.score]
        if value <= self.best:
            return
        self.best = value
        state = self.validation.model.state_dict()
        write_checkpoint(
            Path(self.checkpointer.save_dir) / "model_best.pth",
            {"model": state, self.score: summary[self.score], "iteration": self.trainer.iter},
        )

    def state_dict(self) -> dict[str, float]:
        """The best score so far, kept in the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up the best score of a resumed training."""
        self.best = state["best"]


class StopOnSignal(HookBase):
    """Ctrl-C, or SIGTERM, by which clusters take a machine back, ends a training with a checkpoint.

    The iteration at hand is finished first. A second signal ends it at once, as without this hook.
    """

    def __init__(self, checkpointer: Checkpointer) -> None:
        self.checkpointer = checkpointer
        self.received: int | None = None
        self.former: dict[int, Any] = {}

    def before_train(self) -> None:
        """Listen. Python lets only the main thread do so, and a process in the background may have to ignore Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self.former[number] = signal.signal(number, self.receive)

    def receive(self, number: int, _: FrameType | None) -> None:
        """Take note of a signal."""
        self.received = number
        self.after_train()
        # Not print, which a signal may have come in the middle of.
        os.write(2, b"\nending after this iteration, with a checkpoint; once more ends at once\n")

    def after_step(self) -> None:
        """End the training if a signal came."""
        iteration = self.trainer.iter
        if self.received is None or iteration + 1 == self.trainer.max_iter:
            return
        name = f"model_{iteration:07d}"
        self.checkpointer.save(name, iteration=iteration)
        tqdm.write(
            f"ended after {iteration + 1} of {self.trainer.max_iter} iterations, all of them in "
            f"{Path(self.checkpointer.save_dir) / name}.pth; --resume goes on",
            file=sys.stderr,
        )
        raise KeyboardInterrupt if self.received == signal.SIGINT else SystemExit(128 + self.received)

    def after_train(self) -> None:
        """Listen no more."""
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}
