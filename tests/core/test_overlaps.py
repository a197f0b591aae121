"""Masks that share pixels, against the same on full-size masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskseg.core.masks import CropMasks, trim
from maskseg.core.overlaps import Overlaps, covered, overlaps, overlaps_within

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


@given(stacks, stacks)
def test_pairs_of_two_sets_are_those_of_the_full_masks(a, b):
    assert table(overlaps(crops(a), crops(b))) == dense(a, b)


@given(stacks)
def test_pairs_within_a_set_come_once_and_in_order(masks):
    pairs = overlaps_within(crops(masks))
    assert table(pairs) == {(i, j): value for (i, j), value in dense(masks, masks).items() if i < j}
    places = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert places == sorted(places)


@given(stacks)
def test_covered_is_what_any_mask_has(masks):
    assert (covered(crops(masks)) == masks.any(axis=0)).all()
