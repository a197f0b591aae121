"""A model scored on a data set, as during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from maskseg.data.coco import load_record
from maskseg.evaluation import dsb

if TYPE_CHECKING:
    from maskseg.inference.predictor import Predictor


def evaluate_records(predictor: Predictor, records: list[dict[str, Any]], flip: bool | None = None) -> dict[str, Any]:
    """Segment every image of a data set and score it.

    Parameters
    ----------
    predictor : Predictor
    records : list of dict
        From `maskseg.data.coco.dataset_dicts`.
    flip : bool, optional
        See `Predictor.segment`.

    Returns
    -------
    dict
        `maskseg.evaluation.dsb.summarise` of the set, with ``dsb_score`` and a row for each modality.
    """
    scores = []
    for record in tqdm(records, desc="evaluate", unit="image", leave=False, disable=None):
        image, truth = load_record(record)
        scores.append(dsb.image_scores(truth, predictor.segment(image, flip).to_labels()))
    return dsb.summarise(scores, [record["modality"] for record in records])
