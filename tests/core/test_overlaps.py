"""Masks that share pixels, against the same on full-size masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskseg.core.masks import CropMasks, trim
from maskseg.core.overlaps import Overlaps, box_pairs, covered, overlaps, overlaps_within

stacks = arrays(bool, st.tuples(st.integers(0, 5), st.just(7), st.just(9)))


def crops(masks: np.ndarray) -> CropMasks:
    """Masks of a stack, bool (N, H, W)."""
    trimmed = [trim(mask) for mask in masks]
    return CropMasks(
        masks.shape[1:], np.array([box for box, _ in trimmed], np.int32), [bitmap for _, bitmap in trimmed]
    )


def table(pairs: Overlaps) -> dict[tuple[int, int], tuple[int, float]]:
    rows = zip(*(column.tolist() for column in pairs), strict=True)
    return {(i, j): (shared, pytest.approx(iou)) for i, j, shared, iou in rows}


def dense(a: np.ndarray, b: np.ndarray) -> dict[tuple[int, int], tuple[int, float]]:
    places = itertools.product(range(len(a)), range(len(b)))
    return {
        (i, j): (int((a[i] & b[j]).sum()), (a[i] & b[j]).sum() / (a[i] | b[j]).sum())
        for i, j in places
        if (a[i] & b[j]).any()
    }


@pytest.mark.slow
@given(stacks, stacks)
def test_pairs_of_two_sets_are_those_of_the_full_masks(a, b):
    assert table(overlaps(crops(a), crops(b))) == dense(a, b)


@pytest.mark.slow
@given(stacks)
def test_pairs_within_a_set_come_once_and_in_order(masks):
    pairs = overlaps_within(crops(masks))
    assert table(pairs) == {(i, j): value for (i, j), value in dense(masks, masks).items() if i < j}
    places = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert places == sorted(places)


@pytest.mark.slow
@given(stacks)
def test_covered_is_what_any_mask_has(masks):
    assert (covered(crops(masks)) == masks.any(axis=0)).all()


@pytest.mark.parametrize("kind", [np.int32, np.float64])
@pytest.mark.parametrize("seed", range(6))
def test_box_pairs_are_all_that_share_an_area(seed, kind):
    """Boxes of all sizes, some without area, some left of and above the image; many share an edge only."""
    rng = np.random.default_rng(seed)

    def some(count):
        corner, size = rng.integers(-40, 400, (count, 2)), (rng.random((count, 2)) ** 3 * 200).round()
        return np.concatenate([corner, corner + size], 1).astype(kind)

    a, b = some(rng.integers(0, 60)), some(rng.integers(1, 90))
    first, second = box_pairs(a, b)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    expected = np.argwhere((low < high).all(axis=2))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [tuple(pair) for pair in expected.tolist()]
    # By the first, then by the left edge of the second.
    assert (np.diff(first) >= 0).all()
    assert all(np.diff(b[second[first == i], 0]).min(initial=0) >= 0 for i in range(len(a)))
