"""TIFF of several axes: what its description calls them counts, however they are stored."""

import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source

pytestmark = pytest.mark.filterwarnings("ignore:<tifffile:DeprecationWarning")


def whole(path, channel=None, plane=None):
    return ImageFile("a", path, choice=Choice.parse(channel, plane)).read_values()[1]


def tiled(path, channel=None, plane=None):
    """As of the whole, read in two windows."""
    source = open_source(ImageFile("a", path, choice=Choice.parse(channel, plane))).source
    height, width = source.shape
    boxes = (0, 0, 33, height), (33, 0, width, height)
    for box in boxes:
        assert source.read(box).shape == (height, box[2] - box[0], 3)
    return np.concatenate([source.values(box) for box in boxes], axis=1)


both = pytest.mark.parametrize("read", [whole, tiled])
FORMS = {"one piece": {}, "strips": {"compression": "zlib", "rowsperstrip": 7}, "tiles": {"tile": (16, 32)}}
forms = pytest.mark.parametrize("form", FORMS)
NAMES = ["DAPI", "GFP", "RFP", "Cy5", "phase"]


@pytest.fixture
def planes():
    """Dim planes, uint8 (5, 40, 60), of which the second is empty."""
    values = np.random.default_rng(0).integers(0, 90, (5, 40, 60)).astype(np.uint8)
    values[1] = 0
    return values


@pytest.mark.slow
@both
@forms
@pytest.mark.parametrize("count", [3, 4])
def test_channels_that_are_stored_as_the_samples_of_a_picture_are_channels(read, form, count, planes, tmp_path):
    path = tmp_path / "a.tif"
    named = {"axes": "CYX", "Channel": {"Name": NAMES[:count]}}
    tifffile.imwrite(path, planes[:count], metadata=named, **FORMS[form])
    assert tifffile.TiffFile(path).pages[0].photometric == tifffile.PHOTOMETRIC.RGB
    with pytest.raises(InputError, match=rf"{count} channels \(0 DAPI, 1 GFP, 2 RFP.*--channel"):
        read(path)
    for number in range(count):
        for wanted in (NAMES[number], str(number)):
            np.testing.assert_array_equal(read(path, wanted)[..., 0], planes[number])


@pytest.mark.slow
@both
@forms
@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
@pytest.mark.parametrize("count", [3, 4])
def test_planes_that_are_stored_as_the_samples_of_a_picture_are_planes(read, form, axes, count, planes, tmp_path):
    path, axis = tmp_path / "a.tif", axes[0].lower()
    tifffile.imwrite(path, planes[:count], metadata={"axes": axes}, **FORMS[form])
    with pytest.raises(InputError, match=f"{count} {'planes' if axis == 'z' else 'times'}; choose with --plane"):
        read(path)
    for number in range(count):
        np.testing.assert_array_equal(read(path, plane=f"{axis}={number}")[..., 0], planes[number])
    np.testing.assert_array_equal(read(path, plane=f"{axis}=max")[..., 0], planes[:count].max(axis=0))


@pytest.mark.slow
@both
@forms
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZYX"])
def test_samples_are_one_axis_beside_that_of_the_pages(read, form, axes, planes, tmp_path):
    path = tmp_path / "a.tif"
    stack = np.stack([planes[:3], planes[:3] + 1])
    tifffile.imwrite(path, stack, metadata={"axes": axes}, **FORMS[form])
    for first in range(2):
        for second in range(3):
            at = {axes[0].lower(): first, axes[1].lower(): second}
            plane = ",".join(f"{axis}={number}" for axis, number in at.items() if axis != "c")
            channel = str(at["c"]) if "c" in at else None
            if channel and first + second == 0:
                with pytest.raises(InputError, match=r"holds [23] channels"):
                    read(path, plane=plane)
            np.testing.assert_array_equal(read(path, channel, plane)[..., 0], stack[first, second])


@both
@pytest.mark.parametrize(
    "metadata", [{"axes": "SYX"}, {}, {"axes": "CYX", "Channel": {"Name": ["Red", "green", "BLUE"]}}]
)
def test_what_is_described_as_colours_or_not_at_all_stays_colours(read, metadata, planes, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", planes[:3], photometric="rgb", planarconfig="separate", metadata=metadata)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.moveaxis(planes[:3], 0, 2))
    axes = {"axes": metadata["axes"].replace("YX", "").join(["YX", ""])} if metadata else {}
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(planes[:3], 0, 2), photometric="rgb", metadata=metadata | axes)
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), np.moveaxis(planes[:3], 0, 2))


@both
@pytest.mark.parametrize("axes", ["YXC", "CYX"])
@pytest.mark.parametrize("jpeg", [False, True])
def test_transmitted_light_is_colour_whatever_its_axes_are_called(read, axes, jpeg, planes, tmp_path):
    light = 255 - np.moveaxis(planes[:3], 0, 2)
    stored = light if axes == "YXC" else np.moveaxis(light, 2, 0)
    more = {"compression": "jpeg", "compressionargs": {"level": 100}} if jpeg else {}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", metadata={"axes": axes}, **more)
    values = read(tmp_path / "a.tif")
    assert values.shape == light.shape
    if not jpeg:
        np.testing.assert_array_equal(values, light)


LAST = {"YXC": (), "ZYXC": (2,), "YXZ": (), "CYXZ": (2,)}


@pytest.mark.slow
@both
@forms
@pytest.mark.parametrize("axes", LAST)
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("contig", [False, True])
def test_channels_and_planes_after_the_columns(read, form, axes, count, contig, planes, tmp_path):
    path, last = tmp_path / "a.tif", axes[-1].lower()
    values = np.moveaxis(planes[5 - count :], 0, 2)
    stack = np.stack([values, values + 1]) if LAST[axes] else values
    more = {"photometric": "minisblack", "planarconfig": "contig"} if contig else {}
    names = NAMES[:count] if last == "c" else ["a", "b"]
    tifffile.imwrite(path, stack, metadata={"axes": axes, "Channel": {"Name": names}}, **more, **FORMS[form])
    for first in range(2 if LAST[axes] else 1):
        at = {axes[0].lower(): first} if LAST[axes] else {}
        plane = ",".join(f"{axis}={number}" for axis, number in at.items() if axis != "c") or None
        channel = str(first) if "c" in at else None
        said = rf"{count} channels \(0 DAPI, 1 GFP" if last == "c" else rf"{count} (planes|times); choose"
        with pytest.raises(InputError, match=said):
            read(path, channel, plane)
        for number in range(count):
            expected = (stack[first] if LAST[axes] else stack)[..., number]
            if last == "c":
                np.testing.assert_array_equal(read(path, str(number), plane)[..., 0], expected)
                np.testing.assert_array_equal(read(path, NAMES[number].lower(), plane)[..., 0], expected)
            else:
                both_axes = ",".join(filter(None, [plane, f"{last}={number}"]))
                np.testing.assert_array_equal(read(path, channel, both_axes)[..., 0], expected)


@both
def test_one_channel_of_five_that_holds_something_is_taken_where_channels_come_last(read, planes, tmp_path):
    values = np.zeros((40, 60, 5), np.uint8)
    values[..., 2] = planes[0]
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "YXC"})
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], planes[0])


@both
@pytest.mark.parametrize("axes", ["YXCZ", "YCX", "XYC"])
def test_axes_in_an_order_that_is_not_known_are_refused(read, axes, planes, tmp_path):
    values = planes.reshape(40, 60, 5) if len(axes) == 3 else planes.reshape(40, 30, 2, 5)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata={"axes": axes})
    with pytest.raises(InputError, match=f"along the axes {axes}; save one plane"):
        read(tmp_path / "a.tif")


@both
def test_every_channel_is_measured(read, planes, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", planes[:4], metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(planes, 0, 2), metadata={"axes": "YXC"})
    for path, count in ((tmp_path / "a.tif", 4), (tmp_path / "b.tif", 5)):
        file = ImageFile("a", path, choice=Choice.parse("2"))
        every = file.load().every if read is whole else open_source(file).source
        np.testing.assert_array_equal(every.all_values((3, 5, 50, 30)), np.moveaxis(planes[:count, 5:30, 3:50], 0, 2))


def one_named(path, pixels, name, kind):
    if kind == "ImageJ":
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"[-pixels.ndim :], "Labels": name})
    else:
        metadata = {"axes": "ZYX"[-pixels.ndim :], "Channel": {"Name": name}}
        tifffile.imwrite(path, pixels, photometric="minisblack", ome=kind == "OME", metadata=metadata)


@pytest.mark.slow
@both
@pytest.mark.parametrize("kind", ["OME", "ImageJ", "tifffile"])
def test_the_only_channel_has_its_name(read, kind, planes, tmp_path):
    path = tmp_path / "a.tif"
    one_named(path, planes[0], ["DAPI"], kind)
    for wanted in (None, "DAPI", "dapi", "0"):
        np.testing.assert_array_equal(read(path, wanted)[..., 0], planes[0])
    one_named(path, planes[0], ["GFP"], kind)
    with pytest.raises(InputError, match=r"--channel DAPI: its channels are 0 GFP; choose one of them"):
        read(path, "DAPI")
    one_named(path, planes, ["DAPI"] * 5 if kind == "ImageJ" else ["DAPI"], kind)
    np.testing.assert_array_equal(read(path, "DAPI", "z=3")[..., 0], planes[3])


@both
def test_the_only_channel_without_a_name_has_its_number(read, planes, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", planes[0])
    tifffile.imwrite(tmp_path / "b.tif", planes, imagej=True, metadata={"axes": "ZYX", "Labels": list("abcde")})
    for path, plane in ((tmp_path / "a.tif", None), (tmp_path / "b.tif", "z=0")):
        np.testing.assert_array_equal(read(path, "0", plane)[..., 0], planes[0])
        with pytest.raises(InputError, match="--channel a: its channels are 0; choose one of them"):
            read(path, "a", plane)


@both
@pytest.mark.parametrize("form", ["strips", "tiles"])
def test_the_table_of_an_imagej_image_is_for_display_only(read, form, planes, tmp_path):
    path = tmp_path / "a.tif"
    values = planes[0] * 2
    red = np.zeros((3, 256), np.uint16)
    red[0], red[1] = np.arange(256) * 257, np.arange(256)[::-1] * 257
    more = {"photometric": "palette", "colormap": red, "metadata": None, **FORMS[form]}
    tifffile.imwrite(path, values, description="ImageJ=1.53t\nimages=1\n", **more)
    found = read(path)
    assert found.shape == (40, 60, 1)
    np.testing.assert_array_equal(found[..., 0], values)
    # Palettes of other programs are colours.
    tifffile.imwrite(path, values, **more)
    np.testing.assert_array_equal(read(path)[..., 1], 255 - values)
