"""The training loop: Detectron2's hooks around steps whose every random choice follows from the seed."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, hooks
from detectron2.engine.train_loop import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch.utils.data import DataLoader

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.data.classes import assign_category_ids, chosen_classes, rename_classes
from maskseg.data.dataset import dataset_dicts
from maskseg.formats.classes import ClassRule
from maskseg.models import tasks
from maskseg.models.checkpoint import Checkpointer, last_checkpoint
from maskseg.models.config import set_classes
from maskseg.models.pooling import pool_by_rows
from maskseg.models.precision import computes_in_bfloat16
from maskseg.training.curves import Log
from maskseg.training.diameter import nucleus_diameter, pixel_size
from maskseg.training.distributed import parallel
from maskseg.training.hooks import KeepBest, ProgressBar, StopOnSignal, Validation
from maskseg.training.sampler import EpochSampler, modality_weights, with_shares
from maskseg.training.schedule import fit_schedule

logger = logging.getLogger(__name__)

# What Detectron2 calls the last checkpoint.
FINAL = "model_final"
_OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def load_records(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Records of all data sets named, each ``DIR`` or ``DIR:part``; ``dataset`` is the number of theirs.

    Raises
    ------
    InputError
        If a data set or an image file is missing, or they hold no nucleus at all.
    """
    # Sorted, so that the draws follow from the seed whatever order a converter wrote the images in.
    records = [
        {**record, "dataset": number}
        for number, name in enumerate(names)
        for record in sorted(dataset_dicts(name), key=lambda record: record["image_id"])
    ]
    if not any(record["annotations"] for record in records):
        raise InputError(
            f"{', '.join(names) or 'DATASETS.TRAIN'}: no nucleus in {len(records)} images; name a converted data set"
        )
    missing = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such image ({len(missing)} of {len(records)} missing); convert again")
    return records


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer that SOLVER.OPTIMIZER names, with Detectron2's parameter groups and gradient clipping."""
    solver = cfg.SOLVER
    rate = solver.BASE_LR * solver.LR_SHARE
    parameters = get_default_optimizer_params(
        model,
        base_lr=rate,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    kind = _OPTIMIZERS[solver.OPTIMIZER]
    # Detectron2 clips each tensor by itself; the norm of all together is clipped by `Trainer.run_step`.
    if solver.CLIP_GRADIENTS.CLIP_TYPE != "full_model":
        kind = maybe_add_gradient_clipping(cfg, kind)
    extra = {"momentum": solver.MOMENTUM} if solver.OPTIMIZER == "SGD" else {"amsgrad": solver.AMSGRAD}
    return kind(parameters, lr=rate, **extra)


def _leave_signals_alone(training: Any, _: int) -> None:
    """In a worker: what ends a training goes to all processes, and the main one still wants batches until it ends.

    Parameters
    ----------
    training : shared number
        0 when the main process has ended its loop: SIGTERM is then from the main process, which ends its workers by it.
    """

    def terminate(number: int, _: Any) -> None:
        if not training.value:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)


def _as_they_are(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch


_NO_NUMBERS = "the network gives boxes or scores that are no numbers"


def _diverged(error: Exception) -> bool:
    """Whether an error is Detectron2's for boxes or scores that are no numbers."""
    return isinstance(error, FloatingPointError) or "infinite or NaN" in str(error)


def _fitted(cfg: CfgNode, records: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> CfgNode:
    """A copy of the config with what follows from the data; the records get the numbers of their classes."""
    cfg = cfg.clone()
    cfg.defrost()
    for line in fit_schedule(cfg, len(records)):
        logger.warning(line)
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        _tell_apart(cfg, records, validation)
    if cfg.MODEL.MASK_ON:
        cfg.INPUT.NUCLEUS_DIAMETER = nucleus_diameter(records, cfg)
        cfg.INPUT.MPP = pixel_size(records, cfg)
    cfg.freeze()
    return cfg


def _tell_apart(cfg: CfgNode, records: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> None:
    """Give the network the classes of the data, in place."""
    rule = ClassRule.parse(None, cfg.DATASETS.MERGE_CLASSES)
    rename_classes(records, rule)
    rename_classes(validation, rule, strict=False)
    names = chosen_classes(records, cfg.MODEL.CLASS_NAMES)
    set_classes(cfg, names)
    unknown = assign_category_ids(records, names)
    assign_category_ids(validation, names)
    if len(names) > 1:
        counts = Counter(item["class"] for record in records for item in record["annotations"])
        logger.info("%d classes: %s", len(names), ", ".join(f"{name} ({counts[name]})" for name in names))
    if unknown:
        logger.warning("%d nuclei of none of these classes teach outlines, and no class", unknown)


class Trainer(TrainerBase):
    """Train the network of a config.

    Every step seeds torch from the seed and the iteration, and every sample from the seed and its position, so that
    a resumed run repeats the unbroken one.

    Parameters
    ----------
    cfg : CfgNode
        DATASETS.TRAIN and DATASETS.TEST name data sets as ``DIR`` or ``DIR:part``.

    Attributes
    ----------
    cfg : CfgNode
        A copy with what follows from the data: INPUT.NUCLEUS_DIAMETER, INPUT.MPP, and the schedule that `fit_schedule`
        makes.
        `train` writes it to ``OUTPUT_DIR/config.yaml``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.seed = max(cfg.SEED, 0)
        torch.manual_seed(self.seed)
        load_records = tasks.part(cfg, "records")
        self.records = load_records(cfg.DATASETS.TRAIN)
        self.validation_records = load_records(cfg.DATASETS.TEST) if cfg.DATASETS.TEST else []
        self.cfg = cfg = _fitted(cfg, self.records, self.validation_records)
        weights = modality_weights(
            [record.get("modality", "") for record in self.records], cfg.DATALOADER.MODALITY_BALANCE
        )
        if cfg.DATASETS.TRAIN_SHARES:
            weights = with_shares(
                weights, [record.get("dataset", 0) for record in self.records], cfg.DATASETS.TRAIN_SHARES
            )
        self.sampler = EpochSampler(
            weights,
            self.seed,
            comm.get_rank(),
            comm.get_world_size(),
            cfg.DATALOADER.EPOCH_SHARE,
        )
        if cfg.SOLVER.IMS_PER_BATCH % comm.get_world_size():
            raise InputError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}: not divisible by {comm.get_world_size()} processes"
            )
        self.plain_model = build_model(cfg).to(memory_format=torch.channels_last)
        pool_by_rows(self.plain_model)
        self.model = parallel(self.plain_model)
        self.mixed = cfg.SOLVER.AMP.ENABLED and computes_in_bfloat16(self.plain_model.device)
        if cfg.SOLVER.AMP.ENABLED and not self.mixed:
            logger.info("trains in float32: this CPU has no instructions for bfloat16")
        self.optimizer = build_optimizer(cfg, self.model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.checkpointer = Checkpointer(
            self.model,
            cfg.OUTPUT_DIR,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            trainer=weakref.proxy(self),
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self._batches: Iterator[list[dict[str, Any]]] | None = None
        self._training = multiprocessing.RawValue("b", 0)
        self._log = Log(Path(cfg.OUTPUT_DIR), cfg.TEST.EVAL_PERIOD)
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Schedule, checkpoints, validation, logs."""
        cfg, main = self.cfg, comm.is_main_process()
        validation = Validation(cfg, self.plain_model, self.validation_records) if self.validation_records else None
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(self.optimizer, self.scheduler),
            validation,
            KeepBest(self.checkpointer, validation) if validation and main else None,
            # Before the checkpoint, from which no iteration is done again that was not written. It comes before the
            # bar, too: its line is the last on the screen.
            self._log if main else None,
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD) if main else None,
            # Processes that train together would not end at the same iteration.
            StopOnSignal(self.checkpointer) if comm.get_world_size() == 1 else None,
            ProgressBar() if main else None,
        ]

    def resume_or_load(self, resume: bool) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR if asked and there is one, else start from MODEL.WEIGHTS."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def train(self) -> None:
        """Train from the start iteration to SOLVER.MAX_ITER; where that is reached already, say so and do nothing."""
        if self.start_iter >= self.max_iter:
            logger.warning(
                "%s: trained to its end already, %d of %d iterations; to go on, give a greater SOLVER.MAX_ITER",
                self.cfg.OUTPUT_DIR,
                self.start_iter,
                self.max_iter,
            )
            if comm.is_main_process():
                # It may have been killed after the last checkpoint, or before that got its last name.
                self._log.tidy()
                if self.start_iter == self.max_iter and last_checkpoint(Path(self.cfg.OUTPUT_DIR)).stem != FINAL:
                    self.checkpointer.save(FINAL, iteration=self.iter)
            return
        # Not before: a config that does not fit the checkpoint must not take the place of the one that does.
        if comm.is_main_process():
            with write_whole(Path(self.cfg.OUTPUT_DIR) / "config.yaml", "w", encoding="utf-8") as file:
                file.write(self.cfg.dump())
        self._training.value = 1
        try:
            super().train(self.start_iter, self.max_iter)
        finally:
            self._training.value = 0

    def after_step(self) -> None:
        """Call the hooks, of which validation may find that the training has diverged."""
        try:
            super().after_step()
        except (FloatingPointError, AssertionError) as error:
            if not _diverged(error):
                raise
            raise self._not_finite(_NO_NUMBERS) from error

    def _not_finite(self, what: str, batch: Sequence[Mapping[str, Any]] = ()) -> InputError:
        images = f"; images {', '.join(sample['image_id'] for sample in batch)}" if batch else ""
        rate = self.optimizer.param_groups[0]["lr"]
        return InputError(
            f"{what} at iteration {self.iter}{images}; the training has diverged at a learning rate of {rate:.2g}: "
            "lower SOLVER.BASE_LR"
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of the hooks, the iteration, and what it was trained on."""
        return {**super().state_dict(), "data": self._data()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; say so where the images are others than those that it was trained on."""
        super().load_state_dict(state_dict)
        before, now = state_dict.get("data"), self._data()
        if before and before["fingerprint"] != now["fingerprint"]:
            logger.warning(
                "%s: begun on other data, %s (%d images); goes on with %s (%d images)",
                self.cfg.OUTPUT_DIR,
                ", ".join(before["names"]),
                before["images"],
                ", ".join(now["names"]),
                now["images"],
            )

    def _data(self) -> dict[str, Any]:
        """Names of the data sets, number of their images, and a number that other images or labels would change."""
        fingerprint = 0
        for record in self.records:
            # What is in a record whatever folder the data set lies in.
            labels = [item["segmentation"] for item in record.get("annotations", ())] or record.get("labels")
            parts = (record.get("dataset"), record["image_id"], record["height"], record["width"], labels)
            fingerprint = zlib.crc32(repr(parts).encode(), fingerprint)
        names = list(self.cfg.DATASETS.TRAIN)
        return {"names": names, "images": len(self.records), "fingerprint": fingerprint}

    def batches(self, start: int) -> Iterator[list[dict[str, Any]]]:
        """Batches from iteration `start` on."""
        cfg = self.cfg
        self.sampler.start = start * cfg.SOLVER.IMS_PER_BATCH
        workers = cfg.DATALOADER.NUM_WORKERS
        loader = DataLoader(
            tasks.part(cfg, "samples")(cfg, self.records),
            batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
            sampler=self.sampler,
            num_workers=workers,
            collate_fn=_as_they_are,
            persistent_workers=workers > 0,
            worker_init_fn=partial(_leave_signals_alone, self._training),
        )
        return iter(loader)

    def run_step(self) -> None:
        """One iteration."""
        if self._batches is None:
            self._batches = self.batches(self.iter)
        begin = time.perf_counter()
        try:
            batch = next(self._batches)
        except InputError as error:
            # From a worker it comes with the worker's traceback; the last line is the message.
            raise InputError(str(error).strip().splitlines()[-1].rpartition("InputError: ")[2]) from None
        waited = time.perf_counter() - begin
        # Proposals and dropout are drawn at random; from here on that too follows from seed and iteration.
        torch.manual_seed((self.seed << 32) + (self.iter << 8) + comm.get_rank())
        with torch.autocast(self.plain_model.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            try:
                losses = self.model(batch)
            except (FloatingPointError, AssertionError) as error:
                if not _diverged(error):
                    raise
                raise self._not_finite(_NO_NUMBERS, batch) from error
            total = sum(losses.values())
        if not torch.isfinite(total):
            raise self._not_finite(f"the loss is {total.item()}", batch)
        self.optimizer.zero_grad()
        total.backward()
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED and clip.CLIP_TYPE == "full_model":
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip.CLIP_VALUE)
        SimpleTrainer.write_metrics(losses, waited)
        self.optimizer.step()
        if self.iter + 1 == self.max_iter and not all(value.isfinite().all() for value in self.model.parameters()):
            # No further loss would tell.
            raise self._not_finite("the weights are no numbers", batch)
