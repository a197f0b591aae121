import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maskseg.curate import groups as module
from maskseg.curate.groups import acquisition_features, acquisition_groups, inseparable

# Background, blur and size: three microscopes.
ACQUISITIONS = ((4, 1, (120, 160)), (20, 1, (120, 160)), (4, 4, (120, 160)), (4, 1, (200, 200)))


def shot(background, blur, size, seed):
    """An image of an acquisition: its own nuclei, the same camera."""
    rng = np.random.default_rng(seed)
    image = np.full(size, background, np.float32)
    for _ in range(int(rng.integers(12, 20))):
        centre = tuple(int(rng.integers(limit)) for limit in size[::-1])
        cv2.circle(image, centre, int(rng.integers(6, 10)), float(rng.uniform(100, 200)), -1)
    image = cv2.GaussianBlur(image, (0, 0), blur) + rng.normal(0, 1, size)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def partition(groups):
    """The sets of places with the same group."""
    return {frozenset(np.flatnonzero(np.array(groups) == name).tolist()) for name in set(groups)}


@pytest.fixture(scope="module")
def features():
    """Of 24 images, six of each acquisition in turn."""
    return np.stack([acquisition_features(shot(*ACQUISITIONS[n % 4], seed=n)) for n in range(24)])


def test_acquisitions_are_told_apart_whatever_the_nuclei(features):
    groups = acquisition_groups(features, ["white on black"] * 24)
    assert partition(groups) == {frozenset(range(n, 24, 4)) for n in range(4)}
    assert groups[:4] == ["1", "2", "3", "4"]


def test_groups_do_not_depend_on_the_order(features):
    order = np.random.default_rng(2).permutation(24)
    groups = acquisition_groups(features[order], ["a"] * 24)
    assert {frozenset(order[list(members)].tolist()) for members in partition(groups)} == partition(
        acquisition_groups(features, ["a"] * 24)
    )


def test_a_large_set_is_grouped_by_a_sample(features, monkeypatch):
    whole = acquisition_groups(features, ["a"] * 24)
    # Every third of 24, which has images of each acquisition.
    monkeypatch.setattr(module, "_SAMPLE", 9)
    assert acquisition_groups(features, ["a"] * 24) == whole


def test_modalities_are_never_in_one_group():
    groups = acquisition_groups(np.zeros((6, 3)), ["a", "b", "a", "b", "c", "a"])
    assert partition(groups) == {frozenset({0, 2, 5}), frozenset({1, 3}), frozenset({4})}


@pytest.mark.slow
@given(
    features=arrays.arrays(float, (20, 2), elements=st.floats(-5, 5)),
    mosaics=st.lists(st.sampled_from(["", "m", "n"]), min_size=20, max_size=20),
    modalities=st.lists(st.sampled_from(["a", "b"]), min_size=20, max_size=20),
    duplicates=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=4),
)
def test_mosaics_and_near_duplicates_stay_together(features, mosaics, modalities, duplicates):
    groups = acquisition_groups(features, modalities, mosaics, duplicates)
    assert len(groups) == 20
    for name in ("m", "n"):
        assert len({group for group, mosaic in zip(groups, mosaics, strict=True) if mosaic == name}) <= 1
    assert all(groups[first] == groups[second] for first, second in duplicates)
    fewer = acquisition_groups(features, modalities, mosaics, duplicates, distance=4)
    assert all(any(small <= large for large in partition(fewer)) for small in partition(groups))


def test_what_is_inseparable_is_followed_through():
    units = inseparable(6, ["m", "", "m", "", "", ""], [(2, 4), (4, 5)])
    assert partition(units) == {frozenset({0, 2, 4, 5}), frozenset({1}), frozenset({3})}
    assert len(set(inseparable(3))) == 3


def test_features_are_those_of_the_camera_however_it_is_held():
    image = shot(*ACQUISITIONS[0], seed=7)
    expected = acquisition_features(image)
    for other in (image[:, ::-1], image[::-1], image.transpose(1, 0, 2)):
        np.testing.assert_allclose(acquisition_features(np.ascontiguousarray(other)), expected, atol=0.15)


@pytest.mark.parametrize("size", [(1, 1), (2, 70), (40, 50)])
def test_a_blank_image_has_features_too(size):
    assert np.isfinite(acquisition_features(np.zeros((*size, 3), np.uint8))).all()


def test_no_images_make_no_groups():
    assert acquisition_groups(np.zeros((0, 11)), []) == []
