"""Intervals of means."""

import numpy as np
import pytest

from maskseg.evaluation.bootstrap import mean_interval


@pytest.mark.slow
def test_the_interval_is_that_of_the_normal_law_for_many_values():
    values = np.random.default_rng(1).normal(3, 2, 900)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / 30
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_equal_values_have_no_spread_and_a_call_repeats_itself():
    assert mean_interval([0.4] * 7) == pytest.approx((0.4, 0.4))
    assert mean_interval([1, 2, 3, 9]) == mean_interval([1, 2, 3, 9])
