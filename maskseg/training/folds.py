"""Cross-validation: a training for each fold, and the score of every image by the training that did not see it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.data.dataset import folder_and_part, load_coco
from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.inference.api import build_predictor
from maskseg.models import tasks
from maskseg.models.zoo import find_model

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def fold_configs(cfg: CfgNode) -> list[CfgNode]:
    """A config for each fold of DATASETS.TRAIN, one data set folder whose split has the parts fold1, fold2 ...

    Each trains on all parts but its fold, in a folder of that name below OUTPUT_DIR, to the end of the schedule:
    were the best weights chosen by the fold, its score would be too good.

    Raises
    ------
    InputError
        If there is not one data set, or it has no folds.
    """
    if len(cfg.DATASETS.TRAIN) != 1 or folder_and_part(cfg.DATASETS.TRAIN[0])[1]:
        raise InputError(f"DATASETS.TRAIN {cfg.DATASETS.TRAIN}: folds are made of one data set folder; name it alone")
    folder = cfg.DATASETS.TRAIN[0]
    split = load_coco(folder).path.parent / SPLIT_FILE
    parts = {row["part"] for row in read_split(split).values()} if split.is_file() else set()
    folds = sorted((part for part in parts if re.fullmatch(r"fold\d+", part)), key=lambda part: int(part[4:]))
    if len(folds) < 2:
        raise InputError(f"{split}: has no folds; run: maskseg split {folder} --folds 5")
    configs = []
    for fold in folds:
        one = cfg.clone()
        one.defrost()
        one.DATASETS.TRAIN, one.DATASETS.TEST = (f"{folder}:-{fold}",), ()
        one.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / fold)
        one.freeze()
        configs.append(one)
    return configs


def held_out(cfg: CfgNode) -> str:
    """The fold, as ``DIR:PART``, that a config of `fold_configs` does not train on."""
    folder, part = folder_and_part(cfg.DATASETS.TRAIN[0])
    return f"{folder}:{part.removeprefix('-')}"


def pooled_scores(configs: list[CfgNode], out: Path) -> dict[str, Any]:
    """Score each fold by its training, and write the scores of all images together to ``folds.json``.

    Parameters
    ----------
    configs : list of CfgNode
        From `fold_configs`, trained.
    out : Path

    Returns
    -------
    dict
        ``pooled``, and a score for each fold by its name.
    """
    pooled = tasks.part(configs[0], "evaluator")()
    scores: dict[str, Any] = {}
    for cfg in configs:
        predictor = build_predictor(cfg, find_model(cfg.OUTPUT_DIR).weights)
        alone = type(pooled)()
        for record in tasks.part(cfg, "records")((held_out(cfg),)):
            alone.measure(record, predictor)
        pooled.join(alone)
        scores[Path(cfg.OUTPUT_DIR).name] = alone.summary()[alone.score]
    scores["pooled"] = pooled.summary()
    with write_whole(out / "folds.json", "w", encoding="utf-8") as file:
        json.dump(scores, file, indent=1)
    return scores
