"""What nobody has looked at is not scored."""

import numpy as np

from maskseg.evaluation.results import compare_image
from maskseg.evaluation.reviewed import counted


def image(boxes):
    labels = np.zeros((30, 80), np.int32)
    for number, (x0, x1) in enumerate(boxes, start=1):
        labels[5:15, x0:x1] = number
    return labels


REGION = np.zeros((30, 80), bool)
REGION[:, :40] = True


def test_only_what_lies_in_the_region_counts():
    # Inside; on the edge, more of it inside; outside.
    truth = image([(5, 15), (34, 44), (60, 70)])
    pred = image([(5, 15), (36, 46), (62, 72), (20, 30)])
    own, found = counted(truth, pred, REGION)
    assert set(np.unique(own)) == {0, 1, 2}
    # The second lies half outside, and matches the true one that counts; the third is out; the fourth is wrong.
    assert set(np.unique(found)) == {0, 1, 2, 4}
    scores = compare_image(truth, pred, region=REGION).scores
    assert (scores["n_truth"], scores["n_pred"], scores["matched"]) == (2, 3, 2)
    assert compare_image(truth, pred).scores["n_pred"] == 4


def test_all_reviewed_is_as_without_a_region():
    truth, pred = image([(5, 15), (60, 70)]), image([(5, 14), (61, 72)])
    everywhere = np.ones_like(REGION)
    assert compare_image(truth, pred, region=everywhere).scores == compare_image(truth, pred).scores
    nowhere = compare_image(truth, pred, region=~everywhere).scores
    assert nowhere["n_truth"] == nowhere["n_pred"] == 0
