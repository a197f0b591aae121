"""A model scored on a data set, as during training, in one process or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import MICRONS, load_record
from maskseg.evaluation import dsb
from maskseg.evaluation.classes import class_figures, class_pairs, class_table
from maskseg.evaluation.matching import overlaps
from maskseg.evaluation.reviewed import counted
from maskseg.formats.classes import NUCLEUS
from maskseg.formats.reviewed import region_of

if TYPE_CHECKING:
    from maskseg.inference.predictor import Predictor


class Evaluator(DatasetEvaluator):
    """Scores of the images of a data set, for Detectron2's evaluation.

    Only the figures of each image are kept, and only they travel between processes. Each process may see any share of
    the images; an image that several have seen, as padding samplers make them, counts once. A task says how an image
    is measured, how its figures are summed up, and prints them.

    Attributes
    ----------
    score : str
        Key of the summary's one figure that says how good a model is; the more the better.
    title : str
        What that figure is called.
    """

    score: str
    title: str

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._rows: dict[str, Any] = {}

    def measure(self, record: Mapping[str, Any], predictor: Any, tta: str | None = None) -> None:
        """Predict an image and keep its figures in ``_rows``, by its file name."""
        raise NotImplementedError

    def summary(self) -> dict[str, Any]:
        """Figures of the images that this process has seen."""
        raise NotImplementedError

    def table(self, summary: Mapping[str, Any]) -> str:
        """A summary to read."""
        raise NotImplementedError

    def keep(self, model: Any, summary: Mapping[str, Any]) -> None:
        """What a network in training takes over from a summary of its validation, such as thresholds."""

    def join(self, other: Evaluator) -> None:
        """Take the figures of other images over."""
        self._rows |= other._rows

    def evaluate(self) -> dict[str, Any]:
        """The summary of the images of all processes; {} in all but the first process.

        Whatever the number of processes, the images are joined in the order of their files: the same sums.
        """
        for rows in comm.gather(self._rows):
            self._rows |= rows
        return self.summary() if comm.is_main_process() else {}


class NucleusEvaluator(Evaluator):
    """Scores of `maskseg.evaluation.dsb`, and where there are classes those of `maskseg.evaluation.classes`.

    Of an image that was reviewed in part, that part is scored.

    Parameters
    ----------
    names : sequence of str
        What the classes of the masks that are found are called; those of the predictor in `measure`.
    """

    score = "dsb_score"
    title = "mean IoU (DSB score)"

    def __init__(self, names: Sequence[str] = (NUCLEUS,)) -> None:
        super().__init__()
        self.names = tuple(names)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Iterable[CropMasks]) -> None:
        """Score some images.

        Parameters
        ----------
        inputs : sequence of dict
            Records of `maskseg.data.dataset.dataset_dicts`, with their true nuclei.
        outputs : iterable of CropMasks
            The nuclei that were found, in the same order.
        """
        for record, found in zip(inputs, outputs, strict=True):
            self.add(record, load_record(record)[1], found)

    def measure(self, record: Mapping[str, Any], predictor: Predictor, tta: str | None = None) -> None:
        """Segment an image and score it."""
        image, truth = load_record(record)
        self.names = getattr(predictor, "class_names", self.names)
        predictor = predictor.at_pixel_size(record.get(MICRONS), record["file_name"])
        self.add(record, truth, predictor.segment(image, tta))

    def add(self, record: Mapping[str, Any], truth: NDArray[np.int32], found: CropMasks) -> None:
        """Score one image whose true nuclei, a label image (H, W), are at hand."""
        labels, region = found.to_labels(), region_of(record, truth.shape)
        if region is not None:
            truth, labels = counted(truth, labels, region)
        pairs = overlaps(truth, labels)
        classes = None
        if len(self.names) > 1:
            own = [item.get("class", NUCLEUS) for item in record["annotations"]]
            classes = class_pairs(pairs, truth, labels, (own, [self.names[kind] for kind in found.classes]))
        self._rows[record["file_name"]] = (record["modality"], dsb.pair_scores(pairs), classes)

    def summary(self) -> dict[str, Any]:
        """`maskseg.evaluation.dsb.summarise` of the images that this process has seen."""
        ordered = [self._rows[name] for name in sorted(self._rows)]
        summary = dsb.summarise([scores for _, scores, _ in ordered], [modality for modality, _, _ in ordered])
        by_class = class_figures(classes for _, _, classes in ordered)
        return summary if by_class is None else {**summary, "by_class": by_class}

    def table(self, summary: Mapping[str, Any]) -> str:
        """`maskseg.evaluation.dsb.score_table`, and `class_table` where there are classes."""
        table = dsb.score_table(summary)
        return f"{table}\n\n{class_table(summary['by_class'])}" if "by_class" in summary else table


def evaluate_records(
    predictor: Predictor,
    records: list[dict[str, Any]],
    tta: str | None = None,
    shared: bool = False,
    evaluator: Evaluator | None = None,
) -> dict[str, Any]:
    """Predict every image of a data set and score it.

    Parameters
    ----------
    predictor : Predictor
    records : list of dict
        From `maskseg.data.dataset.dataset_dicts`.
    tta : str, optional
        See `Predictor.segment`.
    shared : bool
        Called in every process of a distributed training: each takes its share of the images. Otherwise this process
        takes all.
    evaluator : Evaluator, optional
        That of the task (`maskseg.models.tasks`); nuclei where not given.

    Returns
    -------
    dict
        The evaluator's summary: for nuclei `maskseg.evaluation.dsb.summarise`, with ``dsb_score`` and a row for each
        modality. {} in all but the first process of a shared evaluation.
    """
    mine = records[comm.get_rank() :: comm.get_world_size()] if shared else records
    evaluator = evaluator or NucleusEvaluator()
    for record in tqdm(mine, desc="evaluate", unit="image", leave=False, disable=None):
        evaluator.measure(record, predictor, tta)
    return evaluator.evaluate() if shared else evaluator.summary()
