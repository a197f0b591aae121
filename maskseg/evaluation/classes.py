"""How well nuclei are told apart by class: panoptic quality of each class, F_d and F_c, which class is taken for which.

Two rules say which predicted nucleus is which true one. For the panoptic quality and the table of confusions it is the
IoU above 0.5; for F_d and F_c it is the distance of the centroids, as Hover-Net's tables have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from maskseg.evaluation.dsb import text_table
from maskseg.evaluation.matching import Overlaps, matches
from maskseg.formats.classes import NUCLEUS

# Pixels up to which two centroids are of one nucleus: Hover-Net's, at a magnification of 40.
RADIUS = 12
MISSED, EXTRA = "missed", "extra"


_SIDES = (lambda image: image.truth, lambda image: image.pred)


@dataclass(frozen=True)
class ClassPairs:
    """The nuclei of one image by class; N true and M predicted ones.

    Attributes
    ----------
    truth, pred : tuples of str (N,), (M,)
        Names of their classes.
    overlapping : int array (K, 2)
        Which true one matches which predicted one, by an IoU above 0.5.
    iou : float64 array (K,)
        Of these.
    near : int array (L, 2)
        Which true one is which predicted one by their centroids.
    """

    truth: tuple[str, ...]
    pred: tuple[str, ...]
    overlapping: NDArray[np.int64]
    iou: NDArray[np.float64]
    near: NDArray[np.int64]


def class_pairs(
    pairs: Overlaps, truth: NDArray[Any], prediction: NDArray[Any], names: tuple[Sequence[str], Sequence[str]]
) -> ClassPairs:
    """The nuclei of an image by class.

    Parameters
    ----------
    pairs : Overlaps
        Of the two label images.
    truth, prediction : integer arrays (H, W)
        Label images.
    names : (sequence of str, sequence of str)
        Classes of the true and of the predicted nuclei; that of label i stands at i - 1.
    """
    own, found = (
        tuple(known[int(label) - 1] for label in labels)
        for known, labels in zip(names, (pairs.truth_labels, pairs.pred_labels), strict=True)
    )
    matched = matches(pairs, 50)
    overlapping = np.stack([pairs.truth_index[matched], pairs.pred_index[matched]], axis=1).astype(np.int64)
    if {*own, *found} <= {NUCLEUS}:
        # Nothing is told apart here, as in most sets: the centroids would take as long as all the rest.
        return ClassPairs(own, found, overlapping, pairs.iou[matched], overlapping)
    close = near(_centroids(truth, pairs.truth_labels), _centroids(prediction, pairs.pred_labels))
    return ClassPairs(own, found, overlapping, pairs.iou[matched], close)


def near(truth: NDArray[np.float64], prediction: NDArray[np.float64], radius: float = RADIUS) -> NDArray[np.int64]:
    """Centroids (N, 2) and (M, 2) paired one to one, none further apart than `radius`: the most pairs that lie closest.

    Returns
    -------
    int array (L, 2)
    """
    if not len(truth) or not len(prediction):
        return np.zeros((0, 2), np.int64)
    table = KDTree(truth).sparse_distance_matrix(KDTree(prediction), radius, output_type="coo_matrix")
    alone = np.arange(len(truth))
    rows, columns = np.concatenate([table.row, alone]), np.concatenate([table.col, len(prediction) + alone])
    # To stay alone is worth least, so that as many as can be are paired.
    gains = np.concatenate([3 - table.data / radius, np.ones(len(truth))])
    shape = (len(truth), len(prediction) + len(truth))
    graph = csr_array((gains, (rows.astype(np.int32), columns.astype(np.int32))), shape=shape)
    first, second = min_weight_full_bipartite_matching(graph, maximize=True)
    chosen = second < len(prediction)
    return np.stack([first[chosen], second[chosen]], axis=1).astype(np.int64)


def _centroids(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean place y, x of the pixels of each label, float64 (N, 2)."""
    y, x = np.nonzero(labels)
    place = np.searchsorted(values, labels[y, x].astype(np.uint64))
    counts = np.maximum(np.bincount(place, minlength=len(values)), 1)
    return np.stack([np.bincount(place, axis, minlength=len(values)) / counts for axis in (y, x)], axis=1)


def class_figures(images: Iterable[ClassPairs | None]) -> dict[str, Any] | None:
    """Figures of a set by class, of all its nuclei together.

    Returns
    -------
    dict or None
        JSON can hold it. `classes`: name -> `n_truth`, `n_pred`, `pq`, `sq`, `rq` (the three of nuclei that have the
        class on both sides, summed over the images as in CoNIC [1]_) and `f_c` [2]_; `mpq_plus`, the mean of `pq` over
        the classes of the truth; `bpq`, the panoptic quality without classes; `f_d`, F1 of the detection [2]_;
        `accuracy`, the share of the matched nuclei whose class is right; `confusion`: true class, or `extra` ->
        predicted class, or `missed` -> number. None where nothing has classes, or the two sides no name in common.

    References
    ----------
    .. [1] Graham et al., CoNIC challenge, Medical Image Analysis 92 (2024) 103047: mPQ+.
    .. [2] Graham et al., Hover-Net, Medical Image Analysis 58 (2019) 101563, section 4.2: F_d, and F_c with the weights
       2, 2, 1, 1.
    """
    known = [image for image in images if image is not None]
    of_truth = dict.fromkeys(name for image in known for name in image.truth)
    of_pred = dict.fromkeys(name for image in known for name in image.pred)
    names = [*sorted(of_truth), *sorted(of_pred.keys() - of_truth.keys())]
    if len(names) < 2 or not of_truth.keys() & of_pred.keys():
        return None
    confusion, quality = _confusion(known, names, by="overlapping"), np.zeros(len(names))
    total = 0.0
    for image in known:
        total += float(image.iou.sum())
        for (i, j), iou in zip(image.overlapping.tolist(), image.iou.tolist(), strict=True):
            if image.truth[i] == image.pred[j]:
                quality[names.index(image.truth[i])] += iou
    nearest = _confusion(known, names, by="near")
    rows = {name: _of_class(confusion, nearest, quality, k) for k, name in enumerate(names)}
    paired = confusion[:-1, :-1]
    n_truth, n_pred = confusion[:-1].sum(), confusion[:, :-1].sum()
    found, true, seen = nearest[:-1, :-1].sum(), nearest[:-1].sum(), nearest[:, :-1].sum()
    own = [rows[name]["pq"] for name in of_truth]
    return {
        "classes": rows,
        "mpq_plus": float(np.mean(own)) if own else None,
        "bpq": float(2 * total / (n_truth + n_pred)),
        "f_d": float(2 * found / (true + seen)),
        "accuracy": float(np.trace(paired) / paired.sum()) if paired.sum() else None,
        "confusion": {
            true_name: {
                name: int(count)
                for name, count in zip([*names, MISSED], row, strict=True)
                if (true_name, name) != (EXTRA, MISSED)
            }
            for true_name, row in zip([*names, EXTRA], confusion, strict=True)
        },
    }


def _confusion(images: Sequence[ClassPairs], names: Sequence[str], by: str) -> NDArray[np.int64]:
    """Numbers (C + 1, C + 1) of pairs by true and predicted class; last, those without a partner."""
    place = {name: k for k, name in enumerate(names)}
    table = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    for image in images:
        truth = np.array([place[name] for name in image.truth], np.int64)
        pred = np.array([place[name] for name in image.pred], np.int64)
        first, second = getattr(image, by).T
        np.add.at(table, (truth[first], pred[second]), 1)
        table[:-1, -1] += np.bincount(np.delete(truth, first), minlength=len(names))
        table[-1, :-1] += np.bincount(np.delete(pred, second), minlength=len(names))
    return table


def _of_class(
    confusion: NDArray[np.int64], nearest: NDArray[np.int64], quality: NDArray[np.float64], k: int
) -> dict[str, Any]:
    n_truth, n_pred, right = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
    both = n_truth + n_pred
    hits = int(nearest[k, k])
    mistaken = int(nearest[k, :-1].sum() + nearest[:-1, k].sum()) - 2 * hits
    alone = int(nearest[k, -1] + nearest[-1, k])
    whole = 2 * hits + 2 * mistaken + alone
    return {
        "n_truth": n_truth,
        "n_pred": n_pred,
        "pq": float(2 * quality[k] / both) if both else None,
        "sq": float(quality[k] / right) if right else None,
        "rq": 2 * right / both if both else None,
        "f_c": 2 * hits / whole if whole else None,
    }


def class_table(figures: dict[str, Any]) -> str:
    """What `class_figures` returns as text: a line a class, and which class is taken for which."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = [["class", "true", "predicted", "PQ", "SQ", "RQ", "F_c"]]
    for name, row in figures["classes"].items():
        counts = [str(row["n_truth"]), str(row["n_pred"])]
        rows.append([name, *counts, *(shown(row[key]) for key in ("pq", "sq", "rq", "f_c"))])
    said = (
        f"mPQ+ {shown(figures['mpq_plus'])}, without classes PQ {shown(figures['bpq'])}, F_d {shown(figures['f_d'])}; "
        f"of the matched nuclei {shown(figures['accuracy'])} have the right class"
    )
    table = figures["confusion"]
    columns = list(next(iter(table.values())))
    confusion = [["true \\ predicted", *columns]]
    confusion += [[name, *(str(row.get(column, "")) for column in columns)] for name, row in table.items()]
    return f"{text_table(rows)}\n{said}\n\n{text_table(confusion)}"


def without_classes(images: Iterable[ClassPairs | None]) -> str:
    """Why a set has no figures by class although one side has classes; "" where neither has."""
    known = [image for image in images if image is not None]
    sides = [sorted({name for image in known for name in side(image)}) for side in _SIDES]
    if max(map(len, sides), default=0) < 2:
        return ""
    truth, pred = (", ".join(names) or "none" for names in sides)
    return (
        f"no figures by class: the truth has {truth}, the prediction {pred}, and no name is in both; "
        "--merge-classes NEW=OLD makes them one"
    )
