"""The augmentation of stains against scikit-image's own colour deconvolution."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed

from maskseg.training.stain import jitter_stain


@pytest.fixture
def tissue() -> np.ndarray:
    """A picture of haematoxylin spots on eosin, uint8 (40, 50, 3)."""
    rng = np.random.default_rng(0)
    hed = np.zeros((40, 50, 3))
    hed[..., 0] = rng.uniform(0.02, 0.12, (40, 50))
    hed[..., 1] = 0.08
    return np.rint(255 * hed2rgb(hed)).astype(np.uint8)


def test_amounts_of_stain_change_and_nothing_else(tissue):
    # To red, green and blue numbered backwards it would not hold.
    before = rgb2hed(tissue)
    after = rgb2hed(jitter_stain(tissue, np.random.default_rng(3), 0.3))
    for stain in (0, 1):
        line = np.polyfit(before[..., stain].ravel(), after[..., stain].ravel(), 1)
        left = after[..., stain] - np.polyval(line, before[..., stain])
        if stain == 0:
            assert 0.7 <= line[0] <= 1.3
            assert np.abs(left).max() < 0.1 * before[..., stain].max()
    assert not np.array_equal(before, after)


def test_a_grey_picture_stays_and_draws_the_same_numbers():
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    colour = grey.copy()
    colour[..., 0] //= 2
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    assert np.array_equal(jitter_stain(grey, first, 0.5), grey)
    assert not np.array_equal(jitter_stain(colour, second, 0.5), colour)
    assert first.uniform() == second.uniform()


def test_off_and_tiny_changes_keep_the_picture(tissue):
    rng = np.random.default_rng(2)
    assert jitter_stain(tissue, rng, 0.0) is tissue
    near = jitter_stain(tissue, rng, 1e-6).astype(int)
    assert np.abs(near - tissue).max() <= 1
