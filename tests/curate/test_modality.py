import colorsys

import cv2
import numpy as np
import pytest

from maskseg.curate.modality import MODALITIES, colours, infer_modality
from maskseg.data.split import read_modalities
from maskseg.imaging.finding import find_images

# Nuclei and background, as the stains and microscopes of DSB 2018 show them.
COLOURS = {
    "white on black": ((180, 180, 180), (8, 8, 8)),
    "black on white": ((70, 70, 70), (225, 225, 225)),
    "purple on white": ((110, 50, 150), (225, 222, 228)),
    "purple on purple": ((90, 40, 160), (180, 160, 210)),
    "purple on yellow": ((110, 60, 130), (225, 210, 160)),
}


def picture(nuclei, background, size=(120, 150)):
    """Blurred discs over a fifth of the picture, and noise."""
    image = np.full((*size, 3), background, np.uint8)
    for y in range(15, size[0], 30):
        for x in range(15, size[1], 30):
            cv2.circle(image, (x, y), 8, nuclei, -1)
    noise = np.random.default_rng(1).normal(0, 2, image.shape[:2])[:, :, None]
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1) + noise, 0, 255).astype(np.uint8)


def inferred(image):
    return infer_modality(colours(np.ascontiguousarray(image)))


def test_every_modality_has_an_example():
    assert set(COLOURS) == set(MODALITIES)


@pytest.mark.parametrize("name", MODALITIES)
def test_colours_tell_the_modality(name):
    image = picture(*COLOURS[name])
    assert inferred(image) == name
    assert inferred(image.transpose(1, 0, 2)[::-1]) == name
    assert inferred(image[::2, ::2]) == name
    assert inferred(image[:1, :1]) in MODALITIES


def test_the_real_images_of_the_sample_are_told(repository):
    folder = repository / "datasets" / "sample"
    known = read_modalities(folder / "modality.csv")
    images = [file for file in find_images([folder]) if file.id in known]
    assert len({known[file.id] for file in images}) >= 3
    for file in images:
        assert inferred(file.read()) == known[file.id], file.id


@pytest.mark.parametrize("hue", np.linspace(0, 1, 7)[:-1])
def test_fluorescence_is_white_on_black_in_any_colour(hue):
    nuclei = tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.9, 0.9))
    assert inferred(picture(nuclei, (6, 6, 6))) == "white on black"


@pytest.mark.parametrize("tint", [(226, 224, 220), (220, 224, 228)])
def test_a_slight_tint_of_the_lamp_is_no_stain(tint):
    assert inferred(picture((70, 70, 75), tint)) == "black on white"
