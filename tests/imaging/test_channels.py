"""Which channel and plane is looked at, and what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice, Chosen
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import open_source
from maskseg.imaging.stored import ArrayStored


@pytest.fixture(scope="module")
def stain():
    """Blurred spots on black, uint8 (90, 120)."""
    spots = np.zeros((90, 120))
    spots.flat[np.random.default_rng(0).integers(0, spots.size, 30)] = 1
    smooth = gaussian_filter(spots, 4)
    return np.rint(smooth * (250 / smooth.max())).astype(np.uint8)


COLOURS = {"blue": (0, 0, 1), "green": (0, 1, 0), "red": (1, 0, 0), "cyan": (0, 1, 1), "magenta": (1, 0, 1),
           "yellow": (1, 1, 0), "the blue of ZEN": (0, 0.63, 1), "orange": (1, 0.5, 0),
           "a pale blue": (0.4, 0.6, 1)}  # fmt: skip


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("colour", COLOURS)
def test_one_stain_in_one_colour_is_grey(colour, ending, stain, tmp_path):
    pixels = np.rint(stain[..., None] * np.array(COLOURS[colour])).astype(np.uint8)
    pixels[80:84, 90:115] = 255  # a scale bar
    options = {"quality": 97, "subsampling": 0} if ending == "jpg" else {}
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", **options)
    read = read_image(tmp_path / f"a.{ending}")
    assert (read == read[..., :1]).all()
    assert np.abs(read[..., 0].astype(int) - pixels.max(axis=2)).max() <= (25 if ending == "jpg" else 0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (89, 119)])
def test_a_value_that_is_no_number_does_not_keep_a_stain_from_being_grey(place, odd, stain, tmp_path):
    pixels = np.dstack([stain * 0, stain * 0, stain]).astype(np.float32)
    plain = Chosen(ArrayStored(pixels)).values(0, (0, 0, 120, 90))
    assert plain.shape[2] == 1
    for channels in ([0, 1, 2], [2], [0]):
        changed = pixels.copy()
        changed[place][channels] = odd
        tifffile.imwrite(tmp_path / "a.tif", changed, photometric="rgb")
        read = ImageFile("a", tmp_path / "a.tif").load()
        assert read.values.shape[2] == 1
        different = read.values[..., 0] != plain[..., 0]
        assert different.sum() == different[place] <= 1
        source, _, _ = open_source(ImageFile("a", tmp_path / "a.tif"))
        np.testing.assert_array_equal(source.read((0, 0, 120, 90)), read.image)


def test_two_stains_and_transmitted_light_stay_colours(stain):
    two = np.dstack([np.roll(stain, 40, axis=1), stain * 0, stain])
    tissue = np.dstack([255 - stain // 3, 255 - stain, 255 - stain // 2])
    dense = np.dstack([170 - stain // 3, 90 - stain // 4, 150 - stain // 2])
    for pixels in (two, tissue, dense, np.dstack([stain] * 3)):
        chosen = Chosen(ArrayStored(pixels))
        np.testing.assert_array_equal(chosen.values(0, (0, 0, 120, 90)), pixels)


@pytest.mark.parametrize("colour", [(139, 64, 99), (112, 49, 98), (235, 100, 150)])
def test_tissue_that_fills_a_picture_in_one_tone_is_no_fluorescence(colour, stain):
    # As in NuInsSeg, whose organs were read in part by their red channel: nuclei are a darker shade of the same tone.
    pixels = np.rint((1 - 0.6 * stain[..., None] / 255) * np.array(colour)).astype(np.uint8)
    large = np.tile(pixels, (18, 14, 1))
    for shown in (pixels, large):
        assert Chosen(ArrayStored(shown)).values(0, (0, 0, 120, 90)).shape[2] == 3


def test_a_pale_colour_on_black_is_grey_where_its_first_places_are_full(stain):
    pixels = np.zeros((1600, 1600, 3), np.uint8)
    pixels[:900] = np.rint(np.tile(stain, (10, 14))[:900, :1600, None] / 4 * (0.4, 0.6, 1) + (76, 115, 191))
    assert Chosen(ArrayStored(pixels)).values(0, (0, 0, 120, 90)).shape[2] == 1


def test_a_rare_second_stain_keeps_an_image_in_colour(stain):
    pixels = np.dstack([stain * 0, stain * 0, stain])
    pixels[10:20, 10:30, 0], pixels[10:20, 10:30, 2] = 200, 0
    assert Chosen(ArrayStored(pixels)).values(0, (0, 0, 120, 90)).shape[2] == 3


def composite(path, planes, **options):
    tifffile.imwrite(path, planes, photometric="minisblack", **options)


def test_channels_are_chosen_by_name_and_number(stain, tmp_path):
    planes = np.stack([stain // 2, stain, stain // 3]).astype(np.uint16)
    names = {"Labels": ["DAPI", "GFP", "Cy 5"], "axes": "CYX", "mode": "composite"}
    composite(tmp_path / "a.tif", planes, imagej=True, metadata=names)
    named = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy 5"]}}
    composite(tmp_path / "b.ome.tif", planes, ome=True, metadata=named)
    for path in (tmp_path / "a.tif", tmp_path / "b.ome.tif"):
        with pytest.raises(InputError, match=r"3 channels \(0 DAPI, 1 GFP, 2 Cy 5\); choose .*--channel"):
            read_image(path)
        for wanted, number in (("dapi", 0), ("GFP", 1), ("cy 5", 2), ("2", 2)):
            file = ImageFile("a", path, choice=Choice.parse(wanted))
            image, values = file.read_values()
            np.testing.assert_array_equal(values[..., 0], planes[number])
            source = open_source(file).source
            np.testing.assert_array_equal(source.read((3, 4, 50, 60)), image[4:60, 3:50])
        for wanted in ("3", "RFP", "-1"):
            with pytest.raises(InputError, match=r"--channel .*: its channels are 0 DAPI"):
                ImageFile("a", path, choice=Choice.parse(wanted)).read()
    Image.fromarray(np.dstack([stain, stain // 2, stain // 3])).save(tmp_path / "c.png")
    image = ImageFile("c", tmp_path / "c.png", choice=Choice.parse("green")).read()
    np.testing.assert_array_equal(image[..., 1], stain // 2)


def test_alpha_is_alpha_only_where_the_file_says_so(stain, tmp_path):
    two = np.dstack([stain, stain[::-1]])
    tifffile.imwrite(tmp_path / "a.tif", two, photometric="minisblack", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], stain)
    tifffile.imwrite(tmp_path / "a.tif", two, photometric="minisblack", extrasamples=["unspecified"])
    with pytest.raises(InputError, match="2 channels"):
        read_image(tmp_path / "a.tif")
    opaque = np.dstack([stain, stain // 2, stain[::-1], np.full_like(stain, 255)])
    tifffile.imwrite(tmp_path / "a.tif", opaque, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), opaque[..., :3])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("plane", ["z=max", "z=mean", "z=2", "z=max,t=1", "z=1,t=mean"])
def test_planes_are_chosen_and_projected(plane, kind, tmp_path):
    stack = np.random.default_rng(0).integers(0, 256, (2, 4, 30, 50)).astype(kind)
    series = "t" in plane
    values = stack if series else stack[0]
    composite(tmp_path / "a.ome.tif", values, ome=True, metadata={"axes": "TZYX" if series else "ZYX"}, tile=(16, 32))
    expected = {
        "z=max": stack[0].max(axis=0), "z=mean": stack[0].mean(axis=0), "z=2": stack[0, 2],
        "z=max,t=1": stack[1].max(axis=0), "z=1,t=mean": stack[:, 1].mean(axis=0),
    }[plane]  # fmt: skip
    file = ImageFile("a", tmp_path / "a.ome.tif", choice=Choice.parse(None, plane))
    values = file.read_values()[1]
    assert values.dtype == kind
    assert np.abs(values[..., 0] - expected).max() <= (0.501 if "mean" in plane else 0)
    part = open_source(file).source.values((5, 3, 40, 20))
    np.testing.assert_array_equal(part, values[3:20, 5:40])


@pytest.mark.parametrize("plane", ["z", "z=", "x=1", "z=-1", "z=1,z=2", "z=most", "", "1"])
def test_a_plane_that_is_none_is_one_line(plane):
    with pytest.raises(InputError, match=r"--plane .*: give z=max"):
        Choice.parse(None, plane)


def test_a_plane_beyond_the_last_is_named(tmp_path):
    composite(tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint8), ome=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="z=3: it holds planes 0 to 2"):
        ImageFile("a", tmp_path / "a.ome.tif", choice=Choice.parse(None, "z=3")).read()
