"""Fine-tuning without a config file: the schedule follows from how much there is to learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError
from maskseg.data.classes import chosen_classes, rename_classes
from maskseg.data.dataset import dataset_dicts, folder_and_part, image_id, load_coco, unreviewed
from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.formats.classes import ClassRule
from maskseg.formats.reviewed import REVIEWED
from maskseg.models.config import with_overrides
from maskseg.models.zoo import find_model
from maskseg.training.schedule import WARMUP, epochs_to_iterations

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Every nucleus is to be seen about this often, each time magnified, turned and shifted otherwise.
VIEWS_OF_A_NUCLEUS = 12
# Fewer change nothing that one could measure, more only learn a small data set by heart.
FEWEST, MOST = 150, 2000
# Nuclei in one training window, in the mean over the data that the bundled model was trained on.
NUCLEI_A_WINDOW = 12
# So many images to choose by, or fewer, are worth a word of warning.
FEW = 3
# Of the learning rate that the model itself was trained with. What it knows is to be kept: at two thirds of that rate
# the score on tissue of other slides fell, at a tenth it did not (benchmarks/corrections.py). Classes are new to it.
RATE, RATE_OF_CLASSES = 0.1, 0.5


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
        If the model or the data set is missing, it holds no nucleus, or a key or value does not fit.
    """
    start = find_model(model)
    cfg = start.cfg.clone()
    cfg.defrost()
    train, test, said = _parts(data)
    records = dataset_dicts(train)
    known = tuple(cfg.MODEL.CLASS_NAMES)
    cfg.MODEL.CLASS_NAMES = []
    nuclei = sum(len(record["annotations"]) for record in records)
    if nuclei == 0:
        raise InputError(f"{train}: no nucleus in {len(records)} images; name a converted data set")
    solver = cfg.SOLVER
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(start.weights), out
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (test,) if test else ()
    cfg.DATASETS.TRAIN_SHARES = cfg.DATASETS.MERGE_CLASSES = ()
    solver.LR_SCHEDULER_NAME, solver.CHECKPOINT_PERIOD, solver.EPOCHS = "WarmupCosineLR", 100, 0
    with_overrides(cfg, overrides)
    given = (overrides or [])[::2]
    of_classes = _choose_classes(cfg, records, known)
    if "SOLVER.LR_SHARE" not in given:
        share = RATE_OF_CLASSES if _learns_classes(cfg, known) else RATE
        solver.LR_SHARE = share if "SOLVER.BASE_LR" not in given else 1.0
    wanted = VIEWS_OF_A_NUCLEUS * nuclei / (NUCLEI_A_WINDOW * solver.IMS_PER_BATCH)
    if solver.EPOCHS:
        solver.MAX_ITER = epochs_to_iterations(cfg, solver.EPOCHS, len(records))
    elif "SOLVER.MAX_ITER" not in given:
        solver.MAX_ITER = int(min(max(wanted, FEWEST), MOST))
    # What follows from the length, whoever chose it.
    if "SOLVER.WARMUP_ITERS" not in given:
        solver.WARMUP_ITERS = int(WARMUP * solver.MAX_ITER)
    if "TEST.EVAL_PERIOD" not in given:
        cfg.TEST.EVAL_PERIOD = max(solver.MAX_ITER // 4, 50)
    views = solver.MAX_ITER * solver.IMS_PER_BATCH * NUCLEI_A_WINDOW / nuclei
    choices = [
        said,
        f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} windows: each of the {nuclei} nuclei in "
        f"{len(records)} images comes about {views:.2g} times (at least {FEWEST} iterations, at most {MOST})",
        f"learning rate {solver.BASE_LR * solver.LR_SHARE:g}, falling to 0; "
        f"all else as {start.weights.name} was trained",
        *of_classes,
        *_reviewed(records),
    ]
    return cfg, choices


def _learns_classes(cfg: CfgNode, known: tuple[str, ...]) -> bool:
    """Whether it is to tell classes apart that the model does not know."""
    return len(cfg.MODEL.CLASS_NAMES) > 1 and not set(cfg.MODEL.CLASS_NAMES) <= set(known)


def _choose_classes(cfg: CfgNode, records: list[dict[str, Any]], known: tuple[str, ...]) -> list[str]:
    """Set the classes to learn, in place; what to say of it.

    Parameters
    ----------
    cfg : CfgNode
        With the classes that somebody asked for, or none.
    records : list of dict
    known : tuple of str
        The classes of the model.
    """
    if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        return []
    rename_classes(records, ClassRule.parse(None, cfg.DATASETS.MERGE_CLASSES))
    names = chosen_classes(records, cfg.MODEL.CLASS_NAMES)
    if not cfg.MODEL.CLASS_NAMES and len(known) > 1 and set(known) & set(names):
        # What the model tells apart already keeps its number.
        names = tuple(dict.fromkeys([*known, *names]))
    cfg.MODEL.CLASS_NAMES = list(names)
    counts = Counter(item["class"] for record in records for item in record["annotations"])
    listed = ", ".join(f"{name} ({counts[name]})" for name in names)
    if len(names) == 1:
        return [f"learns no classes, which the model knows: {', '.join(known)}"] if len(known) > 1 else []
    if names[: len(known)] == known:
        return [f"learns {len(names)} classes: {listed}; the model knows {', '.join(known) or 'none of them'}"]
    return [f"learns {len(names)} classes: {listed}; the last layer is learned anew, all others are kept"]


def _reviewed(records: list[dict[str, Any]]) -> list[str]:
    """What to say of images that a person has looked at, whole or in part."""
    corrected = [record for record in records if REVIEWED in record]
    if not corrected:
        return []
    nuclei = sum(len(record["annotations"]) for record in corrected)
    unseen = [unreviewed(record, (record["height"], record["width"])) for record in corrected]
    parts = [region.mean() for region in unseen if region is not None]
    said = f"learns from {nuclei} corrected nuclei in {len(corrected)} reviewed images"
    if parts:
        share = 1 - sum(parts) / len(parts)
        said += f"; of {len(parts)} of them {share:.0%}, and the rest counts neither as nucleus nor as background"
    return [said]


def _parts(data: str) -> tuple[str, str, str]:
    """Specs to train on and to choose by ("" for none), and what to say about it."""
    folder, part = folder_and_part(data)
    if part:
        return data, "", f"trains on {data}; the last weights are kept, since no part to choose by is named"
    content = load_coco(folder)
    split = content.path.parent / SPLIT_FILE
    known = {image_id(image) for image in content.images}
    rows = [row for name, row in read_split(split).items() if name in known] if split.is_file() else []
    parts = {row["part"] for row in rows}
    if "train" not in parts:
        said = f"trains on all of {folder} and keeps the last weights; "
        if len(content.images) < 2:
            return folder, "", f"{said}how good they are on other images, one image cannot tell: annotate a second one"
        return folder, "", f"{said}to keep the best ones, first run: maskseg split {folder}"
    chosen = next((name for name in ("dev", "val") if name in parts), "")
    said = f"keeps the weights that score best on {folder}:{chosen}" if chosen else "keeps the last weights"
    aside = sum(row["part"] == chosen for row in rows) if chosen else 0
    if 0 < aside <= FEW:
        said += f"; {aside} image{'s' if aside > 1 else ''} to choose by {'are' if aside > 1 else 'is'} few, and the "
        said += "score says little about other images"
    return f"{folder}:train", f"{folder}:{chosen}" if chosen else "", f"trains on {folder}:train, {said}"


def default_folder(model: str, data: str) -> str:
    """Where a fine-tuning goes that is told nothing else: runs/MODEL_DATA."""
    folder, part = folder_and_part(data)
    return str(Path("runs") / "_".join(filter(None, (Path(model).stem, Path(folder).resolve().name, part))))
