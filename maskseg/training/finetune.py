"""Fine-tuning without a config file: the schedule follows from how much there is to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, folder_and_part, load_coco
from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.models.zoo import find_model

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Every nucleus is to be seen about this often, each time magnified, turned and shifted otherwise.
VIEWS_OF_A_NUCLEUS = 12
# Fewer change nothing that one could measure, more only learn a small data set by heart.
FEWEST, MOST = 150, 2000
# Nuclei in one training window, in the mean over the data that the bundled model was trained on.
NUCLEI_A_WINDOW = 12
# Of the learning rate that the model itself was trained with: what it knows is to be kept.
RATE = 0.5


def finetune_config(model: str, data: str, out: str, overrides: list[str] | None = None) -> tuple[CfgNode, list[str]]:
    """Config of a training that goes on from a model on somebody's own images.

    Parameters
    ----------
    model : str
        As for `maskseg.models.zoo.find_model`.
    data : str
        A data set, ``DIR`` or ``DIR:part``. With ``DIR`` alone the parts ``train`` and ``dev`` (or ``val``) of
        its split are used; without a split all of it is trained on.
    out : str
        Folder of the training.
    overrides : list of str, optional
        KEY VALUE pairs; they have the last word.

    Returns
    -------
    cfg : CfgNode
    choices : list of str
        What was chosen and why, a line each.

    Raises
    ------
    InputError
        If the model or the data set is missing, or it holds no nucleus.
    """
    found = find_model(model)
    cfg = found.cfg.clone()
    cfg.defrost()
    train, test, said = _parts(data)
    records = dataset_dicts(train)
    nuclei = sum(len(record["annotations"]) for record in records)
    if nuclei == 0:
        raise InputError(f"{train}: no nucleus in {len(records)} images; name a converted data set")
    wanted = VIEWS_OF_A_NUCLEUS * nuclei / (NUCLEI_A_WINDOW * cfg.SOLVER.IMS_PER_BATCH)
    iterations = int(min(max(wanted, FEWEST), MOST))
    solver = cfg.SOLVER
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(found.weights), out
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (test,) if test else ()
    cfg.DATASETS.TRAIN_SHARES = ()
    solver.BASE_LR *= RATE
    solver.MAX_ITER, solver.WARMUP_ITERS = iterations, iterations // 10
    solver.LR_SCHEDULER_NAME = "WarmupCosineLR"
    solver.CHECKPOINT_PERIOD = 100
    cfg.TEST.EVAL_PERIOD = max(iterations // 4, 50)
    cfg.merge_from_list(overrides or [])
    views = solver.MAX_ITER * solver.IMS_PER_BATCH * NUCLEI_A_WINDOW / nuclei
    choices = [
        said,
        f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} windows: each of the {nuclei} nuclei in "
        f"{len(records)} images comes about {views:.2g} times (at least {FEWEST} iterations, at most {MOST})",
        f"learning rate {solver.BASE_LR:g}, {RATE:g} of the model's own, falling to 0; all else as {found.weights.name}"
        " was trained",
    ]
    return cfg, choices


def _parts(data: str) -> tuple[str, str, str]:
    """Specs to train on and to choose by ("" for none), and what to say about it."""
    folder, part = folder_and_part(data)
    if part:
        return data, "", f"trains on {data}; the last weights are kept, since no part to choose by is named"
    split = load_coco(folder).path.parent / SPLIT_FILE
    parts = {row["part"] for row in read_split(split).values()} if split.is_file() else set()
    if "train" not in parts:
        return folder, "", f"trains on all of {folder}; to keep the best weights, first run: maskseg split {folder}"
    chosen = next((name for name in ("dev", "val") if name in parts), "")
    said = f"keeps the weights that score best on {folder}:{chosen}" if chosen else "keeps the last weights"
    return f"{folder}:train", f"{folder}:{chosen}" if chosen else "", f"trains on {folder}:train, {said}"


def default_folder(model: str, data: str) -> str:
    """Where a fine-tuning goes that is told nothing else: runs/MODEL_DATA."""
    folder, part = folder_and_part(data)
    return str(Path("runs") / "_".join(filter(None, (Path(model).stem, Path(folder).resolve().name, part))))
