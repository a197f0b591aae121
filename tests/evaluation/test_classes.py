"""Figures by class: against the definitions, worked out one by one."""

import json

import numpy as np
import pytest

from maskseg.evaluation.classes import (
    EXTRA,
    MISSED,
    RADIUS,
    class_figures,
    class_pairs,
    class_table,
    near,
    without_classes,
)
from maskseg.evaluation.matching import overlaps
from maskseg.evaluation.results import compare_image


def image(boxes, shape=(40, 200)):
    """A label image of boxes x0, y0, x1, y1."""
    labels = np.zeros(shape, np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = number
    return labels


@pytest.fixture
def case():
    """Right a, right b (IoU 0.8), a taken for b, missed a, extra b."""
    truth = image([(0, 0, 10, 10), (30, 0, 40, 10), (60, 0, 70, 10), (90, 0, 100, 10)])
    pred = image([(0, 0, 10, 10), (30, 0, 40, 8), (60, 0, 70, 10), (120, 20, 130, 30)])
    return truth, pred, (list("abaa"), list("abbb"))


def figures_of(truth, pred, names):
    return class_figures([class_pairs(overlaps(truth, pred), truth, pred, names)])


def test_the_figures_are_those_of_the_papers(case):
    found = figures_of(*case)
    a, b = found["classes"]["a"], found["classes"]["b"]
    # PQ = sum of IoU / (TP + FP / 2 + FN / 2), of one class on both sides.
    assert (a["n_truth"], a["n_pred"], b["n_truth"], b["n_pred"]) == (3, 1, 1, 3)
    assert a["pq"] == pytest.approx(1 / (1 + 2 / 2))
    assert b["pq"] == pytest.approx(0.8 / (1 + 2 / 2))
    assert found["mpq_plus"] == pytest.approx((0.5 + 0.4) / 2)
    assert found["bpq"] == pytest.approx(2.8 / (3 + 0.5 + 0.5))
    # Detected 3 of 4 and 4: F_d. F_c = 2 TP / (2 TP + 2 FP_c + 2 FN_c + FP_d + FN_d).
    assert found["f_d"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert a["f_c"] == pytest.approx(2 / (2 + 2 * 1 + 1))
    assert b["f_c"] == pytest.approx(2 / (2 + 2 * 1 + 1))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["confusion"] == {
        "a": {"a": 1, "b": 1, MISSED: 1},
        "b": {"a": 0, "b": 1, MISSED: 0},
        EXTRA: {"a": 0, "b": 1},
    }
    assert json.loads(json.dumps(found)) == found
    text = class_table(found)
    assert "mPQ+ 0.450" in text and "true \\ predicted" in text


def test_sums_go_over_the_images_and_not_means(case):
    truth, pred, names = case
    one = class_pairs(overlaps(truth, pred), truth, pred, names)
    nothing = np.zeros_like(truth)
    empty = class_pairs(overlaps(nothing, nothing), nothing, nothing, ([], []))
    alone = class_pairs(overlaps(truth, nothing), truth, nothing, (names[0], []))
    assert class_figures([one, empty, None]) == class_figures([one])
    both = class_figures([one, alone])
    assert both["classes"]["a"]["pq"] == pytest.approx(1 / (1 + 5 / 2))
    assert both["confusion"]["a"][MISSED] == 4


def test_the_order_of_labels_does_not_matter(case):
    truth, pred, (own, found) = case
    mirrored = np.where(pred > 0, 5 - pred, 0)
    assert figures_of(truth, mirrored, (own, found[::-1])) == figures_of(truth, pred, (own, found))


def test_one_class_or_no_name_in_common_is_no_table(case):
    truth, pred, (own, _) = case
    pairs = overlaps(truth, pred)
    plain = class_pairs(pairs, truth, pred, (["nucleus"] * 4, ["nucleus"] * 4))
    assert class_figures([plain, None]) is None and without_classes([plain]) == ""
    other = class_pairs(pairs, truth, pred, (own, ["nucleus"] * 4))
    assert class_figures([other]) is None
    assert "a, b" in without_classes([other]) and "--merge-classes" in without_classes([other])
    assert compare_image(truth, pred).classes is None


def test_centroids_are_paired_one_to_one_within_the_radius():
    truth = np.array([[0.0, 0], [0, 10], [100, 0]])
    pred = np.array([[0.0, 8], [0, 19], [100, RADIUS + 0.1]])
    # The second true one lies nearest to the first predicted one, but both are paired.
    assert sorted(map(tuple, near(truth, pred).tolist())) == [(0, 0), (1, 1)]
    assert near(truth, pred[:0]).shape == near(truth[:0], pred).shape == (0, 2)
    rng = np.random.default_rng(0)
    some, others = rng.uniform(0, 60, (30, 2)), rng.uniform(0, 60, (25, 2))
    pairs = near(some, others)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (np.linalg.norm(some[pairs[:, 0]] - others[pairs[:, 1]], axis=1) <= RADIUS).all()
