"""Kinds of failure on drawn cases, and their counts against the matches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.evaluation.error_types import ErrorType, error_types
from maskseg.evaluation.matching import matches, overlaps


def squares(*boxes, shape=(40, 60)):
    labels = np.zeros(shape, np.int32)
    for value, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = value
    return labels


def at(truth, pred, percent=50):
    found = error_types(overlaps(truth, pred), percent)
    return [ErrorType(kind).name for kind in found.truth], [ErrorType(kind).name for kind in found.pred]


ONE, RIGHT_OF_IT, FAR = (5, 5, 15, 15), (5, 16, 15, 26), (25, 40, 35, 50)


@pytest.mark.parametrize(
    ("truth", "pred", "of_truth", "of_pred"),
    [
        ([ONE], [ONE], ["right"], ["right"]),
        ([ONE], [FAR], ["missed"], ["extra"]),
        ([], [FAR], [], ["extra"]),
        ([ONE], [], ["missed"], []),
        ([ONE], [(5, 5, 15, 9)], ["inexact"], ["inexact"]),
        # Shares 1 of 199 pixels: they have not met.
        ([ONE], [(14, 14, 24, 24)], ["missed"], ["extra"]),
        ([ONE, RIGHT_OF_IT], [(5, 5, 15, 26)], ["merged", "merged"], ["merged"]),
        ([(5, 5, 15, 26)], [ONE, RIGHT_OF_IT], ["split"], ["split", "split"]),
        # A large nucleus that takes a small one in is still right; the small one is lost to it.
        ([(5, 5, 15, 26), (5, 26, 15, 30)], [(5, 5, 15, 30)], ["right", "merged"], ["right"]),
        # A crumb beside a right nucleus: the nucleus is right, the crumb is not a match.
        ([(5, 5, 15, 26)], [(5, 5, 15, 22), (5, 22, 15, 26)], ["right"], ["right", "split"]),
    ],
)
def test_drawn_cases(truth, pred, of_truth, of_pred):
    assert at(squares(*truth), squares(*pred)) == (of_truth, of_pred)


def test_an_outline_that_is_good_enough_for_half_may_be_inexact_at_seven_tenths():
    truth, pred = squares((0, 0, 10, 10)), squares((0, 0, 10, 6))
    assert at(truth, pred, 50) == (["right"], ["right"])
    assert at(truth, pred, 70) == (["inexact"], ["inexact"])


@given(st.integers(0, 2**32 - 1), st.sampled_from([50, 70]))
def test_what_is_right_is_what_matches_and_every_nucleus_has_a_kind_of_its_side(seed, percent):
    rng = np.random.default_rng(seed)

    def draw(count):
        corners = rng.integers(0, (30, 50), (count, 2))
        sizes = rng.integers(2, 14, (count, 2))
        return squares(*np.concatenate([corners, corners + sizes], axis=1).tolist())

    pairs = overlaps(draw(rng.integers(0, 12)), draw(rng.integers(0, 12)))
    found = error_types(pairs, percent)
    count = matches(pairs, percent).sum()
    assert (found.truth == ErrorType.right).sum() == (found.pred == ErrorType.right).sum() == count
    assert len(found.truth) == len(pairs.truth_labels) and len(found.pred) == len(pairs.pred_labels)
    assert not (found.truth == ErrorType.extra).any() and not (found.pred == ErrorType.missed).any()
    # A true nucleus is merged with another one that shares its predicted nucleus.
    assert (found.truth == ErrorType.merged).any() <= (
        (found.pred == ErrorType.merged) | (found.pred == ErrorType.right)
    ).any()
