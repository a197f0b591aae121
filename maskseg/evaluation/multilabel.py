"""Multi-label scores: the F1 of each class and their mean, with a threshold for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve

from maskseg.data.protein import CLASSES, class_table
from maskseg.evaluation.evaluator import Evaluator


def decide(probabilities: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Classes of N images, bool (N, K): all that reach their thresholds, and the nearest to its own where none does.

    Every image of the competition has a class, so an empty answer would always be wrong.
    """
    nearness = probabilities / np.maximum(thresholds, 1e-12)
    return (probabilities >= thresholds) | (nearness == nearness.max(axis=1, keepdims=True))


def tune_thresholds(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The threshold of each class with the greatest F1 on N images, float32 (K,).

    It lies half-way between two probabilities that occur. A class without a positive among the images keeps 0.5.
    """
    thresholds = np.full(labels.shape[1], 0.5, np.float32)
    for number in np.flatnonzero(labels.any(axis=0)):
        precision, recall, values = precision_recall_curve(labels[:, number], probabilities[:, number])
        f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
        thresholds[number] = np.append(0, values)[f1.argmax() : f1.argmax() + 2].mean()
    return thresholds


def class_f1(labels: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of each class, float64 (K,): 0 for a class without a positive, as on Kaggle."""
    return f1_score(labels, predicted, average=None, zero_division=0)


class ProteinEvaluator(Evaluator):
    """Macro F1 over all 28 classes, with the thresholds of the model and with those that are best for these images.

    As in the competition, a class without a positive image counts as 0, also where nobody predicts it: on a few images
    1 cannot be reached. The mean over the classes that have a positive stands beside it.
    """

    score = "macro_f1_tuned"
    title = "macro F1, thresholds tuned on the same images"

    def measure(self, record: Mapping[str, Any], predictor: Any, flip: bool | None = None) -> None:
        """Keep the probabilities of the classes of an image."""
        self._thresholds = predictor.thresholds
        self._rows[record["file_name"]] = (predictor.predict(record["image_id"], record["files"]), record["labels"])

    def summary(self) -> dict[str, Any]:
        """``macro_f1`` (the model's thresholds), ``macro_f1_tuned``, and a row for each class under ``classes``."""
        probabilities, targets = zip(*(self._rows[name] for name in sorted(self._rows)), strict=True)
        probabilities, labels = np.stack(probabilities), class_table(targets)
        tuned = tune_thresholds(probabilities, labels)
        own, best = (class_f1(labels, decide(probabilities, thresholds)) for thresholds in (self._thresholds, tuned))
        there = labels.any(axis=0)
        return {
            "images": len(labels),
            "macro_f1": float(own.mean()),
            "macro_f1_tuned": float(best.mean()),
            "macro_f1_of_present": float(own[there].mean()),
            "macro_f1_tuned_of_present": float(best[there].mean()),
            "thresholds": tuned.tolist(),
            "classes": [
                {"name": name, "images": int(images), "f1": float(f1), "f1_tuned": float(f1_tuned)}
                for name, images, f1, f1_tuned in zip(CLASSES, labels.sum(axis=0), own, best, strict=True)
            ],
        }

    def keep(self, model: Any, summary: Mapping[str, Any]) -> None:
        """The model predicts with the thresholds that were tuned on its validation."""
        model.thresholds.copy_(model.thresholds.new_tensor(summary["thresholds"]))

    def table(self, summary: Mapping[str, Any]) -> str:
        """Figures of the classes that have an image, and their means."""
        present = [row for row in summary["classes"] if row["images"]]
        rows = [
            *((row["name"], row["images"], row["f1"], row["f1_tuned"]) for row in present),
            (f"{len(present)} classes with an image", "", summary["macro_f1_of_present"],
             summary["macro_f1_tuned_of_present"]),
            (f"macro F1, all {len(CLASSES)}", summary["images"], summary["macro_f1"], summary["macro_f1_tuned"]),
        ]  # fmt: skip
        head = f"{'class':32s} {'images':>6s} {'F1':>8s} {'F1, thresholds tuned on these':>30s}"
        return "\n".join([head, *(f"{name:32s} {n!s:>6s} {f1:8.4f} {tuned:30.4f}" for name, n, f1, tuned in rows)])
