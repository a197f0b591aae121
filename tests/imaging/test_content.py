"""What is passed over as empty holds no nucleus."""

import cv2
import numpy as np
import pytest

from maskseg.imaging.content import content


def field(rng, bright):
    """Background with noise, and light that falls off towards one side."""
    shape = tuple(rng.integers(100, 700, 2))
    slope = np.linspace(0, rng.uniform(0, 12), shape[1])[None, :]
    level = rng.uniform(200, 235) if bright else rng.uniform(5, 40)
    return np.repeat((level + slope + rng.normal(0, rng.uniform(0, 2), shape))[..., None], 3, axis=2)


@pytest.mark.slow
@pytest.mark.parametrize("bright", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_a_nucleus_that_a_model_can_see_is_never_passed_over(seed, bright):
    """The least nucleus is of 24 pixels and differs by 5 grey values; wherever it lies, at an edge of a square too."""
    rng = np.random.default_rng(seed)
    image = field(rng, bright)
    height, width = image.shape[:2]
    axes = rng.uniform(2.8, 40, 2) if seed % 2 else (2.8, 2.8)
    x, y = (32 * rng.integers(1, size // 32) + rng.integers(-3, 4) for size in (width, height))
    nucleus = cv2.ellipse(np.zeros((height, width)), (int(x), int(y)), np.rint(axes).astype(int), 0, 0, 360, 1, -1)
    if seed % 3 == 0:  # out of focus
        nucleus = cv2.GaussianBlur(nucleus, (0, 0), min(axes) / 3)
        nucleus /= nucleus.max()
    contrast = rng.uniform(5, 8)
    image += (-1 if bright else 1) * contrast * nucleus[..., None]
    found = content(np.rint(image.clip(0, 255)).astype(np.uint8))
    assert found is not None
    x0, y0, x1, y1 = found
    rows, columns = np.nonzero(nucleus > 0.5)
    assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 17, 240, 255])
def test_background_is_empty_whatever_its_brightness_with_noise_and_uneven_light(level):
    rng = np.random.default_rng(level)
    slope = np.linspace(0, 15, 2000)[None, :, None]
    image = level + slope + rng.normal(0, 1, (600, 2000, 3))
    assert content(np.rint(image.clip(0, 255)).astype(np.uint8)) is None


def test_what_one_colour_alone_shows_counts():
    image = np.full((300, 300, 3), 200, np.uint8)
    image[140:150, 140:150, 1] = 190
    assert content(image) == (96, 96, 192, 192)
