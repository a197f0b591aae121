import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from maskseg.imaging.exposure import exposures, normalized
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source
from maskseg.imaging.stains import absorbance, is_stained
from maskseg.imaging.windows import ArraySource, Exposed, busiest, source_samples

SAMPLE = Path(__file__).parents[2] / "datasets" / "sample"


def modalities():
    with (SAMPLE / "modality.csv").open() as file:
        return [(row["image_id"], row["modality"]) for row in csv.DictReader(file)]


def image_of(name):
    (path,) = SAMPLE.glob(f"*/{name}/images/*.png")
    return np.asarray(Image.open(path).convert("RGB"))


def tissue(side, tone=(200, 120, 180), amounts=(0.9, 0.45, 0.5), seed=0):
    """Dark round nuclei on an even ground; amounts are how much of red, green and blue a nucleus takes away."""
    rng = np.random.default_rng(seed)
    density = np.zeros((side, side))
    for centre in rng.integers(0, side, ((side // 40) ** 2, 2)).tolist():
        cv2.circle(density, centre, 9, 1.0, -1)
    light = np.exp(-density[..., None] * np.array(amounts))
    return np.clip(light * np.array(tone) + rng.normal(0, 3, (side, side, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "modality"), modalities())
def test_every_sample_image_is_known_as_stained_or_not(name, modality):
    assert is_stained(image_of(name)) == modality.startswith("purple")


@pytest.mark.parametrize(
    ("tone", "stained"),
    [
        ((200, 120, 180), True),  # dense tissue without any white
        ((96, 38, 82), True),  # so dark that its lightness is that of fluorescence
        ((150, 110, 90), True),
        ((128, 128, 128), False),
        ((240, 240, 236), True),  # on glass
    ],
)
def test_what_fills_a_picture_with_tissue_is_stained(tone, stained):
    amounts = (0.9, 0.5, 0.3) if stained else (0.5, 0.5, 0.5)
    picture = tissue(256, tone, amounts)
    assert is_stained(picture if stained else picture[..., :1].repeat(3, axis=2)) == stained


def test_stains_of_two_colours_on_black_are_none():
    picture = np.zeros((256, 256, 3), np.uint8)
    seen = 255 - tissue(256, (250, 250, 250))[..., 0]
    picture[..., 2], picture[..., 1] = seen, np.roll(seen, 60, axis=1)
    picture[240:244, 10:60] = 255  # a scale bar
    assert not is_stained(picture)
    np.testing.assert_array_equal(normalized(picture, "auto", "density"), normalized(picture, "auto", "colour"))


def test_absorbance_is_the_logarithm_of_the_light_that_is_left():
    values = np.array([255, 127, 63, 31, 24, 10, 0], np.uint8)
    picture = np.zeros((1, 7, 3), np.uint8)
    picture[0, :, 0] = values
    expected = np.minimum(-110 * np.log((values + 1.0) / 256), 255)
    assert absorbance(picture).shape == (1, 7, 1)
    assert np.abs(absorbance(picture)[0, :, 0] - expected).max() <= 0.5
    assert absorbance(np.full((1, 1, 3), 255, np.uint8))[0, 0, 0] == 0


def test_nuclei_are_bright_on_dark_and_of_one_grey_whatever_the_tone():
    shown = [normalized(tissue(256, tone), "auto", "density") for tone in ((200, 120, 180), (150, 60, 150))]
    truth = tissue(256)[..., 0] < 150
    for one in shown:
        assert (one == one[..., :1]).all()
        assert np.median(one[truth]) > 200 and np.median(one[~truth]) < 60
    assert np.abs(shown[0][truth].mean() - shown[1][truth].mean()) < 20


def test_in_colour_it_stays_as_it_is():
    picture = tissue(128)
    np.testing.assert_array_equal(normalized(picture, "off", "colour"), picture)


@pytest.mark.parametrize("how", ["auto", "off", "20,220"])
def test_grey_is_seen_as_ever(how):
    grey = np.repeat(255 - tissue(200)[..., :1], 3, axis=2)
    np.testing.assert_array_equal(normalized(grey, how, "density"), normalized(grey, how, "colour"))


@pytest.mark.parametrize(("how", "least"), [("off", 0), ("20,220", 20)])
def test_limits_that_are_given_are_those_of_the_colours(how, least):
    picture = tissue(200)
    if how == "off":
        light = picture[..., 0].astype(float)
    else:
        light = np.clip(np.rint((picture[..., 0].astype(float) - least) * 255 / 200), 0, 255)
    expected = np.minimum(-110 * np.log((light + 1) / 256), 255)
    seen = normalized(picture, how, "density")
    assert np.abs(seen[..., 0] - expected).max() <= 2


@pytest.mark.parametrize("how", ["auto", "off", "20,220"])
@pytest.mark.parametrize("glass", [False, True])
def test_windows_are_seen_as_the_whole_image(how, glass):
    picture = tissue(2100)
    if glass:
        # Windows of glass alone, which is grey, have to be shown as glass beside tissue.
        picture[:, 600:] = 255
        picture[1000:1400] = tissue(2100, seed=1)[1000:1400]
    whole, itself = normalized(picture, how, "density"), ArraySource(picture)
    source = Exposed(itself, *exposures(lambda: source_samples(itself, how), how, "density"))
    assert source.exposure.stained
    for box in ((0, 0, 300, 200), (700, 100, 900, 300), (2000, 2000, 2100, 2100)):
        x0, y0, x1, y1 = box
        np.testing.assert_array_equal(source.read(box), whole[y0:y1, x0:x1])
    again = Exposed(ArraySource(picture[:50, :50]), source.exposure)
    np.testing.assert_array_equal(again.read((0, 0, 50, 50)), whole[:50, :50])


@pytest.mark.parametrize(("shape", "side", "step"), [((600, 900), 200, 4), ((90, 70), 200, 2), ((3000, 500), 256, 8)])
def test_the_busiest_part_is_where_most_is_bright(shape, side, step):
    values = np.zeros(shape, np.uint8)
    top, left = shape[0] * 2 // 3, shape[1] // 5
    values[top : top + 60, left : left + 60] = 200
    values[:30, -30:] = 255
    x0, y0, x1, y1 = busiest(values[::step, ::step], shape, side)
    assert (y1 - y0, x1 - x0) == (min(side, shape[0]), min(side, shape[1]))
    assert 0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]
    assert (values[y0:y1, x0:x1] == 200).sum() > 0.9 * (values == 200).sum()


def test_tissue_that_varies_everywhere_is_not_dimmed_as_noise_is():
    # Eight of MoNuSeg's 13 images were shown at a fifth of their contrast.
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(512, 512)), (0, 0), 2)
    shade = np.clip(0.6 + 0.12 * grain / grain.std(), 0.1, 1)[..., None]
    stained = np.rint(shade * (220, 130, 200)).astype(np.uint8)
    grey = np.repeat(stained[..., :1], 3, axis=2)
    for way in ("colour", "density"):
        low, high = np.percentile(normalized(stained, "auto", way), (1, 99))
        assert high - low > 150
    low, high = np.percentile(normalized(grey, "auto", "colour"), (1, 99))
    assert high - low < 50


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_dense_tissue_of_any_kind_of_values_keeps_its_contrast(kind, tmp_path):
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(512, 512)), (0, 0), 2)
    shade = np.clip(0.6 + 0.12 * grain / grain.std(), 0.1, 1)[..., None]
    most = {np.uint8: 255, np.uint16: 4000, np.float32: 0.8}[kind]
    picture = (shade * np.array([0.86, 0.51, 0.78]) * most).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    file = ImageFile("a", tmp_path / "a.tif")
    for read in (file.read(), open_source(file)[0].read((0, 0, 512, 512))):
        low, high = np.percentile(normalized(read, "auto", "colour"), (1, 99))
        assert high - low > 150
        assert len(np.unique(read[..., 0])) > 80, "not squeezed into a few of the 8 bits"
