"""Files of several images: which of them is read, and what is refused."""

import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source


def whole(path, plane=None, channel=None):
    return ImageFile("a", path, choice=Choice.parse(channel, plane)).read_values()[1]


def tiled(path, plane=None, channel=None):
    source = open_source(ImageFile("a", path, choice=Choice.parse(channel, plane))).source
    return source.values((0, 0, source.shape[1], source.shape[0]))


both = pytest.mark.parametrize("read", [whole, tiled])


def noise(*shape):
    return np.random.default_rng(len(shape)).integers(0, 250, shape).astype(np.uint8)


def write(path, *images, **options):
    """Images one after another, each an array or an array and what is said of it."""
    with tifffile.TiffWriter(path, **options) as file:
        for image in images:
            pixels, more = image if isinstance(image, tuple) else (image, {})
            of_colours = pixels.ndim == 3 and pixels.shape[-1] == 3
            file.write(pixels, **{"photometric": "rgb" if of_colours else "minisblack", "metadata": None} | more)


@pytest.fixture
def positions(tmp_path):
    """Three positions of an OME-TIFF, of one size, with channels and pixels of their own."""
    stack = noise(3, 2, 40, 60)
    images = []
    for number, pixels in enumerate(stack):
        about = {"axes": "ZYX", "Name": f"pos{number}", "Channel": {"Name": [f"CH{number}"]}}
        about |= {"PhysicalSizeX": 0.25 + number, "PhysicalSizeY": 0.25 + number}
        images.append((pixels, {"metadata": about}))
    write(tmp_path / "a.ome.tif", *images, ome=True)
    return tmp_path / "a.ome.tif", stack


@pytest.mark.slow
@both
def test_of_several_positions_one_is_chosen(read, positions):
    path, stack = positions
    for plane in (None, "z=0"):
        with pytest.raises(InputError) as caught:
            read(path, plane)
        said = f"{path}: it holds 3 images (0 pos0, 1 pos1, 2 pos2); choose one with --plane image=N"
        assert str(caught.value) == said
    for image in range(3):
        with pytest.raises(InputError, match="2 planes; choose with --plane z=0"):
            read(path, f"image={image}")
        for z in range(2):
            np.testing.assert_array_equal(read(path, f"z={z},image={image}", f"CH{image}")[..., 0], stack[image, z])
        np.testing.assert_array_equal(read(path, f"image={image},z=max")[..., 0], stack[image].max(axis=0))
        assert ImageFile("a", path, choice=Choice.parse(None, f"image={image},z=0")).load().mpp == 0.25 + image
        with pytest.raises(InputError, match=f"--channel x: its channels are 0 CH{image};"):
            read(path, f"image={image},z=0", "x")
    with pytest.raises(InputError, match=r"--plane image=3: its images are 0 pos0, 1 pos1, 2 pos2; choose one of them"):
        read(path, "image=3")


def test_all_positions_are_images_of_their_own(positions):
    path, stack = positions
    assert [file.id for file in find_images([path], Choice.parse(None, "image=all,z=max"))] == [
        f"a.ome_image{number}" for number in range(3)
    ]
    files = find_images([path], Choice.parse(None, "z=all,image=all"))
    assert [file.id for file in files] == [f"a.ome_image{image}_z{z}" for image in range(3) for z in range(2)]
    for file, expected in zip(files, stack.reshape(6, 40, 60), strict=True):
        np.testing.assert_array_equal(file.read()[..., 0], expected)
        assert file.size() == (40, 60)


@both
@pytest.mark.parametrize("ome", [True, False])
def test_a_file_of_one_image_has_image_0_only(read, ome, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 60), ome=ome)
    for plane in (None, "image=0", "image=all"):
        np.testing.assert_array_equal(read(tmp_path / "a.tif", plane)[..., 0], noise(40, 60))
    with pytest.raises(InputError, match="--plane image=1: it holds one image; leave it out"):
        read(tmp_path / "a.tif", "image=1")


@both
def test_a_picture_has_image_0_only(read, tmp_path):
    from PIL import Image

    Image.fromarray(noise(40, 60)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "image=0")[..., 0], noise(40, 60))
    with pytest.raises(InputError, match="--plane image=1: it holds one image; leave it out"):
        read(tmp_path / "a.png", "image=1")


PREVIEWS = {
    "a thumbnail first": [(8,), ()],
    "a thumbnail of an odd size": [(7,), ()],
    "a thumbnail last": [(), (8,)],
    "levels": [(), (2,), (4,), (8,)],
    "levels, the smallest first": [(8,), (4,), (2,), ()],
}


@pytest.mark.slow
@both
@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("case", PREVIEWS)
def test_of_an_image_and_its_previews_the_largest_is_read(read, case, described, tmp_path):
    large = noise(160, 230)
    images = [large[:: step[0], :: step[0]] if step else large for step in PREVIEWS[case]]
    write(tmp_path / "a.tif", *[(image, {"metadata": {}} if described else {}) for image in images])
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], large)


@both
def test_a_coloured_thumbnail_is_a_preview_of_a_grey_image(read, tmp_path):
    write(tmp_path / "a.tif", noise(20, 30, 3), noise(160, 240))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], noise(160, 240))


@both
@pytest.mark.parametrize("kind", ["reduced", "mask"])
def test_copies_and_masks_by_newsubfiletype_are_no_images(read, kind, tmp_path):
    other = (noise(30, 30), {"subfiletype": 1}) if kind == "reduced" else (noise(30, 30) > 99, {"subfiletype": 4})
    write(tmp_path / "a.tif", other, noise(40, 60))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], noise(40, 60))


@both
def test_label_and_macro_of_a_slide_are_no_images(read, tmp_path):
    named = [(noise(40, 60), "scan"), (noise(30, 30), "label image"), (noise(20, 50), "scan.svs [macro]")]
    images = [(pixels, {"metadata": {"axes": "YX", "Name": name}}) for pixels, name in named]
    for order in (images, images[::-1]):
        write(tmp_path / "a.ome.tif", *order, ome=True)
        np.testing.assert_array_equal(read(tmp_path / "a.ome.tif")[..., 0], noise(40, 60))


@both
@pytest.mark.parametrize("described", [False, True])
def test_grey_and_coloured_pages_are_several_images(read, described, tmp_path):
    images = noise(40, 60), noise(40, 60, 3), noise(30, 60)
    write(tmp_path / "a.tif", *[(image, {"metadata": {}} if described else {}) for image in images])
    said = r"3 images \(0 60x40 grey, 1 60x40 RGB, 2 60x30 grey\); choose one with --plane image=N"
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.tif")
    for number, image in enumerate(images):
        expected = image if image.ndim == 3 else image[..., None]
        np.testing.assert_array_equal(read(tmp_path / "a.tif", f"image={number}"), expected)


@pytest.mark.parametrize("plane", ["image", "image=max", "image=mean", "image=-1", "image=0,image=1"])
def test_an_image_that_is_no_number_is_one_line(plane):
    with pytest.raises(InputError, match=r"--plane .*: give z=max.* image=N or image=all$"):
        Choice.parse(None, plane)


@both
def test_positions_in_files_of_their_own_are_each_read_from_theirs(read, tmp_path):
    stack = noise(3, 40, 60)
    for own in range(3):
        images = "".join(
            f'<Image ID="Image:{k}" Name="pos{k}"><Pixels ID="P:{k}" DimensionOrder="XYZCT" Type="uint8" SizeX="60" '
            f'SizeY="40" SizeZ="1" SizeC="1" SizeT="1"><Channel SamplesPerPixel="1" Name="CH{k}"/><TiffData IFD="0" '
            f'PlaneCount="1"><UUID FileName="p{k}.ome.tif">urn:uuid:{k}</UUID></TiffData></Pixels></Image>'
            for k in range(3)
        )
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{own}">{images}</OME>'
        )
        tifffile.imwrite(tmp_path / f"p{own}.ome.tif", stack[own], description=text, metadata=None)
    files = find_images([tmp_path])
    assert [file.path.name for file in files] == [f"p{k}.ome.tif" for k in range(3)]
    for number, file in enumerate(files):
        np.testing.assert_array_equal(read(file.path)[..., 0], stack[number])
        np.testing.assert_array_equal(read(file.path, None, f"ch{number}")[..., 0], stack[number])
