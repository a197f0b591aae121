"""What is read in parts is what is read as a whole."""

import cv2
import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.formats.labels import read_labels
from maskseg.imaging.reading import ImageFile, find_images, read_image
from maskseg.imaging.slides import is_large, open_source
from maskseg.imaging.windows import ArraySource, Glass, Resized, grey_counts


@pytest.fixture(scope="module")
def picture():
    """A smooth picture with noise, 333 x 517."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 18, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (517, 333), interpolation=cv2.INTER_CUBIC).astype(int)
    return (image + rng.integers(-9, 9, image.shape)).clip(0, 255).astype(np.uint8)


def boxes(shape, count=12):
    height, width = shape
    rng = np.random.default_rng(1)
    for _ in range(count):
        x0, y0 = rng.integers(0, width - 1), rng.integers(0, height - 1)
        yield int(x0), int(y0), int(rng.integers(x0 + 1, width + 1)), int(rng.integers(y0 + 1, height + 1))
    yield 0, 0, width, height


def agree(path, tolerance=0):
    source, scale = open_source(ImageFile("a", path))
    whole = read_image(path)
    assert scale == 1
    assert source.shape == whole.shape[:2]
    for x0, y0, x1, y1 in boxes(source.shape):
        part = source.read((x0, y0, x1, y1))
        assert part.shape == (y1 - y0, x1 - x0, 3)
        assert part.dtype == np.uint8
        assert np.abs(part.astype(int) - whole[y0:y1, x0:x1]).max() <= tolerance
    return source


KINDS = {
    "tiles": {"tile": (64, 96), "compression": "zlib"},
    "tiles, not compressed": {"tile": (64, 96)},
    "JPEG tiles": {"tile": (64, 96), "compression": "jpeg"},
    "BigTIFF": {"tile": (128, 128), "bigtiff": True, "compression": "lzw"},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one piece": {},
    "one piece, big endian": {"byteorder": ">"},
    "one compressed piece": {"compression": "zlib"},
    "OME": {"tile": (64, 64), "ome": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["grey", "rgb", "rgba", "planes", "uint16", "uint16-rgb", "bool", "inverted", "int8"])
def test_a_tiff_in_parts_is_the_tiff_as_a_whole(kind, form, picture, tmp_path):
    options = dict(KINDS[kind])
    if kind == "JPEG tiles" and form not in ("grey", "rgb"):
        pytest.skip("JPEG holds 8-bit grey or colour")
    pixels, more = {
        "grey": (picture[..., 0], {"photometric": "minisblack"}),
        "rgb": (picture, {"photometric": "rgb"}),
        "rgba": (np.dstack([picture, picture[..., 0]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        "planes": (np.moveaxis(picture, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "uint16": (picture[..., 0].astype(np.uint16) * 37 + 300, {"photometric": "minisblack"}),
        "uint16-rgb": (picture.astype(np.uint16) * 11, {"photometric": "rgb"}),
        "bool": (picture[..., 0] > 99, {"photometric": "minisblack"}),
        "inverted": (picture[..., 0], {"photometric": "miniswhite"}),
        "int8": ((picture[..., 0].astype(int) - 128).astype(np.int8), {"photometric": "minisblack"}),
    }[form]
    try:
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options, **more)
    except (ValueError, NotImplementedError) as error:
        pytest.skip(f"tifffile does not write this: {error}")
    agree(tmp_path / "a.tif")


def test_channels_on_pages_of_their_own_are_colours_if_there_are_three(picture, tmp_path):
    for name, options in {"a.ome.tif": {"metadata": {"axes": "CYX"}}, "b.tif": {"imagej": True}}.items():
        planes = np.moveaxis(picture, 2, 0)
        tifffile.imwrite(tmp_path / name, planes, photometric="minisblack", **options)
        agree(tmp_path / name)
        tifffile.imwrite(tmp_path / name, planes[:2], photometric="minisblack", **options)
        with pytest.raises(InputError, match="save one plane"):
            open_source(ImageFile("a", tmp_path / name))


def test_float_values_are_mapped_as_in_the_whole_image(picture, tmp_path):
    values = (picture[..., 0] / 97.0 - 1).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64))
    agree(tmp_path / "a.tif", tolerance=1)
    values[100, 100] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64))
    with pytest.raises(InputError, match=r"a\.tif.*not finite"):
        open_source(ImageFile("a", tmp_path / "a.tif"))[0].read((0, 0, 5, 5))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_is_cut_short_is_one_line(compression, picture, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(64, 64), compression=compression, photometric="rgb")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.tif.*cut short"):
        open_source(ImageFile("a", tmp_path / "a.tif"))[0].read((0, 0, 517, 333))


def pyramid(path, picture):
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"tile": (64, 64), "photometric": "rgb"}
        microns = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
        file.write(picture, subifds=2, metadata={"axes": "YXS", **microns}, **options)
        file.write(picture[::2, ::2], subfiletype=1, **options)
        file.write(picture[::4, ::4], subfiletype=1, **options)


def test_levels_and_microns_of_an_ome_tiff(picture, tmp_path):
    pyramid(tmp_path / "a.ome.tif", picture)
    file = ImageFile("a", tmp_path / "a.ome.tif")
    source, scale = open_source(file, level=1)
    np.testing.assert_array_equal(source.read((0, 0, 259, 167)), picture[::2, ::2])
    assert scale == pytest.approx(517 / 259)
    np.testing.assert_array_equal(open_source(file, mpp=0.25)[0].read((0, 0, 517, 333)), picture)
    source, scale = open_source(file, mpp=0.75)
    assert source.shape == (111, 172)
    assert scale == pytest.approx(3, rel=0.01)
    expected = cv2.resize(picture[::2, ::2], (172, 111), interpolation=cv2.INTER_AREA)
    assert np.abs(source.read((0, 0, 172, 111)).astype(int) - expected).max() <= 1
    with pytest.raises(InputError, match="levels 0 to 2"):
        open_source(file, level=3)
    tifffile.imwrite(tmp_path / "b.tif", picture, photometric="rgb")
    with pytest.raises(InputError, match="--level in place of --mpp"):
        open_source(ImageFile("b", tmp_path / "b.tif"), mpp=0.5)


def test_a_tiff_does_not_go_on_in_another_file(tmp_path):
    """An OME-TIFF may name files that hold its planes, by any path."""
    own, other = np.full((300, 300), 5, np.uint8), np.full((300, 300), 77, np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "secret.ome.tif", other, metadata=None, tile=(64, 64))
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels '
        'ID="P:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="300" SizeC="1" SizeZ="1" SizeT="1"><Channel '
        'ID="C:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"><UUID FileName="../secret.ome.tif">urn:uuid:2'
        "</UUID></TiffData></Pixels></Image></OME>"
    )
    path = tmp_path / "images" / "a.ome.tif"
    tifffile.imwrite(path, own, description=ome, metadata=None, tile=(64, 64))
    assert (tifffile.imread(path) == 77).all()
    assert (open_source(ImageFile("a", path))[0].values((0, 0, 300, 300)) == 5).all()
    assert (ImageFile("a", path).read() == 5).all()
    assert (read_labels(path) == 5).all()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version, picture, tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    planes = np.moveaxis(picture, 2, 0)[None]
    for name, step in (("0", 1), ("1", 2)):
        data = np.ascontiguousarray(planes[:, :, None, ::step, ::step])
        group.create_array(name, data=data, chunks=(1, 1, 1, 64, 64))
    scale = [{"type": "scale", "scale": [1, 1, 1, 0.5, 0.5]}]
    image = {
        "axes": [{"name": n, **({"unit": "micrometer"} if n in "xy" else {})} for n in "tczyx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}],
    }
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}})
    (file,) = find_images([tmp_path])
    assert file.id == "a"
    assert is_large(file, 10**9)
    source, _ = open_source(file)
    for x0, y0, x1, y1 in boxes(source.shape):
        np.testing.assert_array_equal(source.read((x0, y0, x1, y1)), picture[y0:y1, x0:x1])
    source, scale = open_source(file, mpp=1.0)
    np.testing.assert_array_equal(source.read((0, 0, 259, 167)), picture[::2, ::2])
    assert scale == pytest.approx(2, rel=0.01)


def test_a_slide_is_read_by_openslide(picture, tmp_path):
    """OpenSlide reads a tiled TIFF as a slide of its own kind."""
    pytest.importorskip("openslide")
    tifffile.imwrite(tmp_path / "a.svs", picture, tile=(64, 64), photometric="rgb", compression="zlib")
    source, _ = open_source(ImageFile("a", tmp_path / "a.svs"))
    for x0, y0, x1, y1 in boxes(source.shape):
        np.testing.assert_array_equal(source.read((x0, y0, x1, y1)), picture[y0:y1, x0:x1])
    (tmp_path / "b.svs").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b\.svs"):
        open_source(ImageFile("b", tmp_path / "b.svs"))


def test_what_is_large_is_told_from_the_header(picture, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    cv2.imwrite(str(tmp_path / "b.png"), picture)
    (tmp_path / "c.png").write_bytes(b"nothing")
    files = {file.id: file for file in find_images([tmp_path])}
    pixels = 333 * 517
    assert [is_large(files[name], pixels - 1) for name in "abc"] == [True, True, False]
    assert not any(is_large(files[name], pixels) for name in "abc")


@pytest.mark.parametrize("shape", [(333, 517), (100, 129), (83, 517), (701, 999), (666, 1034)])
def test_a_resized_image_in_parts_is_opencvs(shape, picture):
    source = Resized(ArraySource(picture), shape)
    kind = cv2.INTER_AREA if shape[0] < 333 else cv2.INTER_LINEAR
    if shape == (83, 517):  # shrunk one way only: the mean down the columns
        expected = cv2.resize(picture, (517, 83), interpolation=cv2.INTER_AREA)
    else:
        expected = cv2.resize(picture, shape[::-1], interpolation=kind)
    whole = source.read((0, 0, shape[1], shape[0]))
    assert np.abs(whole.astype(int) - expected).max() <= 1
    for x0, y0, x1, y1 in boxes(shape):
        np.testing.assert_array_equal(source.read((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


def test_counts_are_those_of_the_whole_image(picture):
    image = np.tile(picture, (7, 5, 1))  # several blocks
    np.testing.assert_array_equal(grey_counts(ArraySource(image)), np.bincount(image.ravel(), minlength=256))


def test_glass_is_skipped_and_fluorescence_is_not():
    slide = np.full((200, 300, 3), 238, np.uint8)
    slide[50:120, 40:140] = (180, 120, 190)
    slide[150, 250] = (120, 90, 140)  # one nucleus alone
    slide[:, 290:] = 255
    glass = Glass(slide, (2000, 3000))
    assert glass.covers((1500, 0, 2400, 900))
    assert glass.covers((2800, 0, 3000, 900))
    assert not glass.covers((1000, 1000, 1395, 1195))
    assert not glass.covers((2400, 1400, 2600, 1600))
    dark = np.zeros((200, 300, 3), np.uint8)
    dark[50:60, 40:50] = 255
    assert not Glass(dark, (2000, 3000)).covers((1500, 0, 2400, 900))
    assert not Glass(None, (2000, 3000)).covers((0, 0, 10, 10))
