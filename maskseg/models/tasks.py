"""What a network is trained for: the parts of a task, by MODEL.META_ARCHITECTURE.

One loop trains, validates, resumes and scores all of them (`maskseg.training.trainer`), one command predicts. A task
says where its own parts are; what it does not name is as for Mask R-CNN. A task is known once its module has called
`register`: those are imported that are named ``task`` in a folder of ``maskseg/projects/``, and those that an installed
package names under the entry points of the group ``maskseg.tasks``::

    [options.entry_points]
    maskseg.tasks =
        counting = my_package.task

``docs/examples/toy_task.py`` is a whole one in a file. Its parts:

1. ``network``: a class registered in Detectron2's META_ARCH_REGISTRY. Training, it takes a list of samples and returns
   a dict of losses; their sum is minimised. A subclass of one line under another name makes a second task of a network.
2. ``records`` (names of DATASETS.TRAIN or TEST) -> list of dict with at least ``file_name`` and ``image_id`` and, for
   DATALOADER.MODALITY_BALANCE, ``modality``.
3. ``samples`` (cfg, records) -> a Dataset whose items are (position, index) pairs, every random choice from
   ``np.random.default_rng((seed, position))``; a sample is a dict with ``image_id``. Subclass
   `maskseg.training.mapper.Samples` where the records are those of `maskseg.data.dataset.dataset_dicts`.
   ``validation_sample`` (cfg, record) -> the sample without augmentation, for the loss in validation.
4. ``evaluator``: a subclass of `maskseg.evaluation.evaluator.Evaluator`; its ``score`` names the figure of the summary
   that is drawn, and whose greatest value makes ``model_best.pth``.
5. ``predictor`` (cfg, model): a class that is a `maskseg.inference.predictor.Predictor`, whose ``segment`` gives what
   the evaluator takes. It says which options of ``maskseg predict`` it can follow; the others are refused.
6. ``submission``: the `maskseg.formats.kaggle.SubmissionForm` of its ``submission.csv``. A task whose results are no
   masks has its own ``predict`` in place of `maskseg.inference.run.predict_files`, with the same arguments.
7. ``add_keys`` (cfg): adds config keys of its own, with their defaults.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

# Where maskseg's own tasks are, and the entry points by which those of other packages are found.
PROJECTS, ENTRY_POINTS = "maskseg.projects", "maskseg.tasks"


@dataclass(frozen=True)
class Task:
    """The parts of a task, each as it is or as ``"module:attribute"``, imported when it is asked for."""

    network: Any
    records: Any = "maskseg.training.trainer:load_records"
    samples: Any = "maskseg.training.mapper:Samples"
    validation_sample: Any = "maskseg.training.mapper:validation_sample"
    evaluator: Any = "maskseg.evaluation.evaluator:NucleusEvaluator"
    predictor: Any = "maskseg.inference.mask_rcnn:MaskRCNNPredictor"
    submission: Any = "maskseg.formats.kaggle:NUCLEI"
    predict: Any = "maskseg.inference.run:predict_files"
    add_keys: Any = None

    @property
    def name(self) -> str:
        """What MODEL.META_ARCHITECTURE calls the network."""
        return self.network.split(":")[1] if isinstance(self.network, str) else self.network.__name__

    def part(self, name: str) -> Any:
        """A part by its name, imported."""
        part = getattr(self, name)
        if isinstance(part, str):
            module, attribute = part.split(":")
            return getattr(importlib.import_module(module), attribute)
        return part


_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Make a task known, in place of one whose network has the same name.

    Examples
    --------
    >>> register(Task("detectron2.modeling:GeneralizedRCNN")).name
    'GeneralizedRCNN'
    """
    _TASKS[task.name] = task
    return task


register(Task("detectron2.modeling:GeneralizedRCNN"))


def registered() -> Mapping[str, Task]:
    """All tasks, by the names of their networks."""
    _discover()
    return MappingProxyType(_TASKS)


@cache
def _discover() -> None:
    """Import the modules that register tasks, once; a package of somebody else that is broken is left out."""
    for project in pkgutil.iter_modules(importlib.import_module(PROJECTS).__path__, f"{PROJECTS}."):
        if importlib.util.find_spec(f"{project.name}.task"):
            importlib.import_module(f"{project.name}.task")
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            importlib.import_module(entry_point.module)
        except Exception as error:  # whatever is wrong with it, other tasks are not touched by it
            logger.warning("the task %s (%s) cannot be used: %s", entry_point.name, entry_point.value, error)


def prepare(cfg: CfgNode) -> None:
    """Register the networks of all tasks with Detectron2 and add their config keys."""
    for task in registered().values():
        task.part("network")
        if task.add_keys:
            task.part("add_keys")(cfg)


def part(cfg: CfgNode, name: str) -> Any:
    """A part, by its name in `Task`, of what the network of a config is for.

    Raises
    ------
    InputError
        If MODEL.META_ARCHITECTURE is that of no task.
    """
    network, known = cfg.MODEL.META_ARCHITECTURE, registered()
    if network not in known:
        raise InputError(f"MODEL.META_ARCHITECTURE is {network!r}; choose one of {', '.join(known)}")
    return known[network].part(name)
