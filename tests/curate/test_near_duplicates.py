import cv2
import numpy as np
import pytest
from scipy.fft import idctn

from maskseg.curate import near_duplicates as module
from maskseg.curate.near_duplicates import near_duplicates, perceptual_hash, thumbnail
from maskseg.imaging.finding import find_images

COPIES = {
    "as it is": lambda image: image,
    "left to right": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "a quarter turn": np.rot90,
    "transposed": lambda image: image.transpose(1, 0, 2),
    "half as large": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "JPEG": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
    "dim, on a grey background": lambda image: (image * 0.5 + 40).astype(np.uint8),
    "2 % cut off": lambda image: image[len(image) // 50 :, image.shape[1] // 50 :],
}


def nuclei(seed, size=(160, 200), count=25):
    """Soft ellipses at random places on black, as fluorescence shows nuclei."""
    rng = np.random.default_rng(seed)
    image = np.zeros(size, np.uint8)
    for _ in range(count):
        centre = tuple(int(rng.integers(limit)) for limit in size[::-1])
        axes = tuple(int(axis) for axis in rng.integers(6, 12, 2))
        cv2.ellipse(image, centre, axes, float(rng.integers(180)), 0, 360, int(rng.integers(80, 220)), -1)
    return np.repeat(cv2.GaussianBlur(image, (0, 0), 1.5)[:, :, None], 3, axis=2)


@pytest.fixture(scope="module")
def images():
    return [nuclei(seed) for seed in range(30)]


@pytest.fixture(scope="module")
def sample(repository):
    return [file.read() for file in find_images([repository / "datasets" / "sample"])]


@pytest.mark.slow
@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("source", ["images", "sample"])
def test_copies_are_found_and_nothing_else(name, source, request):
    images = request.getfixturevalue(source)
    copies = [np.ascontiguousarray(COPIES[name](image)) for image in images]
    found = near_duplicates([thumbnail(image) for image in images + copies])
    assert [(first, second) for first, second, _ in found] == [(i, i + len(images)) for i in range(len(images))]
    assert all(0.85 <= similarity <= 1.0001 for _, _, similarity in found)


def test_uneven_lighting_makes_no_duplicates(images):
    y, x = np.mgrid[-1:1:160j, -1:1:200j]
    light = (1 - 0.3 * (x**2 + y**2) + 0.2 * x)[:, :, None]
    lit = [((image * 0.5 + 90) * light).astype(np.uint8) for image in images]
    assert near_duplicates([thumbnail(image) for image in lit]) == []


def test_images_without_contrast_are_no_duplicates():
    blank = [np.full((50, 60, 3), value, np.uint8) for value in (0, 0, 128, 255)]
    assert not any(thumbnail(image).any() for image in blank)
    assert near_duplicates([thumbnail(image) for image in blank]) == []
    assert near_duplicates([]) == []


def test_equal_hashes_alone_are_not_enough():
    rng = np.random.default_rng(3)
    waves = rng.normal(size=(2, 32, 32))
    waves[:, :8, :8] = np.sign(waves[0, :8, :8]) * rng.uniform(0.01, 0.5, (2, 8, 8))
    waves[:, 0, 0] = 0
    one, other = (idctn(wave, norm="ortho").astype(np.float32) for wave in waves)
    assert np.array_equal(perceptual_hash(one), perceptual_hash(other))
    assert near_duplicates([one / np.linalg.norm(one), other / np.linalg.norm(other)]) == []


def test_a_thumbnail_is_normal_and_knows_no_brightness(images):
    for image in images[:5]:
        small = thumbnail(image)
        assert small.mean() == pytest.approx(0, abs=1e-5)
        assert np.linalg.norm(small) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(thumbnail(image // 2 + 60), small, atol=0.02)


def test_blocks_do_not_show(images, monkeypatch):
    thumbnails = [thumbnail(image) for image in images[:9] + [image[::-1] for image in images[:9]]]
    whole = near_duplicates(thumbnails)
    monkeypatch.setattr(module, "_BLOCK", 4)
    blocks = near_duplicates(thumbnails)
    assert len(whole) == 9
    assert [pair[:2] for pair in blocks] == [pair[:2] for pair in whole]
