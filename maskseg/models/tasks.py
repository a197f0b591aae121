"""What a network is trained for: the parts of a task, by MODEL.META_ARCHITECTURE.

One loop trains, validates, resumes and scores all of them (`maskseg.training.trainer`), one command predicts. A task
says where its own parts are; what it does not name is as for Mask R-CNN. To add one:

1. The network: a class in ``maskseg/projects/``, registered in Detectron2's META_ARCH_REGISTRY, its module named in
   `maskseg.models.config`, where its keys go too. Training, it takes a list of samples and returns a dict of losses;
   their sum is minimised. A subclass of one line under another name makes a second task of a network.
2. ``records`` (names of DATASETS.TRAIN or TEST) -> list of dict with at least ``file_name`` and ``image_id`` and, for
   DATALOADER.MODALITY_BALANCE, ``modality``.
3. ``samples`` (cfg, records) -> a Dataset whose items are (position, index) pairs, every random choice from
   ``np.random.default_rng((seed, position))``; a sample is a dict with ``image_id``. Subclass
   `maskseg.training.mapper.Samples` where the records are those of `maskseg.data.dataset.dataset_dicts`.
   ``validation_sample`` (cfg, record) -> the sample without augmentation, for the loss in validation.
4. ``evaluator``: a subclass of `maskseg.evaluation.evaluator.Evaluator`; its ``score`` names the figure of the summary
   that is drawn, and whose greatest value makes ``model_best.pth``.
5. ``predictor`` (cfg, model): a subclass of `maskseg.inference.predictor.Predictor`, with a ``segment`` that gives what
   the evaluator takes. ``Predictor.from_weights`` and ``load_model`` return it.
6. ``submission``: the `maskseg.formats.kaggle.Form` of its ``submission.csv``. A task whose results are no masks
   has its own ``predict`` in place of `maskseg.inference.run.predict_files`, with the same arguments.
7. A line in `TASKS`, and a config in ``configs/``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class Task:
    """Where the parts of a task are, each ``"module:attribute"``; imported when they are asked for."""

    records: str = "maskseg.training.trainer:load_records"
    samples: str = "maskseg.training.mapper:Samples"
    validation_sample: str = "maskseg.training.mapper:validation_sample"
    evaluator: str = "maskseg.evaluation.evaluator:NucleusEvaluator"
    predictor: str = "maskseg.inference.predictor:Predictor"
    submission: str = "maskseg.formats.kaggle:NUCLEI"
    predict: str = "maskseg.inference.run:predict_files"


TASKS = {
    "GeneralizedRCNN": Task(),
    "UNet": Task(
        samples="maskseg.projects.unet.samples:PixelSamples",
        validation_sample="maskseg.projects.unet.samples:validation_sample",
        predictor="maskseg.projects.unet.predictor:PixelPredictor",
    ),
    "NerveUNet": Task(
        samples="maskseg.projects.unet.samples:PixelSamples",
        validation_sample="maskseg.projects.unet.samples:validation_sample",
        evaluator="maskseg.projects.ultrasound.evaluator:NerveEvaluator",
        predictor="maskseg.projects.unet.predictor:PixelPredictor",
        submission="maskseg.formats.kaggle:ONE_ROW",
    ),
    "ProteinClassifier": Task(
        records="maskseg.projects.protein.data:protein_dicts",
        samples="maskseg.projects.protein.samples:ProteinSamples",
        validation_sample="maskseg.projects.protein.samples:validation_sample",
        evaluator="maskseg.projects.protein.evaluator:ProteinEvaluator",
        predictor="maskseg.projects.protein.predictor:ProteinPredictor",
        predict="maskseg.projects.protein.predictor:predict_proteins",
    ),
}


def part(cfg: CfgNode, name: str) -> Any:
    """A part, by its name in `Task`, of what the network of a config is for.

    Raises
    ------
    InputError
        If MODEL.META_ARCHITECTURE is none of `TASKS`.
    """
    network = cfg.MODEL.META_ARCHITECTURE
    if network not in TASKS:
        raise InputError(f"MODEL.META_ARCHITECTURE is {network!r}; choose one of {', '.join(TASKS)}")
    module, attribute = getattr(TASKS[network], name).split(":")
    return getattr(importlib.import_module(module), attribute)
