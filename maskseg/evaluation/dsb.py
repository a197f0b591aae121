"""The score of the 2018 Data Science Bowl, and the figures that stand beside it.

The DSB score of an image is the mean over the thresholds t = 0.50, 0.55 ... 0.95 of TP / (TP + FP + FN), a
match being an IoU strictly above t. The score of a set is the mean over its images. An image without nuclei
scores 1 when nothing is predicted and 0 otherwise. Source:
https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation

A figure of a set is either the mean over its images or pooled, made from the sums of all its nuclei as in StarDist's
tables; crowded images weigh more in the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from maskseg.core.errors import InputError
from maskseg.evaluation.aggregate import aji, aji_plus, dice, panoptic_quality
from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.matching import Overlaps, matches, overlaps

THRESHOLDS = tuple(range(50, 100, 5))  # percent, so that matches are decided in integers
_AGGREGATES = {"pq": panoptic_quality, "aji": aji, "aji_plus": aji_plus, "dice": dice}
MEANS = ("dsb_score", "precision_50", "recall_50", "f1_50", "precision_70", "recall_70", "f1_70", *_AGGREGATES)
_FIGURES = {"f1_50": "F1 0.5", "f1_70": "F1 0.7", "pq": "PQ", "aji": "AJI", "aji_plus": "AJI+", "dice": "Dice"}


def image_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    """Score the predicted nuclei of one image.

    Parameters
    ----------
    truth, prediction : integer arrays (H, W)
        Label images, 0 for background.

    Returns
    -------
    dict
        See `pair_scores`.

    Raises
    ------
    InputError
        The two differ in size or are no label images.
    """
    return pair_scores(overlaps(truth, prediction))


def pair_scores(pairs: Overlaps) -> dict[str, Any]:
    """Scores of one image.

    Returns
    -------
    dict
        `dsb_score`; `precision_50`, `recall_50`, `f1_50` and the same at 0.70; `pq`, `aji`, `aji_plus`, `dice`
        (`maskseg.evaluation.aggregate`); `matched_iou`, the mean IoU of the pairs above 0.5 (None where there is
        none); `area_ratio`, the geometric mean of their found over their true area, likewise: above 1 the outlines lie
        outside of the annotator's; `matched`, their number; `n_truth`, `n_pred`; `tp_50` ... `tp_95`, the matches at
        each threshold. Plain Python numbers. Where truth and prediction are both empty, the scores are 1; where only
        one is, they are 0.
    """
    n_truth, n_pred = len(pairs.truth_labels), len(pairs.pred_labels)
    at_half = matches(pairs, 50)
    true_positives = {percent: int(matches(pairs, percent).sum()) for percent in THRESHOLDS}
    scores: dict[str, Any] = {}
    precisions = [_ratio(true_positives[t], n_truth + n_pred - true_positives[t]) for t in THRESHOLDS]
    scores["dsb_score"] = sum(precisions) / len(THRESHOLDS)
    for percent in (50, 70):
        scores[f"precision_{percent}"] = _ratio(true_positives[percent], n_pred, n_truth)
        scores[f"recall_{percent}"] = _ratio(true_positives[percent], n_truth, n_pred)
        scores[f"f1_{percent}"] = _ratio(2 * true_positives[percent], n_truth + n_pred)
    scores |= {name: measure(pairs) for name, measure in _AGGREGATES.items()}
    scores["matched_iou"] = float(pairs.iou[at_half].mean()) if at_half.any() else None
    scores["area_ratio"] = float(np.exp(_log_area_ratios(pairs)[at_half].mean())) if at_half.any() else None
    scores["matched"] = true_positives[50]
    scores["n_truth"] = n_truth
    scores["n_pred"] = n_pred
    return scores | {f"tp_{percent}": count for percent, count in true_positives.items()}


def summarise(
    scores: Sequence[dict[str, Any]], modalities: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Join the scores of images into those of the set and of each modality.

    Parameters
    ----------
    scores : sequence of dict
        As `image_scores` returns them.
    modalities : sequence of str, optional
        Modality of each image, in the same order; an empty one counts as "unknown".
    groups : sequence of str, optional
        Group of each image (of one acquisition), in the same order.

    Returns
    -------
    dict
        JSON can hold it. `images`, `n_truth`, `n_pred`, `matched` are sums; `matched_iou` and `area_ratio` are the
        means over all matched nuclei of the set; `dsb_score`, precision, recall and F1 at 0.50 and 0.70, `pq`, `aji`,
        `aji_plus` and `dice` are means over the images, and `interval` holds the 95 % interval of each by bootstrap
        over the images. `pooled`: `pq`, `sq`, `rq` of all nuclei. `thresholds`: "0.50" ... "0.95" -> `mean` and
        `pooled`, each with `ap`, `precision`, `recall` and `f1`. With `groups`, `groups` is their number and
        `interval_by_group` the interval of the DSB score by bootstrap over them. With `modalities`, `by_modality` is
        name -> the same for its images.

    Raises
    ------
    InputError
        There is no image.
    """
    if not scores:
        raise InputError("no image to score: truth and prediction have no image in common")
    chosen = np.arange(len(scores))
    summary = _join(scores, groups, chosen)
    if modalities is not None:
        names = np.array([modality or "unknown" for modality in modalities])
        if len(names) != len(scores):
            raise ValueError(f"{len(names)} modalities for {len(scores)} images")
        summary["by_modality"] = {
            str(name): _join(scores, groups, np.flatnonzero(names == name)) for name in np.unique(names)
        }
    return summary


def at_thresholds(n_truth: Any, n_pred: Any, found: Any) -> dict[str, NDArray[np.float64]]:
    """AP = TP / (TP + FP + FN), precision, recall and F1 from counts that broadcast; 1 for nothing against nothing."""
    n_truth, n_pred, found = np.broadcast_arrays(n_truth, n_pred, found)
    both = n_truth + n_pred
    return {
        "ap": _ratios(found, both - found, both),
        "precision": _ratios(found, n_pred, both),
        "recall": _ratios(found, n_truth, both),
        "f1": _ratios(2 * found, both, both),
    }


def score_table(summary: Mapping[str, Any]) -> str:
    """Lay out what `summarise` returns as a text table, one line a modality and the set last."""
    header = ["", "mean IoU (DSB score)", "95 % interval", "images", "nuclei", "found", "matched IoU", "area"]
    rows = [[*header, *_FIGURES.values()]]
    for name, part in [*summary.get("by_modality", {}).items(), ("all", summary)]:
        low, high = part["interval"]["dsb_score"]
        matched = "-" if part["matched_iou"] is None else f"{part['matched_iou']:.3f}"
        area = "-" if part["area_ratio"] is None else f"{part['area_ratio']:.2f}"
        counts = [str(part[key]) for key in ("images", "n_truth", "matched")]
        figures = [f"{part[key]:.3f}" for key in _FIGURES]
        rows.append([name, f"{part['dsb_score']:.4f}", f"{low:.3f} - {high:.3f}", *counts, matched, area, *figures])
    return text_table(rows)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells, the header first: the first column to the left, the others to the right."""
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)


def _join(scores: Sequence[dict[str, Any]], groups: Sequence[str] | None, chosen: NDArray[np.intp]) -> dict[str, Any]:
    rows = [scores[i] for i in chosen]
    joined: dict[str, Any] = {"images": len(rows)}
    for key in MEANS:
        joined[key] = sum(row[key] for row in rows) / len(rows)
    for key in ("matched", "n_truth", "n_pred"):
        joined[key] = sum(row[key] for row in rows)
    total = sum(row["matched"] * row["matched_iou"] for row in rows if row["matched"])
    joined["matched_iou"] = total / joined["matched"] if joined["matched"] else None
    logs = sum(row["matched"] * np.log(row["area_ratio"]) for row in rows if row["matched"])
    joined["area_ratio"] = float(np.exp(logs / joined["matched"])) if joined["matched"] else None
    joined["interval"] = {key: list(mean_interval([row[key] for row in rows])) for key in MEANS}
    if groups is not None:
        mine = [groups[i] for i in chosen]
        joined["groups"] = len({group or i for group, i in zip(mine, chosen, strict=True)})
        joined["interval_by_group"] = list(mean_interval([row["dsb_score"] for row in rows], groups=mine))
    joined |= _by_threshold(rows)
    both = joined["n_truth"] + joined["n_pred"]
    joined["pooled"] = {
        "pq": float(_ratios(2 * total, both, both)),
        "sq": joined["matched_iou"],
        "rq": float(_ratios(2 * joined["matched"], both, both)),
    }
    return joined


def _by_threshold(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    n_truth = np.array([row["n_truth"] for row in rows])[:, None]
    n_pred = np.array([row["n_pred"] for row in rows])[:, None]
    true_positives = np.array([[row[f"tp_{percent}"] for percent in THRESHOLDS] for row in rows])
    mean = {key: value.mean(axis=0) for key, value in at_thresholds(n_truth, n_pred, true_positives).items()}
    pooled = at_thresholds(n_truth.sum(), n_pred.sum(), true_positives.sum(axis=0))
    return {
        "thresholds": {
            f"{percent / 100:.2f}": {
                "mean": {key: float(value[i]) for key, value in mean.items()},
                "pooled": {key: float(value[i]) for key, value in pooled.items()},
            }
            for i, percent in enumerate(THRESHOLDS)
        }
    }


def _log_area_ratios(pairs: Overlaps) -> NDArray[np.float64]:
    """Logarithm of the found over the true area of each pair, float64 (K,)."""
    ratios = pairs.pred_areas[pairs.pred_index] / pairs.truth_areas[pairs.truth_index]
    return np.asarray(np.log(ratios), np.float64)


def _ratio(part: int, whole: int, other: int = 0) -> float:
    """part / whole; where whole is 0, 1 if there is nothing on the other side either, and 0 otherwise."""
    if whole:
        return part / whole
    return 0.0 if other else 1.0


def _ratios(part: Any, whole: Any, everything: Any) -> NDArray[np.float64]:
    """part / whole; where whole is 0, 1 if there is nothing at all, and 0 otherwise."""
    return np.asarray(np.where(np.equal(whole, 0), np.equal(everything, 0), part / np.maximum(whole, 1)), np.float64)
