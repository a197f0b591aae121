"""``maskseg train``: the same as ``tools/train_net.py``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskseg.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from detectron2.config import CfgNode

    from maskseg.training.trainer import Trainer


def train(
    config_file: Annotated[
        str | None, typer.Option(help="YAML file, or the name of one in configs/ (nuclei_R_18_FPN).")
    ] = None,
    num_gpus: Annotated[int, typer.Option(min=0, help="Processes, one a GPU; 0 trains on the CPU.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUTPUT_DIR.")] = False,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Score the best of OUTPUT_DIR, or MODEL.WEIGHTS if given here.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune this model on --data; no config needed.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR[:PART]", help="The converted data set to fine-tune on.")
    ] = None,
    out: Annotated[str | None, typer.Option("-o", "--out", metavar="DIR", help="OUTPUT_DIR of a fine-tuning.")] = None,
    folds: Annotated[
        bool, typer.Option("--folds", help="A training for each fold of DATASETS.TRAIN, and their pooled score.")
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(min=16, help="Resize images so that their longer side has this many pixels.")
    ] = None,
    channel_rate: Annotated[
        float | None, typer.Option(min=0.0, help="Of a U-Net: 0.5, 1 or 2 times the channels of the config.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images, in place of iterations.")] = None,
    class_names: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The classes to tell apart; nuclei of others teach outlines and no class."),
    ] = None,
    merge_classes: Annotated[
        list[str] | None,
        typer.Option(metavar="NEW=OLD,OLD", help="Take classes for one, may be repeated; all: learn no classes."),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option("--predict", metavar="INPUT", help="Then predict these, with a submission: OUTPUT_DIR/predicted."),
    ] = None,
    opts: Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Config keys to change.")] = None,
) -> None:
    """Train a model, or score one, by its config.

    \b
    Examples:
      maskseg train DATASETS.TRAIN "('data/mine:train',)" DATASETS.TEST "('data/mine:dev',)"
      maskseg train --from nuclei --data data/mine -o runs/mine
      maskseg train --from nuclei --data data/conic --merge-classes immune=Lymphocyte,Plasma
      maskseg train --config-file nuclei_R_18_FPN --resume
      maskseg train --config-file nuclei_unet --image-size 256 --channel-rate 1 --epochs 40 --predict stage1_test.zip
      maskseg train --folds DATASETS.TRAIN "('data/mine',)" OUTPUT_DIR runs/folds
      torchrun --nproc-per-node 4 tools/train_net.py --config-file nuclei_R_101_FPN
      maskseg train --eval-only DATASETS.TEST "('data/dsb2018:val_stratified',)"
    """
    from maskseg.core.errors import InputError
    from maskseg.formats.classes import ClassRule
    from maskseg.models.config import load_config, to_device
    from maskseg.training.distributed import run
    from maskseg.training.finetune import default_folder, finetune_config

    if (start is None) != (data is None) or (start is None and out is not None):
        raise InputError("--from MODEL and --data DIR belong together, and -o with them")
    if start and config_file:
        raise InputError(f"--config-file {config_file}: a model that is fine-tuned brings its own config; leave it out")
    sizes = {"INPUT.LONG_SIDE": image_size, "INPUT.AUG.WINDOW": image_size, "INPUT.SHRINK": image_size and True}
    named: dict[str, Any] = {**sizes, "MODEL.UNET.CHANNEL_RATE": channel_rate}
    named["SOLVER.EPOCHS"] = epochs
    named["MODEL.CLASS_NAMES"] = class_names and repr(list(ClassRule.parse(class_names, None).names))
    named["DATASETS.MERGE_CLASSES"] = repr(tuple(merge_classes)) if merge_classes else None
    opts = [str(text) for pair in named.items() if pair[1] is not None for text in pair] + (opts or [])
    if start and data:
        cfg, choices = finetune_config(start, data, out or default_folder(start, data), opts)
        say("\n".join(choices))
    else:
        cfg = load_config(config_file or "nuclei_R_18_FPN", opts)
    classes = class_names or ",".join(merge_classes or ())
    _refuse_ignored(cfg, channel_rate, classes)
    if eval_only and (folds or images or resume):
        raise InputError("--eval-only scores a model that there is: leave out --folds, --predict and --resume")
    if num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
    to_device(cfg)
    if cfg.MODEL.DEVICE.startswith("mps"):
        raise InputError(
            "MODEL.DEVICE mps: models are trained on CUDA GPUs and on CPUs; on a Mac's GPU training was never checked, "
            "leave it out"
        )
    if cfg.MODEL.DEVICE == "cpu" and num_gpus > 1:
        raise InputError(f"--num-gpus {num_gpus}: no GPU is usable here; maskseg doctor says why")
    cfg.freeze()
    if eval_only:
        # A config's own MODEL.WEIGHTS is where training starts, not what it led to.
        _evaluate(cfg, cfg.MODEL.WEIGHTS if "MODEL.WEIGHTS" in opts[::2] else cfg.OUTPUT_DIR)
        return
    run(_train_folds if folds else train_here, num_gpus, (cfg, resume))
    if images:
        from maskseg.cli.predict import Device, predict

        device = Device.cpu if cfg.MODEL.DEVICE == "cpu" else Device.auto
        predict(images, Path(cfg.OUTPUT_DIR) / "predicted", cfg.OUTPUT_DIR, device=device)


def _refuse_ignored(cfg: CfgNode, channel_rate: float | None, classes: str) -> None:
    """Refuse options that a network would not follow, in place of ignoring them."""
    from maskseg.core.errors import InputError
    from maskseg.models import tasks
    from maskseg.projects.unet.network import UNet

    name, network = cfg.MODEL.META_ARCHITECTURE, tasks.part(cfg, "network")
    if channel_rate is not None and not issubclass(network, UNet):
        raise InputError(f"--channel-rate {channel_rate}: the network {name} is no U-Net; leave it out")
    if classes and name != "GeneralizedRCNN":
        raise InputError(
            f"--class-names and --merge-classes {classes}: the network {name} tells no classes apart; leave them out"
        )


def _log_to(folder: str) -> None:
    import logging

    from detectron2.utils import comm
    from detectron2.utils.logger import setup_logger

    from maskseg.core.errors import InputError

    # Another training of this process, such as that of the fold before, wrote to another folder.
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "maskseg"):
        logging.getLogger(name).handlers.clear()
        setup_logger(folder, distributed_rank=comm.get_rank(), name=name)
    # Detectron2's loop logs every exception with its traceback; bad input is one line, which `main` prints.
    logging.getLogger("detectron2.engine.train_loop").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], InputError))
    )


def _train_folds(cfg: CfgNode, resume: bool) -> None:
    """Train on each fold in turn, in this process and those beside it."""
    from detectron2.utils import comm

    from maskseg.models import tasks
    from maskseg.training.folds import fold_configs, pooled_scores

    configs = fold_configs(cfg)
    for one in configs:
        train_here(one, resume)
    if comm.is_main_process():
        scores = pooled_scores(configs, Path(cfg.OUTPUT_DIR))
        pooled = scores.pop("pooled")
        evaluator = tasks.part(cfg, "evaluator")()
        say("\n".join(f"{name}: {evaluator.title} {score:.4f}" for name, score in scores.items()))
        say(f"all folds, each image by the training that did not see it\n{evaluator.table(pooled)}")


def train_here(cfg: CfgNode, resume: bool, make: Callable[[CfgNode], Trainer] | None = None) -> None:
    """Train in this process; Detectron2's `launch` starts one a GPU.

    `make` makes another trainer than the usual one.
    """
    from detectron2.utils import comm

    from maskseg.core.errors import InputError
    from maskseg.core.locks import alone_in
    from maskseg.inference.memory import keep_freed_memory
    from maskseg.training.trainer import Trainer

    keep_freed_memory()
    out = Path(cfg.OUTPUT_DIR)
    if not resume and (out / "last_checkpoint").exists():
        raise InputError(f"{out}: holds a training already; add --resume, or choose another OUTPUT_DIR")
    with alone_in(out) if comm.is_main_process() else nullcontext():
        _log_to(cfg.OUTPUT_DIR)
        trainer = (make or Trainer)(cfg)
        trainer.resume_or_load(resume)
        trainer.train()


def _evaluate(cfg: CfgNode, model: str) -> None:
    """Score a model on each of DATASETS.TEST, under the config at hand."""
    import json

    from maskseg.core.errors import InputError
    from maskseg.core.files import write_whole
    from maskseg.evaluation.evaluator import evaluate_records
    from maskseg.inference.api import build_predictor
    from maskseg.models import tasks
    from maskseg.models.config import set_classes
    from maskseg.models.zoo import find_model

    trained = find_model(model)
    weights = trained.weights
    ours, theirs = cfg.MODEL.ANCHOR_GENERATOR, trained.cfg.MODEL.ANCHOR_GENERATOR
    if ours != theirs:
        # Of sizes the weights themselves show nothing, and the boxes would be of another size.
        raise InputError(
            f"{weights}: trained with anchors of {theirs.SIZES}, ratios {theirs.ASPECT_RATIOS}, and the config has "
            f"{ours.SIZES}, {ours.ASPECT_RATIOS}; set MODEL.ANCHOR_GENERATOR as it was"
        )
    for key in ("SIZE", "LONG_SIDE", "SHRINK"):
        # Other networks than Mask R-CNN know no other size than that which they were trained on.
        if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN" and cfg.INPUT[key] != trained.cfg.INPUT[key]:
            raise InputError(
                f"{weights}: trained with INPUT.{key} {trained.cfg.INPUT[key]}, and the config has {cfg.INPUT[key]}; "
                "set it as it was"
            )
    if trained.cfg.MODEL.CLASS_NAMES and not cfg.MODEL.CLASS_NAMES:
        # Whatever the config says otherwise: how many classes there are is a matter of the weights.
        cfg = cfg.clone()
        cfg.defrost()
        set_classes(cfg, trained.cfg.MODEL.CLASS_NAMES)
        cfg.freeze()
    predictor = build_predictor(cfg, weights)
    for name in cfg.DATASETS.TEST:
        evaluator = tasks.part(cfg, "evaluator")()
        summary = evaluate_records(predictor, tasks.part(cfg, "records")((name,)), evaluator=evaluator)
        say(f"{weights} on {name}\n{evaluator.table(summary)}")
        path = Path(cfg.OUTPUT_DIR) / f"evaluation_{Path(name).name.replace(':', '_')}.json"
        with write_whole(path, "w", encoding="utf-8") as file:
            json.dump({"weights": weights.name, "dataset": name, **summary}, file, indent=1)
