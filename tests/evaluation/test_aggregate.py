"""AJI, AJI+, Dice and panoptic quality against their definitions, every mask held in full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from maskseg.evaluation.aggregate import aji, aji_plus, dice, panoptic_quality
from maskseg.evaluation.matching import overlaps

FIGURES = (aji, aji_plus, dice, panoptic_quality)


def draw(rng, count, shape=(40, 50)):
    labels = np.zeros(shape, np.int32)
    for value in range(1, count + 1):
        y, x, h, w = *rng.integers(0, shape), *rng.integers(2, 14, 2)
        labels[y : y + h, x : x + w] = value
    return labels


def masks(labels):
    return [labels == value for value in np.unique(labels) if value]


def jaccard(a, b):
    return (a & b).sum() / (a | b).sum()


def aji_of_the_paper(truth, prediction):
    """Algorithm 1 of Kumar et al. 2017, line by line."""
    nuclei, segments = masks(truth), masks(prediction)
    common, union, used = 0, 0, set()
    for nucleus in nuclei:
        best = max(range(len(segments)), key=lambda k: jaccard(nucleus, segments[k]), default=None)
        if best is None or not (nucleus & segments[best]).any():
            union += nucleus.sum()
            continue
        common += (nucleus & segments[best]).sum()
        union += (nucleus | segments[best]).sum()
        used.add(best)
    union += sum(segment.sum() for k, segment in enumerate(segments) if k not in used)
    return common / union if union else 1.0


def best_sum_of_ious(truth, prediction):
    table = np.array([[jaccard(a, b) for b in masks(prediction)] for a in masks(truth)]).reshape(
        len(masks(truth)), len(masks(prediction))
    )
    return table[linear_sum_assignment(table, maximize=True)].sum()


pairs_of_images = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 15), st.integers(0, 15)).map(
    lambda of: (draw(np.random.default_rng(of[0]), of[1]), draw(np.random.default_rng(of[0] + 1), of[2]))
)


@pytest.mark.slow
@given(pairs_of_images)
def test_aji_is_that_of_the_paper(images):
    assert aji(overlaps(*images)) == pytest.approx(aji_of_the_paper(*images), abs=1e-12)


@pytest.mark.slow
@given(pairs_of_images)
def test_aji_plus_pairs_one_to_one_with_the_highest_sum_of_ious(images):
    from maskseg.evaluation.aggregate import assign

    pairs = overlaps(*images)
    chosen = assign(pairs)
    for index in (pairs.truth_index[chosen], pairs.pred_index[chosen]):
        assert len(set(index.tolist())) == len(index)
    assert pairs.iou[chosen].sum() == pytest.approx(best_sum_of_ious(*images), abs=1e-9)
    whole = (images[0] > 0).sum() + (images[1] > 0).sum() - pairs.intersection[chosen].sum()
    assert aji_plus(pairs) == pytest.approx(pairs.intersection[chosen].sum() / whole if whole else 1)


@pytest.mark.slow
@given(pairs_of_images)
def test_dice_and_panoptic_quality_by_their_definitions(images):
    truth, prediction = images
    pairs = overlaps(*images)
    foreground = (truth > 0).sum() + (prediction > 0).sum()
    both = ((truth > 0) & (prediction > 0)).sum()
    assert dice(pairs) == pytest.approx(2 * both / foreground if foreground else 1)
    matched = [iou for a in masks(truth) for b in masks(prediction) if (iou := jaccard(a, b)) > 0.5]
    count = len(masks(truth)) + len(masks(prediction))
    expected = sum(matched) / (len(matched) + (count - 2 * len(matched)) / 2) if count else 1
    assert panoptic_quality(pairs) == pytest.approx(expected)


def test_a_prediction_over_two_nuclei_counts_twice_in_aji_and_once_in_aji_plus():
    truth = np.repeat([[1, 1, 1, 2, 2]], 2, axis=0)
    pairs = overlaps(truth, np.ones_like(truth))
    assert aji(pairs) == (6 + 4) / (10 + 10)
    assert aji_plus(pairs) == 6 / (10 + 4)


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_for_nothing_is_one_and_nothing_for_something_zero(figure):
    empty, some = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert figure(overlaps(empty, empty)) == 1
    assert figure(overlaps(some, empty)) == figure(overlaps(empty, some)) == 0
    assert figure(overlaps(some, some)) == 1
