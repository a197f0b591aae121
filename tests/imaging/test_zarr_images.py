"""OME-Zarr as programs write it: axes in any order, and several images in one folder."""

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source

zarr = pytest.importorskip("zarr")


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)


def write(path, pixels, axes, version="0.4"):
    """An image of one level, in the order of its axes."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(16,) * pixels.ndim)[:] = pixels
    scale = [{"type": "scale", "scale": [0.5 if axis in "xy" else 1 for axis in axes]}]
    image = {
        "axes": [{"name": axis, **({"unit": "micrometer"} if axis in "xy" else {})} for axis in axes],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}})


@pytest.mark.parametrize("height", [48, 31])
@pytest.mark.parametrize("axes", ["yx", "xy", "cyx", "cxy", "xyc", "ycx", "xcy", "xzy", "tzxcy"])
def test_axes_are_taken_by_their_names_whole_and_in_parts(axes, height, picture, tmp_path):
    """A square image shows its rows and columns exchanged in no other way."""
    sizes = {"y": height, "x": 48, "c": 2, "z": 3, "t": 1}
    full = np.zeros([sizes[axis] for axis in "tzcyx"], np.uint8)
    full[0, 2, 1] = picture[:height]
    full[0, 2, 0] = 255 - picture[:height]
    unused = tuple(k for k, axis in enumerate("tzcyx") if axis not in axes)
    last = full[tuple(-1 if k in unused else slice(None) for k in range(5))]
    kept = [axis for axis in "tzcyx" if axis in axes]
    write(tmp_path / "a.zarr", last.transpose([kept.index(axis) for axis in axes]), axes)
    choice = Choice.parse("1" if "c" in axes else None, "z=2" if "z" in axes else None)
    file = ImageFile("a", tmp_path / "a.zarr", choice=choice)
    np.testing.assert_array_equal(file.read()[..., 0], picture[:height])
    assert file.size() == (height, 48)
    assert file.load().mpp == pytest.approx(0.5)
    source, _, _ = open_source(file)
    for x0, y0, x1, y1 in ((0, 0, 48, height), (5, 3, 40, 20), (17, 9, 33, 31)):
        np.testing.assert_array_equal(source.read((x0, y0, x1, y1))[..., 0], picture[y0:y1, x0:x1])
    if "c" in axes:
        np.testing.assert_array_equal(source.all_values((5, 3, 40, 20))[..., 0], 255 - picture[3:20, 5:40])


def layout(path, pictures, version, listed):
    """A folder as bioformats2raw makes it."""
    root = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    about = {"bioformats2raw.layout": 3}
    root.attrs.update(about if version == "0.4" else {"ome": about})
    names = [str(number) for number in range(len(pictures))]
    for name, pixels in zip(names, pictures, strict=True):
        write(path / name, pixels[None, None, None], "tczyx", version)
    if listed:
        told = {"series": names}
        root.create_group("OME").attrs.update(told if version == "0.4" else {"ome": told})


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_image_of_bioformats2raw_can_be_read(version, listed, picture, tmp_path):
    layout(tmp_path / "one.zarr", [picture], version, listed)
    layout(tmp_path / "two.ome.zarr", [picture, 255 - picture], version, listed)
    (file,) = find_images([tmp_path / "one.zarr"])
    assert file.id == "one"
    np.testing.assert_array_equal(file.read()[..., 0], picture)
    assert file.load().mpp == pytest.approx(0.5)
    (file,) = find_images([tmp_path / "two.ome.zarr"])
    said = r"two\.ome\.zarr: it holds 2 images \(0, 1\); name one of them, such as .*two\.ome\.zarr/0$"
    for call in (file.read, file.size, file.open):
        with pytest.raises(InputError, match=said):
            call()
    files = find_images([tmp_path / "two.ome.zarr" / "1", tmp_path / "two.ome.zarr" / "0", tmp_path / "one.zarr" / "0"])
    assert [file.id for file in files] == ["one_0", "two.ome_0", "two.ome_1"]
    for file, pixels in zip(files, (picture, picture, 255 - picture), strict=True):
        np.testing.assert_array_equal(file.read()[..., 0], pixels)
    assert [file.id for file in find_images([tmp_path])] == ["one", "two.ome"]
    with pytest.raises(InputError, match="no image found"):
        find_images([tmp_path / "two.ome.zarr" / "7"])


def test_a_name_of_a_series_does_not_lead_outside(picture, tmp_path):
    write(tmp_path / "secret", picture, "yx")
    layout(tmp_path / "a.zarr", [], "0.4", True)
    for names in (["../secret"], [str(tmp_path / "secret")], [".."], [7], "0", None, []):
        zarr.open_group(tmp_path / "a.zarr" / "OME", mode="a").attrs.update({"series": names})
        with pytest.raises(InputError, match=r"a\.zarr: no OME-Zarr image that can be read"):
            ImageFile("a", tmp_path / "a.zarr").read()
