"""Errors by size on drawn nuclei, and intervals over groups."""

import numpy as np
import pytest

from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.results import coco_ap, compare_image, errors_by_size
from maskseg.evaluation.tables import error_table


def drawn():
    """Nine nuclei of 4, 16 and 64 pixels; of the small ones one is missed, of the large two are merged."""
    truth = np.zeros((40, 60), int)
    for i, side in enumerate((2, 2, 2, 4, 4, 4, 8, 8, 8)):
        y, x = 12 * (i // 3), 8 * (i % 3)
        truth[y : y + side, x : x + side] = i + 1
    found = np.where(truth == 1, 0, truth)
    found[found == 8] = 7
    found[35:37, 50:52] = 20
    return truth, found


def test_errors_stand_at_the_size_of_their_nucleus():
    errors = errors_by_size([compare_image(*drawn())])
    at = errors["0.50"]
    assert at["small"] == {"right": 2, "inexact": 0, "merged": 0, "split": 0, "missed": 1, "extra": 1}
    assert at["medium"]["right"] == 3
    assert (at["large"]["right"], at["large"]["merged"]) == (1, 2)
    assert len(error_table(errors).splitlines()) == 7


def test_a_set_without_nuclei_has_no_errors():
    empty = np.zeros((5, 5), int)
    errors = errors_by_size([compare_image(empty, empty)])
    assert not any(sum(row.values()) for iou in ("0.50", "0.70") for row in errors[iou].values())


def test_coco_ap_needs_scores_and_nuclei():
    truth, found = drawn()
    assert coco_ap([compare_image(truth, found)]) is None
    empty = np.zeros((5, 5), int)
    assert coco_ap([compare_image(empty, empty, np.zeros(0))]) is None
    assert coco_ap([compare_image(truth, np.zeros_like(truth), np.zeros(0))])["ap"] == 0


def test_a_wrong_detection_costs_more_the_higher_its_score():
    truth, found = drawn()
    low, high = np.full(20, 0.9), np.full(20, 0.9)
    low[19], high[19] = 0.1, 1.0
    assert coco_ap([compare_image(truth, found, low)])["ap"] > coco_ap([compare_image(truth, found, high)])["ap"]


@pytest.mark.slow
def test_over_groups_the_interval_is_that_of_the_means_of_the_groups():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 1, 40)
    values = np.repeat(level, 10) + rng.normal(0, 0.1, 400)
    groups = np.repeat([f"g{i}" for i in range(40)], 10)
    low, high = mean_interval(values, groups=list(groups))
    assert (high - low) / 2 == pytest.approx(1.96 * level.std() / np.sqrt(40), rel=0.15)
    plain = mean_interval(values)
    assert high - low > 2 * (plain[1] - plain[0])
    # Images without a group are groups of their own.
    assert mean_interval(values, groups=[""] * 400) == pytest.approx(plain)
