"""Noise of cameras."""

import numpy as np
import pytest

from maskseg.training.noise import add_noise


def test_without_it_nothing_changes_and_nothing_is_drawn():
    image, rng = np.full((20, 20, 3), 90, np.uint8), np.random.default_rng(0)
    assert add_noise(image, rng, 0.0) is image
    assert rng.random() == np.random.default_rng(0).random()


def test_its_probability_and_strengths_are_those_asked_for():
    image = np.full((64, 64, 3), 128, np.uint8)
    changed = [add_noise(image, np.random.default_rng(seed), 0.5) for seed in range(200)]
    spreads = [float(one.std()) for one in changed if one is not image]
    assert 70 <= len(spreads) <= 130
    assert 1 < min(spreads) < 4 and 20 < max(spreads) <= 41
    assert all(abs(float(one.mean()) - 128) < 3 for one in changed)


@pytest.mark.parametrize("seed", range(8))
def test_grey_stays_grey_and_colours_get_noise_of_their_own(seed):
    grey, coloured = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), (100, 101, 102), np.uint8)
    noisy = add_noise(grey, np.random.default_rng(seed), 1.0)
    assert np.array_equal(noisy[..., 0], noisy[..., 1]) and np.array_equal(noisy[..., 0], noisy[..., 2])
    channels = add_noise(coloured, np.random.default_rng(seed), 1.0).reshape(-1, 3).astype(float)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.3


def test_half_of_the_noise_grows_with_the_light():
    image = np.full((64, 64, 3), 9, np.uint8)
    image[32:] = 225
    ratios = []
    for seed in range(40):
        noisy = add_noise(image, np.random.default_rng(seed), 1.0).astype(float)
        ratios.append(noisy[32:].std() / max(noisy[:32].std(), 0.1))
    assert sum(ratio > 3 for ratio in ratios) >= 8 and sum(ratio < 2.5 for ratio in ratios) >= 8
