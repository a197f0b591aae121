"""What a comparison keeps of each image, and what is made of it for a set: errors by kind and size, COCO's AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.evaluation.classes import ClassPairs, class_pairs
from maskseg.evaluation.dsb import THRESHOLDS, pair_scores
from maskseg.evaluation.error_types import ErrorType, ErrorTypes, error_types
from maskseg.evaluation.matching import Overlaps, matches, overlaps
from maskseg.evaluation.reviewed import counted

# IoU in percent at which errors are told apart.
ERROR_IOU = (50, 70)
SIZES = ("small", "medium", "large")
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ImageResult:
    """The comparison of one image; N true and M predicted nuclei, in the order of their labels.

    Attributes
    ----------
    scores : dict
        Of `maskseg.evaluation.dsb.pair_scores`.
    truth_areas, pred_areas : int64 arrays (N,), (M,)
        Pixels.
    kinds : dict of percent to ErrorTypes
        For each of `ERROR_IOU`.
    detections : float32 array (M,) or None
        Scores of the predicted nuclei.
    hits : bool array (M, 10) or None
        Which of them match by COCO's rule at the thresholds 0.50 ... 0.95; None without scores.
    classes : ClassPairs or None
        The nuclei by class, where their classes are known.
    """

    scores: dict[str, Any]
    truth_areas: NDArray[np.int64]
    pred_areas: NDArray[np.int64]
    kinds: dict[int, ErrorTypes]
    detections: NDArray[np.float32] | None
    hits: NDArray[np.bool_] | None
    classes: ClassPairs | None = None


def compare_image(
    truth: np.ndarray,
    prediction: np.ndarray,
    detections: NDArray[Any] | None = None,
    classes: tuple[Sequence[str], Sequence[str]] | None = None,
    region: NDArray[np.bool_] | None = None,
) -> ImageResult:
    """Compare the nuclei of one image.

    Parameters
    ----------
    truth, prediction : integer arrays (H, W)
        Label images.
    detections : float array, optional
        Score of each predicted nucleus; that of label i stands at i - 1.
    classes : (sequence of str, sequence of str), optional
        Classes of the true and the predicted nuclei, likewise.
    region : bool array (H, W), optional
        What counts; see `maskseg.evaluation.reviewed`.

    Raises
    ------
    InputError
        The two differ in size or are no label images.
    """
    if region is not None:
        truth, prediction = counted(truth, prediction, region)
    pairs = overlaps(truth, prediction)
    if detections is not None:
        # A mask that others cover wholly has no label.
        detections = np.asarray(detections, np.float32)[pairs.pred_labels.astype(np.int64) - 1]
    return ImageResult(
        pair_scores(pairs),
        pairs.truth_areas,
        pairs.pred_areas,
        {percent: error_types(pairs, percent) for percent in ERROR_IOU},
        detections,
        None if detections is None else _hits(pairs, detections),
        None if classes is None else class_pairs(pairs, truth, prediction, classes),
    )


def _hits(pairs: Overlaps, detections: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Of two halves of a nucleus, both at an IoU of 0.5, COCO's greedy search takes that of the higher score.
    order = np.argsort(-detections[pairs.pred_index], kind="stable")
    columns = ("truth_index", "pred_index", "intersection", "union")
    pairs = replace(pairs, **{name: getattr(pairs, name)[order] for name in columns})
    hits = np.zeros((len(detections), len(THRESHOLDS)), bool)
    for column, percent in enumerate(THRESHOLDS):
        hits[pairs.pred_index[matches(pairs, percent, inclusive=True)], column] = True
    return hits


def coco_ap(results: Sequence[ImageResult]) -> dict[str, float] | None:
    """Mask AP as COCO defines it [1]_, with every detection counted and not the first 100 of an image only.

    Precision interpolated at 101 recalls, for detections ranked by score over the whole set. Nuclei of one image do not
    overlap here, so that from an IoU of 0.5 on COCO's greedy matching has no choice and the matches are just the pairs
    of that IoU.

    Returns
    -------
    dict or None
        `ap` (mean over the IoUs 0.50 ... 0.95), `ap_50`, `ap_75`; None where the prediction has no scores or
        the truth no nuclei.

    References
    ----------
    .. [1] pycocotools/cocoeval.py, ``COCOeval.accumulate``.
    """
    n_truth = sum(len(result.truth_areas) for result in results)
    if not n_truth or any(result.hits is None for result in results):
        return None
    score = np.concatenate([result.detections for result in results])
    hits = np.concatenate([result.hits for result in results])
    hits = hits[np.argsort(-score, kind="stable")]
    true_positives = hits.cumsum(axis=0)
    precision = true_positives / np.arange(1, len(hits) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    means = []
    for column in range(len(THRESHOLDS)):
        at = np.searchsorted(true_positives[:, column] / n_truth, _RECALLS, side="left")
        reached = at < len(hits)
        means.append(precision[at[reached], column].sum() / len(_RECALLS))
    at_75 = THRESHOLDS.index(75)
    return {"ap": float(np.mean(means)), "ap_50": float(means[0]), "ap_75": float(means[at_75])}


def errors_by_size(results: Sequence[ImageResult]) -> dict[str, Any]:
    """Nuclei of a set by size and by what became of them (`maskseg.evaluation.error_types`).

    Small, medium and large are thirds of all true nuclei by area; a predicted nucleus that is extra counts for its own.

    Returns
    -------
    dict
        `small_up_to`, `medium_up_to`: pixels; "0.50" and "0.70" -> size -> `right`, `inexact`, `merged`, `split`,
        `missed` (of the true nuclei; their sum is that of the true nuclei of that size) and `extra`.
    """
    areas = np.concatenate([result.truth_areas for result in results])
    bounds = np.percentile(areas, [100 / 3, 200 / 3]) if len(areas) else np.zeros(2)
    errors: dict[str, Any] = {"small_up_to": int(bounds[0]), "medium_up_to": int(bounds[1])}
    for percent in ERROR_IOU:
        table = np.zeros((len(SIZES), len(ErrorType)), np.int64)
        for result in results:
            of = result.kinds[percent]
            extra = of.pred == ErrorType.extra
            np.add.at(table, (np.searchsorted(bounds, result.truth_areas), of.truth), 1)
            np.add.at(table, (np.searchsorted(bounds, result.pred_areas[extra]), ErrorType.extra), 1)
        errors[f"{percent / 100:.2f}"] = {
            size: {kind.name: int(row[kind]) for kind in ErrorType} for size, row in zip(SIZES, table, strict=True)
        }
    return errors
