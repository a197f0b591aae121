"""The affine map of a training sample, and image and labels under it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage

from maskseg.imaging.scaling import input_scale, resize_image, scaled_shape
from maskseg.models.config import load_config
from maskseg.training.augment import RandomWarp, Warp, warp_image, warp_labels

# Nothing at random but the place.
STILL = RandomWarp(
    long_side=128, shrink=True, window=128, crop_prob=0.0, crop_size=64, scale=(1.0, 1.0), rotate=0.0, flip=False,
    quarter_turns=False,
)  # fmt: skip
SQUARE = np.ones((5, 5))
FULL = replace(STILL, scale=(0.5, 2.0), rotate=15.0, flip=True, quarter_turns=True)


def matrices(warp: RandomWarp, shape: tuple[int, int], count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([warp.draw(shape, rng).matrix for _ in range(count)])


def magnification(maps: np.ndarray) -> np.ndarray:
    return np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])))


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.merge([image] * 3)


def random_picture(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_nothing_to_do_is_the_identity():
    warp = STILL.draw((128, 128), np.random.default_rng(0))
    assert np.allclose(warp.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    image = random_picture((128, 128))
    labels = np.arange(128 * 128).reshape(128, 128) // 3
    assert np.array_equal(warp_image(image, warp, 128), image)
    assert np.array_equal(warp_labels(labels[None], warp, 128), labels[None])


@pytest.mark.parametrize("top", [65535, 70000])
def test_labels_beyond_16_bits_survive(top):
    labels = np.full((2, 128, 128), top)
    assert (warp_labels(labels, STILL.draw((128, 128), np.random.default_rng(0)), 128) == top).all()


def test_a_mere_enlargement_is_that_of_resize():
    image = cv2.GaussianBlur(random_picture((64, 64)), (0, 0), 2)
    warp = STILL.draw((64, 64), np.random.default_rng(0))
    warped = warp_image(image, warp, 128).astype(int)
    resized = cv2.resize(image, (128, 128), interpolation=cv2.INTER_LINEAR).astype(int)
    # The outermost pixel blends with the black outside; a map that is half a pixel off differs all over.
    assert np.abs(warped - resized)[1:-1, 1:-1].max() <= 1
    assert np.abs(np.roll(warped, 1, axis=1) - resized)[1:-1, 2:-1].max() > 5


@pytest.mark.parametrize("shape", [(100, 60), (30, 400), (128, 128)])
@pytest.mark.parametrize("shrink", [True, False])
def test_magnification_is_in_the_stated_range(shape, shrink):
    base = input_scale(shape, FULL.long_side, shrink)
    factors = magnification(matrices(replace(FULL, shrink=shrink), shape)) / base
    assert factors.min() >= 0.5 - 1e-9
    assert factors.max() <= 2 + 1e-9
    # Log-uniform: as many above 1 as below.
    assert factors.min() < 0.55 and factors.max() > 1.85
    assert np.log(factors).mean() == pytest.approx(0, abs=0.07)


def test_turns_stay_within_15_degrees_of_a_quarter_and_come_in_all_eight_orientations():
    linear = matrices(FULL, (100, 60))[:, :, :2]
    mirrored = np.linalg.det(linear) < 0
    quarter, off = quarters(linear)
    assert np.abs(off).max() <= 15 + 1e-6
    assert off.max() > 13 and off.min() < -13
    counts = np.bincount(quarter + 4 * mirrored, minlength=8)
    assert counts.min() > 25, "400 draws over 8 orientations"
    turned = matrices(replace(FULL, flip=False), (100, 60))[:, :, :2]
    assert (np.linalg.det(turned) > 0).all()
    assert np.bincount(quarters(turned)[0], minlength=4).min() > 60, "400 draws over 4 turns"
    upright = matrices(replace(FULL, quarter_turns=False, flip=False), (100, 60), 50)[:, :, :2]
    assert not quarters(upright)[0].any()


def quarters(linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quarter turns and the degrees beside them."""
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    off = (angle + 45) % 90 - 45
    return np.round((angle - off) / 90).astype(int) % 4, off


def test_a_smaller_image_lies_wholly_in_the_sample_and_a_larger_one_fills_it():
    bright = np.full((100, 60, 3), 255, np.uint8)
    small = replace(STILL, scale=(0.5, 0.9), flip=True, quarter_turns=True)
    for matrix in matrices(small, (100, 60), 40):
        area = np.abs(np.linalg.det(matrix[:, :2])) * 100 * 60
        assert warp_image(bright, Warp(matrix), 128)[..., 0].sum() / 255 == pytest.approx(area, rel=0.02)
    large = replace(small, scale=(2.5, 3.0))
    for matrix in matrices(large, (100, 60), 40):
        # Up to half a source pixel at the image's edge blends with the black outside.
        assert warp_image(bright, Warp(matrix), 128)[2:-2, 2:-2].min() == 255


def test_the_place_of_a_larger_image_is_drawn_from_all_of_it():
    # Twice as large as the sample: the corner pixels of the image come in as well as its middle.
    labels = np.arange(128 * 128).reshape(128, 128) + 1
    seen = np.zeros(labels.max() + 1, bool)
    for matrix in matrices(replace(STILL, scale=(2.0, 2.0)), (128, 128), 300):
        seen[warp_labels(labels[None], Warp(matrix), 128)] = True
    assert seen[1:].mean() > 0.98


def test_crops_are_taken_of_bigger_images_only():
    crop = replace(STILL, crop_prob=1.0)
    # 64 source pixels fill the sample of 128: twice the size instead of half of it.
    assert magnification(matrices(crop, (256, 200), 5)) == pytest.approx(2)
    assert magnification(matrices(STILL, (256, 200), 5)) == pytest.approx(0.5)
    assert magnification(matrices(crop, (64, 60), 5)) == pytest.approx(2)
    # Taken anywhere in the image, and never reaching over its edge.
    maps = matrices(crop, (256, 200))
    ends = np.array([[-0.5, 127.5], [-0.5, 127.5]])
    across, down = np.stack([np.linalg.solve(m[:, :2], ends - m[:, 2:]) + 0.5 for m in maps]).transpose(1, 0, 2)
    assert 0 <= across.min() + 1e-9 < 2 and 198 < across.max() - 1e-9 <= 200
    assert 0 <= down.min() + 1e-9 < 2 and 254 < down.max() - 1e-9 <= 256
    halves = magnification(matrices(replace(STILL, crop_prob=0.5), (256, 200), 400)) > 1
    assert 0.4 < halves.mean() < 0.6


def test_config_keys_reach_the_warp():
    assert RandomWarp.from_config(load_config("nuclei_R_101_FPN")) == RandomWarp(
        512, True, 512, 1.0, 256, (0.5, 2.0), 15.0, True, True, 0.5, "uniform", "reflect"
    )


@pytest.mark.slow
def test_image_and_labels_stay_together(nuclei):
    labels = nuclei(1, (200, 150), 40)
    image = grey((labels * 6).astype(np.uint8))
    assert labels.max() == 40
    compared, shifts = 0, []
    for matrix in matrices(FULL, labels.shape, 40):
        warp = Warp(matrix)
        warped, moved = warp_image(image, warp, 128)[..., 0].astype(int), warp_labels(labels[None], warp, 128)[0]
        for value, found in enumerate(ndimage.find_objects(moved), start=1):
            if found is None:
                continue
            whole = moved == value
            inside = ndimage.binary_erosion(whole, SQUARE)
            assert np.abs(warped[inside] - 6 * value).max(initial=0) <= 1
            compared += inside.sum()
            if not whole[[0, -1]].any() and not whole[:, [0, -1]].any() and whole.sum() > 60:
                near = ndimage.binary_dilation(whole, iterations=2)
                weights = np.where(near, warped, 0)
                shifts.append(np.subtract(ndimage.center_of_mass(weights), ndimage.center_of_mass(whole)))
        background = ndimage.binary_erosion(moved == 0, SQUARE)
        assert warped[background].max(initial=0) <= 1
    assert compared > 10_000
    # Not even half a pixel apart: the centres of a nucleus agree in the mean.
    assert len(shifts) > 200
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.05
    assert np.abs(shifts).max() < 0.5


def test_scaling_rules():
    assert input_scale((300, 700), 512, True) == pytest.approx(512 / 700)
    assert input_scale((300, 700), 512, False) == 1
    assert input_scale((200, 256), 512, True) == input_scale((200, 256), 512, False) == 2
    assert scaled_shape((300, 700), 512 / 700) == (219, 512)
    assert scaled_shape((1, 2000), 0.1) == (1, 200)
    image = random_picture((30, 70))
    assert resize_image(image, 1.0) is image
    assert resize_image(image, 2.0).shape == (60, 140, 3)
    # Averaging, so that nothing fine is lost: one bright row in four becomes an even grey.
    stripes = grey(np.tile(np.array([[255], [0], [0], [0]], np.uint8), (16, 64)))
    assert set(resize_image(stripes, 0.25).ravel()) == {64}


REFLECTED = replace(FULL, border="reflect", affine_prob=0.5, scale_draw="uniform", crop_prob=1.0)


def test_magnification_and_rotation_come_together_with_their_probability():
    maps = matrices(replace(REFLECTED, crop_prob=0.0), (128, 128))
    still = np.isclose(magnification(maps), 1) & np.isclose(quarters(maps[:, :, :2])[1], 0)
    assert 0.42 < still.mean() < 0.58
    moved = maps[~still]
    # Uniform in itself: the mean is that of 0.5 and 2.
    assert magnification(moved).mean() == pytest.approx(1.25, abs=0.08)
    assert not np.isclose(quarters(moved[:, :, :2])[1], 0).any()


@pytest.mark.parametrize("shape", [(100, 60), (60, 128), (300, 200)])
def test_with_a_reflected_border_the_canvas_of_the_image_is_filled_and_in_the_middle(shape):
    rng = np.random.default_rng(0)
    bright = np.full((*shape, 3), 255, np.uint8)
    for _ in range(40):
        warp = REFLECTED.draw(shape, rng)
        filled = warp_image(bright, warp, 128)[..., 0] > 0
        x0, y0, x1, y1 = warp.inside
        assert filled[y0:y1, x0:x1].all() and filled.sum() == (y1 - y0) * (x1 - x0)
        assert abs(x0 + x1 - 128) <= 1 and abs(y0 + y1 - 128) <= 1
        longest, turned = max(x1 - x0, y1 - y0), sorted((x1 - x0, y1 - y0))
        assert longest == 128
        taken = sorted(min(side, REFLECTED.crop_size) if max(shape) > 64 else side for side in shape)
        assert turned[0] == pytest.approx(128 * taken[0] / taken[1], abs=1)


def test_the_crop_is_taken_of_the_warped_image():
    # Shrunk to half, a crop shows twice as much of the image: mirror images only where it reaches over the border.
    half = replace(REFLECTED, scale=(0.5, 0.5), rotate=0.0, affine_prob=1.0, flip=False, quarter_turns=False)
    labels = np.arange(400 * 400, dtype=np.int32).reshape(1, 400, 400) + 1
    rng = np.random.default_rng(1)
    sizes = []
    for _ in range(30):
        warp = half.draw((400, 400), rng)
        moved = cv2.warpAffine(
            labels[0].astype(np.float32),
            warp.matrix,
            (128, 128),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REFLECT,
        )
        rows = (moved.astype(np.int64) - 1) // 400
        sizes.append(np.ptp(rows))
    assert max(sizes) == pytest.approx(128, abs=3)


def test_the_mirror_image_of_a_nucleus_is_another_one_unless_they_touch():
    labels = np.zeros((1, 64, 64), np.int32)
    labels[0, 10:20, 10:20] = 1
    labels[0, 0:5, 40:50] = 2
    shifted = Warp(np.array([[1.0, 0, 32], [0, 1, 32]]), (0, 0, 128, 128))
    moved = warp_labels(labels, shifted, 128)[0]
    areas = sorted(np.bincount(moved.ravel())[1:])
    # The first is seen at four places, the second grows together with its mirror image above, at two places each.
    assert len(areas) == len(ndimage.find_objects(moved)) and areas.count(100) >= 3 and 100 in areas
    assert all(ndimage.label(moved == value, SQUARE[:3, :3])[1] == 1 for value in range(1, moved.max() + 1))
