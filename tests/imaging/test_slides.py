"""What is read in parts is what is read as a whole."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.formats.labels import read_labels
from maskseg.imaging.finding import find_images
from maskseg.imaging.intensity import limits
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import is_large, open_source
from maskseg.imaging.windows import ArraySource, BackgroundMask, Resized, limits_in_parts


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
    source, scale, _ = open_source(ImageFile("a", path))
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


@pytest.mark.slow
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


def test_float_values_are_mapped_as_in_the_whole_image(picture, tmp_path):
    values = (picture[..., 0] / 97.0 - 1).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64))
    agree(tmp_path / "a.tif", tolerance=1)
    values[100, 100], values[200, 5] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(64, 64))
    source = agree(tmp_path / "a.tif", tolerance=1)
    assert source.read((100, 100, 101, 101)).max() == 0
    assert source.read((5, 200, 6, 201)).min() == 255
    tifffile.imwrite(tmp_path / "a.tif", values * np.nan, tile=(64, 64))
    with pytest.raises(InputError, match=r"a\.tif.*no value that is finite"):
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
    source, scale, _ = open_source(file, level=1)
    np.testing.assert_array_equal(source.read((0, 0, 259, 167)), picture[::2, ::2])
    assert scale == pytest.approx(517 / 259)
    np.testing.assert_array_equal(open_source(file, mpp=0.25)[0].read((0, 0, 517, 333)), picture)
    source, scale, _ = open_source(file, mpp=0.75)
    assert source.shape == (111, 172)
    assert scale == pytest.approx(3, rel=0.01)
    expected = cv2.resize(picture[::2, ::2], (172, 111), interpolation=cv2.INTER_AREA)
    assert np.abs(source.read((0, 0, 172, 111)).astype(int) - expected).max() <= 1
    with pytest.raises(InputError, match="levels 0 to 2"):
        open_source(file, level=3)
    tifffile.imwrite(tmp_path / "b.tif", picture, photometric="rgb")
    with pytest.raises(InputError, match="give --microns-per-pixel with --mpp"):
        open_source(ImageFile("b", tmp_path / "b.tif"), mpp=0.5)


def test_a_small_copy_that_comes_first_is_not_the_image(picture, tmp_path):
    """Cameras and slide programs put a preview before the image, and mark it as one."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture[::8, ::8], photometric="rgb", subfiletype=1)
    tifffile.imwrite(path, picture, photometric="rgb", append=True, tile=(64, 64))
    np.testing.assert_array_equal(agree(path).read((0, 0, 517, 333)), picture)
    assert ImageFile("a", path).size() == (333, 517)
    tifffile.imwrite(tmp_path / "b.tif", picture[::8, ::8], photometric="rgb", subfiletype=1)
    assert ImageFile("b", tmp_path / "b.tif").size() == (42, 65)


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


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version, picture, tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    planes = np.moveaxis(picture, 2, 0)[None]
    for name, step in (("0", 1), ("1", 2)):
        data = np.ascontiguousarray(planes[:, :, None, ::step, ::step])
        array = group.create_array(name, shape=data.shape, dtype=data.dtype, chunks=(1, 1, 1, 64, 64))
        array[:] = data
    scale = [{"type": "scale", "scale": [1, 1, 1, 0.5, 0.5]}]
    image = {
        "axes": [{"name": n, **({"unit": "micrometer"} if n in "xy" else {})} for n in "tczyx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}],
    }
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}})
    (file,) = find_images([tmp_path])
    assert file.id == "a"
    assert is_large(file, 10**9)
    source, _, _ = open_source(file)
    for x0, y0, x1, y1 in boxes(source.shape):
        np.testing.assert_array_equal(source.read((x0, y0, x1, y1)), picture[y0:y1, x0:x1])
    source, scale, _ = open_source(file, mpp=1.0)
    np.testing.assert_array_equal(source.read((0, 0, 259, 167)), picture[::2, ::2])
    assert scale == pytest.approx(2, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_upright_whole_and_in_parts(orientation, compression, picture, tmp_path):
    """By the table of TIFF 6.0: which side of the picture the first row and the first column are."""
    stored = {
        1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1], 5: picture.swapaxes(0, 1),
        6: np.rot90(picture, 1), 7: picture.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(picture, -1),
    }[orientation]  # fmt: skip
    options = {} if compression is None else {"tile": (64, 32), "compression": compression}
    turn = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), photometric="rgb", extratags=turn, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), picture)
    assert ImageFile("a", tmp_path / "a.tif").size() == picture.shape[:2]
    agree(tmp_path / "a.tif")


def test_the_size_of_pixels_is_read_as_each_program_writes_it(picture, tmp_path):
    grey = picture[..., 0]
    cm, inch = {"resolution": (40000, 40000), "resolutionunit": 3}, {"resolution": (300, 300), "resolutionunit": 2}
    ome = {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 400, "PhysicalSizeXUnit": "nm",
                                     "PhysicalSizeY": 400, "PhysicalSizeYUnit": "nm"}}  # fmt: skip
    imagej = {"imagej": True, "resolution": (2.5, 2.5), "metadata": {"unit": "micron"}}
    of_pixels = {"imagej": True, "resolution": (2.5, 2.5), "metadata": {"unit": "pixel"}}
    aperio = {"description": "Aperio Image Library v1\n10x10 |AppMag = 20|MPP = 0.4990|X = 1", "metadata": None}
    for options, expected in (
        (cm, 0.25), (inch, None), ({}, None), (ome, 0.4), (imagej, 0.4), (of_pixels, None), (aperio, 0.499),
    ):  # fmt: skip
        tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack", **options)
        assert ImageFile("a", tmp_path / "a.tif").load().mpp == (expected and pytest.approx(expected)), options
        opened = open_source(ImageFile("a", tmp_path / "a.tif"))
        assert opened.mpp == (expected and pytest.approx(expected))
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack", **cm)
    opened = open_source(ImageFile("a", tmp_path / "a.tif"), mpp=0.5)
    assert opened.source.shape == (166, 258)
    assert opened.mpp == pytest.approx(0.5, rel=0.01)
    Image.fromarray(grey).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="levels 0 to 0"):
        open_source(ImageFile("b", tmp_path / "b.png"), level=1)
    with pytest.raises(InputError, match="does not say how large its pixels are"):
        open_source(ImageFile("b", tmp_path / "b.png"), mpp=0.5)
    assert open_source(ImageFile("b", tmp_path / "b.png"), 0, 0.5, 0.25).source.shape == (166, 258)


def plain_tiff(data, shape, compression, subsampling):
    """A YCbCr TIFF of one strip, tag by tag: tifffile writes none with fewer colours."""
    tags = [(256, shape[1]), (257, shape[0]), (258, 8), (259, compression), (262, 6), (273, 0), (277, 3)]
    tags += [(278, shape[0]), (279, len(data)), (284, 1), (530, subsampling)]
    start = 8 + 2 + 12 * len(tags) + 4
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, value in tags:
        value = start if tag == 273 else value
        if isinstance(value, tuple):
            content += struct.pack("<HHIHH", tag, 3, 2, *value)
        else:
            content += struct.pack("<HHII", tag, 4, 1, value)
    return content + bytes(4) + data


@pytest.mark.slow
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_ycbcr_of_fewer_colours_is_unpacked(factors, compression, picture, tmp_path):
    """Written as TIFF 6.0 says: blocks of Y, then one Cb and one Cr."""
    across, down = factors
    smooth = cv2.GaussianBlur(picture, (0, 0), 9)
    ycc = cv2.cvtColor(smooth, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    height, width = ycc.shape[:2]
    padded = np.pad(ycc, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // down, padded.shape[1] // across
    cells = padded.reshape(rows, down, columns, across, 3).swapaxes(1, 2).reshape(rows, columns, down * across, 3)
    units = np.concatenate([cells[..., 0], cells[..., 1:].mean(axis=2).round()], axis=2).astype(np.uint8)
    data = units.tobytes() if compression == 1 else zlib.compress(units.tobytes())
    (tmp_path / "a.tif").write_bytes(plain_tiff(data, (height, width), compression, factors))
    read = read_image(tmp_path / "a.tif").astype(int)
    assert np.abs(read - smooth).mean() < 3
    agree(tmp_path / "a.tif")


def test_a_slide_is_read_by_openslide(picture, tmp_path):
    """OpenSlide reads a tiled TIFF as a slide of its own kind."""
    pytest.importorskip("openslide")
    tifffile.imwrite(tmp_path / "a.svs", picture, tile=(64, 64), photometric="rgb", compression="zlib")
    source, _, _ = open_source(ImageFile("a", tmp_path / "a.svs"))
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_limits_found_in_parts_are_those_of_the_whole_image(picture):
    image = np.tile(picture, (7, 5, 1))  # several blocks
    source = ArraySource(image)
    found, whole = limits_in_parts(source.read, source.shape), limits(image)
    np.testing.assert_allclose(found, whole, atol=1)


def test_empty_background_is_skipped_and_fluorescence_is_not():
    slide = np.full((200, 300, 3), 238, np.uint8)
    slide[50:120, 40:140] = (180, 120, 190)
    slide[150, 250] = (120, 90, 140)  # one nucleus alone
    slide[:, 290:] = 255
    background = BackgroundMask(slide, (2000, 3000))
    assert background.covers((1500, 0, 2400, 900))
    assert background.covers((2800, 0, 3000, 900))
    assert not background.covers((1000, 1000, 1395, 1195))
    assert not background.covers((2400, 1400, 2600, 1600))
    dark = np.zeros((200, 300, 3), np.uint8)
    dark[50:60, 40:50] = 255
    assert not BackgroundMask(dark, (2000, 3000)).covers((1500, 0, 2400, 900))
    assert not BackgroundMask(None, (2000, 3000)).covers((0, 0, 10, 10))
