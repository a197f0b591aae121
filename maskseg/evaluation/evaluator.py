"""A model scored on a data set, as during training, in one process or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.data.coco import load_record
from maskseg.evaluation import dsb
from maskseg.masks import CropMasks

if TYPE_CHECKING:
    from maskseg.inference.predictor import Predictor


class NucleusEvaluator(DatasetEvaluator):
    """Scores of `maskseg.evaluation.dsb` for Detectron2's evaluation.

    Only the figures of each image are kept, and only they travel between processes. Each process may see any share of
    the images; an image that several have seen, as padding samplers make them, counts once.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._rows: dict[str, tuple[str, dict[str, Any]]] = {}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Iterable[CropMasks]) -> None:
        """Score some images.

        Parameters
        ----------
        inputs : sequence of dict
            Records of `maskseg.data.coco.dataset_dicts`, with their true nuclei.
        outputs : iterable of CropMasks
            The nuclei that were found, in the same order.
        """
        for record, found in zip(inputs, outputs, strict=True):
            self.add(record, load_record(record)[1], found)

    def add(self, record: Mapping[str, Any], truth: NDArray[np.int32], found: CropMasks) -> None:
        """Score one image whose true nuclei, a label image (H, W), are at hand."""
        scores = dsb.image_scores(truth, found.to_labels())
        self._rows[record["file_name"]] = (record["modality"], scores)

    def evaluate(self) -> dict[str, Any]:
        """`maskseg.evaluation.dsb.summarise` of the images of all processes; {} in all but the first process.

        Whatever the number of processes, the images are joined in the order of their files: the same sums.
        """
        for part in comm.gather(self._rows):
            self._rows |= part
        return self.summary() if comm.is_main_process() else {}

    def summary(self) -> dict[str, Any]:
        """`maskseg.evaluation.dsb.summarise` of the images that this process has seen."""
        ordered = [self._rows[name] for name in sorted(self._rows)]
        return dsb.summarise([scores for _, scores in ordered], [modality for modality, _ in ordered])


def evaluate_records(
    predictor: Predictor, records: list[dict[str, Any]], flip: bool | None = None, shared: bool = False
) -> dict[str, Any]:
    """Segment every image of a data set and score it.

    Parameters
    ----------
    predictor : Predictor
    records : list of dict
        From `maskseg.data.coco.dataset_dicts`.
    flip : bool, optional
        See `Predictor.segment`.
    shared : bool
        Called in every process of a distributed training: each takes its share of the images. Otherwise this process
        takes all.

    Returns
    -------
    dict
        `maskseg.evaluation.dsb.summarise` of the set, with ``dsb_score`` and a row for each modality; {} in all
        but the first process of a shared evaluation.
    """
    mine = records[comm.get_rank() :: comm.get_world_size()] if shared else records
    evaluator = NucleusEvaluator()
    for record in tqdm(mine, desc="evaluate", unit="image", leave=False, disable=None):
        image, truth = load_record(record)
        evaluator.add(record, truth, predictor.segment(image, flip))
    return evaluator.evaluate() if shared else evaluator.summary()
