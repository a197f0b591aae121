"""Multi-label scores: the F1 of each class and their mean, with a threshold for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve
from tabulate import tabulate

from maskseg.evaluation.evaluator import Evaluator
from maskseg.projects.protein.data import CLASSES, class_table


def decide(probabilities: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Classes of N images, bool (N, K): all that reach their thresholds, and the nearest to its own where none does.

    Every image of the competition has a class, so an empty answer would always be wrong.
    """
    nearness = probabilities / np.maximum(thresholds, 1e-12)
    return (nearness >= 1) | (nearness == nearness.max(axis=1, keepdims=True))


def tune_thresholds(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The threshold of each class with the greatest F1 on N images, float32 (K,).

    It lies half-way between two probabilities that occur. A class without a positive among the images keeps 0.5.
    """
    thresholds = np.full(labels.shape[1], 0.5, np.float32)
    for number in np.flatnonzero(labels.any(axis=0)):
        precision, recall, values = precision_recall_curve(labels[:, number], probabilities[:, number])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = f1[:-1].argmax()
        thresholds[number] = np.append(0, values)[best : best + 2].mean()
    return thresholds


class ProteinEvaluator(Evaluator):
    """Macro F1 over all 28 classes, by the thresholds of the model and by those that are best for these images.

    A class without a positive image counts as 0, as scikit-learn and the competition count it: on a few images 1 cannot
    be reached. The table has the mean over the other classes too.
    """

    score = "macro_f1_tuned"
    title = "macro F1, thresholds tuned on these images"

    def measure(self, record: Mapping[str, Any], predictor: Any, tta: str | None = None) -> None:
        """Keep the probabilities of the classes of an image."""
        self._thresholds = predictor.thresholds
        self._rows[record["file_name"]] = (predictor.predict(record["image_id"], record["files"]), record["labels"])

    def summary(self) -> dict[str, Any]:
        """``macro_f1`` and ``macro_f1_tuned``, the tuned ``thresholds``, and each class under ``classes``."""
        rows, targets = zip(*(self._rows[name] for name in sorted(self._rows)), strict=True)
        probabilities, labels = np.stack(rows), class_table(targets)
        tuned = tune_thresholds(probabilities, labels)
        own, best = (
            f1_score(labels, decide(probabilities, thresholds), average=None, zero_division=0)
            for thresholds in (self._thresholds, tuned)
        )
        columns = zip(CLASSES, labels.sum(axis=0).tolist(), own.tolist(), best.tolist(), strict=True)
        return {
            "images": len(labels),
            "macro_f1": float(own.mean()),
            "macro_f1_tuned": float(best.mean()),
            "thresholds": tuned.tolist(),
            "classes": [dict(zip(("name", "images", "f1", "f1_tuned"), row, strict=True)) for row in columns],
        }

    def keep(self, model: Any, summary: Mapping[str, Any]) -> None:
        """The model predicts with the thresholds that were tuned on its validation."""
        model.thresholds.copy_(model.thresholds.new_tensor(summary["thresholds"]))

    def table(self, summary: Mapping[str, Any]) -> str:
        """Figures of the classes that have an image, and the means."""
        there = [row for row in summary["classes"] if row["images"]]
        means = {key: float(np.mean([row[key] for row in there])) for key in ("f1", "f1_tuned")}
        rows = [
            {"name": "class", "images": "images", "f1": "F1", "f1_tuned": "F1, thresholds tuned on these"},
            *there,
            {"name": f"{len(there)} classes with an image", "images": "", **means},
            {"name": f"macro F1, all {len(CLASSES)}", "images": summary["images"],
             "f1": summary["macro_f1"], "f1_tuned": summary["macro_f1_tuned"]},
        ]  # fmt: skip
        return tabulate([list(row.values()) for row in rows], headers="firstrow", floatfmt=".4f")
