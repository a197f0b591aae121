"""The score of the 2018 Data Science Bowl, and the figures that stand beside it.

The DSB score of an image is the mean over the thresholds t = 0.50, 0.55 ... 0.95 of TP / (TP + FP + FN), a
match being an IoU strictly above t. The score of a set is the mean over its images. An image without nuclei
scores 1 when nothing is predicted and 0 otherwise. Source:
https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskseg.errors import InputError
from maskseg.evaluation.matching import matches, overlaps

THRESHOLDS = tuple(range(50, 100, 5))  # percent, so that matches are decided in integers
_MEANS = ("dsb_score", "precision_50", "recall_50", "f1_50", "precision_70", "recall_70", "f1_70")


def image_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float | int | None]:
    """Score the predicted nuclei of one image.

    Parameters
    ----------
    truth, prediction : integer arrays (H, W)
        Label images, 0 for background.

    Returns
    -------
    dict
        `dsb_score`; `precision_50`, `recall_50`, `f1_50` and the same at 0.70; `matched_iou`, the mean IoU of
        the pairs above 0.5 (None where there is none); `matched`, their number; `n_truth`, `n_pred`. Plain
        Python numbers. Where truth and prediction are both empty, the scores are 1; where only one is, they
        are 0.

    Raises
    ------
    InputError
        The two differ in size or are no label images.
    """
    pairs = overlaps(truth, prediction)
    n_truth, n_pred = len(pairs.truth_labels), len(pairs.pred_labels)
    at_half = matches(pairs, 50)
    found = {percent: int(matches(pairs, percent).sum()) for percent in THRESHOLDS}
    precisions = [_ratio(found[t], n_truth + n_pred - found[t]) for t in THRESHOLDS]
    scores: dict[str, float | int | None] = {"dsb_score": sum(precisions) / len(THRESHOLDS)}
    for percent in (50, 70):
        scores[f"precision_{percent}"] = _ratio(found[percent], n_pred, n_truth)
        scores[f"recall_{percent}"] = _ratio(found[percent], n_truth, n_pred)
        scores[f"f1_{percent}"] = _ratio(2 * found[percent], n_truth + n_pred)
    scores["matched_iou"] = float(pairs.iou[at_half].mean()) if at_half.any() else None
    scores["matched"] = found[50]
    scores["n_truth"] = n_truth
    scores["n_pred"] = n_pred
    return scores


def summarise(scores: Sequence[dict], modalities: Sequence[str] | None = None) -> dict:
    """Join the scores of images into those of the set and of each modality.

    Parameters
    ----------
    scores : sequence of dict
        As `image_scores` returns them.
    modalities : sequence of str, optional
        Modality of each image, in the same order; an empty one counts as "unknown".

    Returns
    -------
    dict
        `images`, `n_truth`, `n_pred`, `matched` (sums), `dsb_score`, precision, recall and F1 at 0.50 and
        0.70 (means over the images), `matched_iou` (mean over all matched nuclei of the set) and, with
        `modalities`, `by_modality`: name -> the same for its images. JSON can hold it.

    Raises
    ------
    InputError
        There is no image.
    """
    if not scores:
        raise InputError("no image to score: truth and prediction have no image in common")
    summary = _join(scores)
    if modalities is not None:
        groups: dict[str, list[dict]] = {}
        for row, modality in zip(scores, modalities, strict=True):
            groups.setdefault(modality or "unknown", []).append(row)
        summary["by_modality"] = {name: _join(groups[name]) for name in sorted(groups)}
    return summary


def score_table(summary: dict) -> str:
    """Lay out what `summarise` returns as a text table, one line a modality and the set last."""
    header = ("", "images", "nuclei", "found", "mean IoU (DSB score)", "matched IoU", "F1 0.5", "F1 0.7")
    rows = [_cells(name, part) for name, part in summary.get("by_modality", {}).items()]
    rows.append(_cells("all", summary))
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (header, *rows)
    )


def _cells(name: str, part: dict) -> tuple[str, ...]:
    matched = "-" if part["matched_iou"] is None else f"{part['matched_iou']:.3f}"
    counts = (str(part["images"]), str(part["n_truth"]), str(part["matched"]))
    return (
        name,
        *counts,
        f"{part['dsb_score']:.4f}",
        matched,
        f"{part['f1_50']:.3f}",
        f"{part['f1_70']:.3f}",
    )


def _join(scores: Sequence[dict]) -> dict:
    joined: dict = {"images": len(scores)}
    for key in _MEANS:
        joined[key] = sum(row[key] for row in scores) / len(scores)
    for key in ("matched", "n_truth", "n_pred"):
        joined[key] = sum(row[key] for row in scores)
    total = sum(row["matched"] * row["matched_iou"] for row in scores if row["matched"])
    joined["matched_iou"] = total / joined["matched"] if joined["matched"] else None
    return joined


def _ratio(part: int, whole: int, other: int = 0) -> float:
    """part / whole; where whole is 0, 1 if there is nothing on the other side either, and 0 otherwise."""
    if whole:
        return part / whole
    return 0.0 if other else 1.0
