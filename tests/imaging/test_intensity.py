"""Brightness limits: what moves them, and what does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.imaging import intensity
from maskseg.imaging.exposure import exposures, fixed_limits, normalized
from maskseg.imaging.intensity import in_8_bits, limits, scaled, stretch
from maskseg.imaging.windows import ArraySource, Exposed, source_samples

seeds = st.integers(0, 2**32 - 1)
slow = settings(max_examples=15)


def field(side: int, seed: int, nuclei: int = 8, level: float = 14, contrast: float = 100) -> np.ndarray:
    """Nuclei about the middle of a dark field with noise and a faint uneven background, uint16 (side, side)."""
    rng = np.random.default_rng(seed)
    light = cv2.resize(rng.normal(0, 0.3, (4, 4)), (side, side), interpolation=cv2.INTER_CUBIC)
    image = level + light + rng.normal(0, 1, (side, side))
    image += contrast * placed(side, nuclei, seed)
    return np.clip(np.rint(image * 256), 0, 65535).astype(np.uint16)


def placed(side: int, nuclei: int, seed: int = 0) -> np.ndarray:
    """The nuclei alone, between 0 and 1, on a grid in the middle 256 pixels; the same whatever the side."""
    rng = np.random.default_rng(seed + 1)
    mask = np.zeros((side, side), np.float32)
    for index in range(nuclei):
        row, column = divmod(index, 4)
        place = np.array([column, row]) * 60 + 38 + side // 2 - 128
        axes = rng.integers(8, 14, 2).tolist()
        cv2.ellipse(mask, place.tolist(), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.5, 1)), -1)
    return cv2.GaussianBlur(mask, (0, 0), 1.5)


def shift(found: tuple[float, float], expected: tuple[float, float]) -> float:
    """The greatest difference of limits as a part of their distance."""
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) / (expected[1] - expected[0])


@pytest.mark.slow
@slow
@given(seeds, st.sampled_from([300, 512, 700, 1024, 1500]), st.integers(1, 16))
@example(5480, 300, 11)
def test_more_background_does_not_move_the_limits(seed, side, nuclei):
    assert shift(limits(field(side, seed, nuclei)), limits(field(256, seed, nuclei))) < 0.08


def test_faint_specks_hardly_move_the_limits():
    """They stand out of the noise and cover more than the nuclei do, but have little light."""
    clean, specks = field(512, 5, nuclei=6).astype(np.float64), np.zeros((512, 512), np.float32)
    for place in np.random.default_rng(0).integers(0, 512, (400, 2)).tolist():
        cv2.circle(specks, place, 4, 1.0, -1)
    specks[placed(512, 6, 5) > 0] = 0
    assert shift(limits(clean + 256 * 7 * specks), limits(clean)) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("side", [256, 1024, 2048])
def test_the_nuclei_are_not_clipped_and_the_background_is_dark(side):
    """However few they are: two nuclei in 2048 x 2048 pixels are 0.02 % of them."""
    image = field(side, 7, nuclei=2)
    seen, mask = scaled(image, *limits(image)), placed(side, 2, 7) > 0.4
    assert (seen[mask] == 255).mean() < 0.2  # the noise of the brighter one
    assert np.median(seen[mask]) > 120
    assert np.percentile(seen[placed(side, 2, 7) == 0], 99.9) < 25


# None of them reaches a nucleus.
FILLS = {
    "rows": lambda image, count, value: image.__setitem__(np.s_[:count], value),
    "columns": lambda image, count, value: image.__setitem__(np.s_[:, -count:], value),
    "dead rows": lambda image, count, value: image.__setitem__(np.s_[5 : 5 + 4 * count : 4], value),
    "bar": lambda image, count, value: image.__setitem__(np.s_[-12 - count : -12, 20:140], value),
    "corner": lambda image, count, value: image.__setitem__(np.s_[: 5 * count, : 5 * count], value),
}


@slow
@given(seeds, st.sampled_from(sorted(FILLS)), st.integers(1, 25), st.sampled_from(["zero", "most"]), st.booleans())
def test_fill_values_do_not_move_the_limits(seed, kind, count, value, deep):
    image = field(512, seed, nuclei=6)
    image = image if deep else (image >> 8).astype(np.uint8)
    filled = image.copy()
    FILLS[kind](filled, count, 0 if value == "zero" else np.iinfo(image.dtype).max)
    assert shift(limits(filled), limits(image)) < 0.04


def test_half_an_image_that_was_not_scanned_does_not_move_the_limits():
    image = field(512, 3) + np.uint16(20000)
    wide = np.hstack([image, np.zeros((512, 700), np.uint16)])
    assert shift(limits(wide), limits(image)) < 0.04


def test_a_background_that_was_cut_off_at_zero_is_no_fill():
    """Nuclei on exact zeros: to leave those out would leave nothing but nuclei, of which the darkest became black."""
    image = np.where(placed(256, 16) > 0.3, field(256, 0, 16), 0).astype(np.uint16)
    low, high = limits(image)
    assert low == 0
    assert high > 10000


@slow
@given(seeds, st.integers(2, 7), st.integers(0, 3000), st.sampled_from([np.uint16, np.int32, np.float32]))
def test_limits_scale_with_the_values(seed, factor, offset, kind):
    image = field(256, seed) // 8
    low, high = limits(image)
    found = limits((image.astype(np.int64) * factor + offset).astype(kind))
    assert shift(found, (low * factor + offset, high * factor + offset)) < 1e-3


@slow
@given(seeds)
def test_8_bits_have_the_limits_of_16(seed):
    image = field(400, seed)
    low, high = limits(image)
    found = limits((image >> 8).astype(np.uint8))
    assert np.abs(np.array(found) - np.array([low, high]) / 256).max() <= 1.5


@slow
@given(seeds)
def test_a_negative_has_the_limits_of_its_picture_upside_down(seed):
    image = field(300, seed)
    low, high = limits(image)
    assert shift(limits(65535 - image), (65535 - high, 65535 - low)) < 1e-3


@slow
@given(seeds, st.integers(1, 60))
def test_single_hot_pixels_do_not_move_the_limits(seed, count):
    image = field(256, seed)
    hot = image.copy()
    hot[tuple(np.random.default_rng(seed).integers(0, 256, (2, count)))] = 65535
    assert shift(limits(hot), limits(image)) < 0.04


@pytest.mark.slow
@settings(max_examples=40)
@given(seeds, st.sampled_from([256, 1024]), st.integers(1, 3), st.floats(1.5, 12), st.floats(1, 2.3), st.booleans())
@example(3, 256, 3, 4.0, 1.0, True)
def test_a_few_specks_of_any_brightness_do_not_hide_the_nuclei(seed, side, count, size, power, sharp):
    """Crystals, fibres, dust: sharp discs and such with a halo, five to two hundred times as bright as the nuclei."""
    image, rng = field(side, seed, nuclei=16, contrast=40), np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    speck = np.zeros((side, side))
    for row, column in rng.integers(0, side, (count, 2)):
        distance = np.hypot(y - row, x - column)
        speck += (distance <= size) if sharp and size > 4 else np.exp(-((distance / min(size, 5)) ** 2) / 2)
    dirty = image + 40 * 256 * min(10**power, 5) * speck if sharp else image + 40 * 256 * 10**power * speck
    # Twice the distance leaves the nuclei at half of their brightness.
    assert shift(limits(dirty.astype(np.float32)), limits(image)) < 1.0


def test_few_nuclei_among_more_faint_dirt_are_no_specks():
    clean, dirt = field(512, 5, nuclei=6).astype(np.float64), np.zeros((512, 512), np.float32)
    for place in np.random.default_rng(0).integers(0, 512, (100, 2)).tolist():
        cv2.circle(dirt, place, 6, 1.0, -1)
    dirt[placed(512, 6, 5) > 0] = 0
    assert limits(clean + 256 * 16 * dirt)[1] > 0.8 * limits(clean)[1]


@slow
@given(seeds)
def test_limits_of_what_was_brought_to_8_bits_are_those_of_the_values(seed):
    image = field(256, seed)
    image[:20] = 0
    seen, at_once = stretch(in_8_bits(image, *limits(image))), scaled(image, *limits(image))
    assert np.abs(seen.astype(int) - at_once).max() <= 12


def uneven(side: int) -> np.ndarray:
    """A bright middle, between 0 and 1."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    return np.exp(-((np.hypot(x, y) / 0.4) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("grain", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("side", [128, 512, 1024])
def test_noise_alone_stays_dim(side, grain):
    noise = np.random.default_rng(side + grain).normal(size=(side, side))
    noise = cv2.GaussianBlur(noise, (0, 0), grain) if grain else noise
    seen = stretch(np.rint(60 + 9 * noise / noise.std()).astype(np.uint8))
    assert seen.std() < 7  # a stretch by percentiles makes it 50


@pytest.mark.slow
@pytest.mark.parametrize("height", [20, 60, 150])
@pytest.mark.parametrize("side", [512, 1024])
def test_uneven_light_alone_stays_dim(side, height):
    noise = np.random.default_rng(side).normal(size=(side, side))
    seen = stretch(np.rint(20 + height * uneven(side) + noise).astype(np.uint8))
    assert seen.std() < 25  # a stretch by percentiles makes it 70


def test_an_even_image_is_even():
    for value in (0, 77, 255):
        seen = stretch(np.full((40, 50, 3), value, np.uint8))
        assert seen.min() == seen.max()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (3, 500, 3), (500, 2, 3), (17, 33, 3)])
def test_any_shape_has_limits(shape):
    low, high = limits(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    assert low < high


def test_colours_keep_their_order():
    image = np.dstack([field(256, seed, contrast=60 + 20 * seed) >> 8 for seed in range(3)]).astype(np.uint8)
    seen = stretch(image)
    assert seen.shape == image.shape
    inside = ((seen > 0) & (seen < 255)).all(axis=2)
    assert (np.argsort(seen[inside], axis=1, kind="stable") == np.argsort(image[inside], axis=1, kind="stable")).all()


def test_what_is_no_number_is_left_out():
    image = field(256, 5).astype(np.float32)
    holes = image.copy()
    holes[:20] = np.nan
    assert shift(limits(holes), limits(image)) < 0.04
    assert not scaled(holes, 0, 1)[:20].any()


def in_parts(source, how):
    return Exposed(source, *exposures(lambda: source_samples(source, how), how, "colour"))


@pytest.mark.slow
def test_windows_of_a_source_are_mapped_as_the_whole_image():
    image = np.repeat((field(2300, 9) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    whole, source = normalized(image, "auto", "colour"), in_parts(ArraySource(image), "auto")
    for box in ((0, 0, 300, 200), (1000, 1000, 1500, 1300), (2000, 2000, 2300, 2300)):
        x0, y0, x1, y1 = box
        assert np.abs(source.read(box).astype(int) - whole[y0:y1, x0:x1]).max() <= 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_fixed_limits_are_those_of_the_file(kind):
    values = np.array([[5, 10, 60, 110, 200]]).astype(kind)[..., None]
    expected = [0, 0, 128, 255, 255]
    for seen in (
        normalized(values, "10,110", "colour"),
        in_parts(ArraySource(np.zeros((1, 5, 3), np.uint8), values=values), "10,110").read((0, 0, 5, 1)),
    ):
        assert seen.shape == (1, 5, 3)
        np.testing.assert_array_equal(seen, np.repeat(np.array(expected)[None, :, None], 3, axis=2))


def test_off_leaves_an_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 90, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(normalized(image, "off", "colour"), image)


@pytest.mark.parametrize("how", ["", "on", "5", "7,3", "3,3", "a,b", "1,2,3", "nan,3", "0,inf"])
def test_other_ways_are_refused(how):
    with pytest.raises(InputError, match="give auto, off, or the two values"):
        fixed_limits(how)


@pytest.mark.slow
@pytest.mark.parametrize("radius", [8, 12, 20, 30])
@pytest.mark.parametrize("gap", [4, 10, 20])
@pytest.mark.parametrize("negative", [False, True])
def test_a_dense_layer_of_nuclei_is_no_noise(radius, gap, negative):
    """There are nuclei in every square, even in the quietest."""
    rng = np.random.default_rng(radius + gap)
    image, step = np.zeros((400, 400), np.float32), 2 * radius + gap
    for row, y in enumerate(range(0, 400 + step, step)):
        for x in range(-(row % 2) * step // 2, 400 + step, step):
            cv2.circle(image, (x, y), radius, float(rng.uniform(0.7, 1.3)), -1)
    values = 30 + 120 * cv2.GaussianBlur(image, (0, 0), 1) + rng.normal(0, 2, image.shape)
    values = 255 - values if negative else values
    low, high = limits(np.rint(values.clip(0, 255)).astype(np.uint8))
    dark, bright = np.percentile(values, [5, 95])
    assert high - low < 1.6 * (bright - dark), "the picture keeps its contrast"
    assert low <= dark + 0.1 * (bright - dark)
    assert high >= bright - 0.15 * (bright - dark)


@pytest.mark.parametrize("shape", [(2000, 3000), (8192, 8192), (16384, 16384), (100_000, 80_000), (300_000, 200_000)])
def test_no_image_is_sampled_at_more_than_some_million_places(shape):
    step = intensity.sample_step(shape)
    assert shape[0] * shape[1] / step**2 <= 2048 * 2048
