"""The bundled model on pictures of nothing, and on what stands out little from uneven light."""

import cv2
import numpy as np
import pytest

from maskseg.inference.api import load_model

SIDE = 512


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei", ["MODEL.DEVICE", "cpu"])


def grey(values):
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2)


def middle():
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return np.exp(-((np.hypot(x, y) / 0.4) ** 2))


def noise(grain):
    soft = np.random.default_rng(grain).normal(size=(SIDE, SIDE))
    soft = cv2.GaussianBlur(soft, (0, 0), grain) if grain else soft
    return soft / soft.std()


BLANK = {
    "even": np.full((SIDE, SIDE), 77.0),
    **{f"noise of grain {grain}": 40 + 6 * noise(grain) for grain in (0, 1, 2)},
    **{f"vignette of {height}": 20 + height * middle() + noise(0) for height in (30, 60, 150)},
    "bright vignette": 150 + 80 * middle() + 2 * noise(0),
    "light from one side": 20 + 100 * np.linspace(0, 1, SIDE) + noise(0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BLANK)
def test_nothing_is_found_in_nothing(model, name):
    assert len(model.segment(grey(BLANK[name]))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("height", [100, 50, 20, 12])
def test_nuclei_in_uneven_light_are_found_down_to_an_eighth_of_its_span(model, height):
    spots, number = np.zeros((SIDE, SIDE)), 0
    for y in range(40, SIDE - 30, 60):
        for x in range(40, SIDE - 30, 60):
            cv2.circle(spots, (x, y), 8 + number % 6, 1.0, -1)
            number += 1
    picture = 20 + 100 * middle() + 1.5 * noise(0) + height * cv2.GaussianBlur(spots, (0, 0), 1)
    assert len(model.segment(grey(picture))) > 0.7 * number
