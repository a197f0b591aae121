"""What images without annotations look like in numbers."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.curate import image_statistics
from maskseg.curate.image_statistics import measure_images, small_view
from maskseg.imaging.finding import find_images


def field(kind, level, bright, side=64):
    """A bright square on a dark field, with noise."""
    values = np.random.default_rng(0).normal(level, level / 50, (side, side))
    values[20:40, 20:40] += bright
    return values.astype(kind)


def looks(folder):
    files = find_images([folder])
    return {file.id: look for file, look in zip(files, measure_images(files), strict=True)}


def test_brightness_is_in_the_values_of_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "wide.tif", field(np.uint16, 1000, 5000))
    Image.fromarray(field(np.uint8, 30, 150)).save(tmp_path / "narrow.png")
    tifffile.imwrite(tmp_path / "float.TIF", field(np.float32, 0.1, 0.5))
    found = looks(tmp_path)
    assert {name: (look.container, look.kind) for name, look in found.items()} == {
        "wide": (".tif", "16-bit grey"),
        "narrow": (".png", "8-bit grey"),
        "float": (".tif", "32-bit float grey"),
    }
    for name, background, bright in (("wide", 1000, 6000), ("narrow", 30, 180), ("float", 0.1, 0.6)):
        look = found[name]
        assert look.shape == (64, 64) and look.modality == "white on black"
        assert look.middle == pytest.approx(background, rel=0.1)
        assert look.low < background < 0.8 * bright < look.high


def test_saturated_pixels_are_counted(tmp_path):
    Image.fromarray(np.minimum(field(np.int64, 30, 900), 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert looks(tmp_path)["a"].saturated == pytest.approx(400 / 64**2)


def test_what_cannot_be_read_takes_its_place_by_name(tmp_path):
    Image.fromarray(field(np.uint8, 30, 150)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:100])
    tifffile.imwrite(
        tmp_path / "two.tif", np.stack([field(np.uint16, 100, 900)] * 2), imagej=True, metadata={"axes": "CYX"}
    )
    found = looks(tmp_path)
    assert found["good"].shape == (64, 64)
    for name, why in (("bad", "get it again"), ("two", "--channel")):
        assert isinstance(found[name], InputError)
        assert f"{name}." in str(found[name]) and why in str(found[name])


def test_of_a_very_large_image_the_middle_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(image_statistics, "_LARGEST", 32)
    values = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    tifffile.imwrite(tmp_path / "a.tif", values)
    (file,) = find_images([tmp_path])
    np.testing.assert_array_equal(small_view(file)[..., 0], values[16:48, 32:64])
    assert looks(tmp_path)["a"].shape == (64, 96)
