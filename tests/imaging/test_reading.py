import io
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.imaging.finding import find_images
from maskseg.imaging.intensity import limits
from maskseg.imaging.reading import ImageFile, read_image

HELDOUT = Path(__file__).parents[2] / "datasets" / "sample" / "heldout"


def sample(name):
    (path,) = HELDOUT.glob(f"{name}*/images/*.png")
    return path


@pytest.fixture(scope="module")
def colour():
    """A purple tissue image, uint8 (256, 320, 3)."""
    return np.asarray(Image.open(sample("2c61fdcb")).convert("RGB"))


def png(pixels, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "PNG", **options)
    return file.getvalue()


def png16(pixels):
    """A 16-bit PNG of grey, RGB or RGBA pixels."""
    order = {2: slice(None), 3: (..., [2, 1, 0])}
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        order[3] = (..., [2, 1, 0, 3])
    return cv2.imencode(".png", np.ascontiguousarray(pixels[order[pixels.ndim]]))[1].tobytes()


def tiff(pixels, **options):
    if pixels.ndim == 3 and not options.get("imagej"):
        options = {"photometric": "rgb", **options}
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def pillow(pixels, kind, mode, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


EIGHT_BIT = {
    "png rgb": lambda c: png(c),
    "png rgba": lambda c: png(np.dstack([c, np.arange(c[..., 0].size).reshape(c.shape[:2]) % 256]).astype(np.uint8)),
    "tiff rgb": lambda c: tiff(c),
    "tiff rgb, big": lambda c: tiff(c, bigtiff=True),
    "tiff rgb, lzw": lambda c: tiff(c, compression="lzw"),
    "tiff rgb, tiles": lambda c: tiff(c, tile=(64, 64)),
    "tiff rgb, planes": lambda c: tiff(np.moveaxis(c, 2, 0), photometric="rgb", planarconfig="separate"),
    "tiff rgba": lambda c: tiff(np.dstack([c, c[..., 0]]), extrasamples=["unassalpha"]),
    "tiff, one page of one": lambda c: tiff(c[None]),
    "imagej channels": lambda c: tiff(np.moveaxis(c, 2, 0), imagej=True, metadata={"axes": "CYX"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_eight_bit_colour_stays_as_it_is(kind, colour):
    np.testing.assert_array_equal(read_image(EIGHT_BIT[kind](colour)), colour)


GREY = {
    "png": lambda g: png(g),
    "png with alpha": lambda g: png(Image.fromarray(np.dstack([g, 255 - g]), "LA")),
    "tiff": lambda g: tiff(g),
    "tiff, white is zero": lambda g: tiff(255 - g, photometric="miniswhite"),
    "tiff with alpha": lambda g: tiff(np.dstack([g, 255 - g]), photometric="minisblack", extrasamples=["unassalpha"]),
}


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("kind", GREY)
def test_grey_is_the_same_in_three_channels(kind, colour):
    grey = colour[..., 1]
    np.testing.assert_array_equal(read_image(GREY[kind](grey)), np.dstack([grey] * 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_palette_is_resolved(kind, colour):
    expected = Image.fromarray(colour).convert("P")
    read = read_image(pillow(colour, kind, "P"))
    np.testing.assert_array_equal(read, np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_becomes_black_and_white(kind, colour):
    read = read_image(pillow(colour, kind, "1"))
    np.testing.assert_array_equal(read[..., 0] > 0, np.asarray(Image.fromarray(colour).convert("1")))
    assert set(np.unique(read)) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind, colour):
    read = read_image(pillow(colour, kind, "CMYK", **({"quality": 95} if kind == "JPEG" else {})))
    assert np.abs(read.astype(int) - colour).mean() < 3


def test_jpeg_and_its_turn(colour):
    options = Image.Exif()
    options[0x0112] = 6  # the camera was turned by 90 degrees
    data = pillow(np.rot90(colour), "JPEG", "RGB", quality=95, exif=options.tobytes())
    assert np.abs(read_image(data).astype(int) - colour).mean() < 3


WIDE = {
    "png, 16 bit": (png16, 257),
    "png, 12 of 16 bits": (png16, 16),
    "tiff, 16 bit": (tiff, 257),
    "tiff, float 0 to 1": (lambda p: tiff(p.astype(np.float32) / 65535), 257),
    "tiff, double": (lambda p: tiff(p.astype(np.float64)), 257),
    "tiff, 32 bit": (lambda p: tiff(p.astype(np.uint32) * 1000), 257),
    "tiff, signed": (lambda p: tiff(p.astype(np.int32) - 70000), 257),
}


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", WIDE)
def test_wide_values_are_scaled_by_the_limits_with_room_at_either_end(kind, channels, colour):
    write, factor = WIDE[kind]
    rgb = colour.astype(np.uint16) * factor
    pixels = {1: rgb[..., 0], 3: rgb, 4: np.dstack([rgb, np.full_like(rgb[..., :1], 65535)])}[channels]
    kept = (rgb[..., :1] if channels == 1 else rgb).astype(float)
    low, high = limits(kept.astype(rgb.dtype))
    black, white = low - (high - low) / 8, high + (high - low) / 2
    black = max(black, 0) if low >= 0 else black
    expected = np.clip((kept - black) / (white - black) * 255, 0, 255)
    read = read_image(write(pixels))
    assert read.dtype == np.uint8
    assert np.abs(read - expected).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_values_to_measure_on_are_those_of_the_file(kind, channels, colour, tmp_path):
    """Of two or four channels the last is alpha."""
    values = np.dstack([colour, colour[..., :1]])[..., 4 - channels :].astype(kind) * np.array(3).astype(kind)
    alpha = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    kept = channels - len(alpha)
    data = tiff(values, photometric="rgb" if kept == 3 else "minisblack", **alpha)
    (tmp_path / "a.tif").write_bytes(data)
    image, read = find_images([tmp_path])[0].read_values()
    np.testing.assert_array_equal(read, values[..., :kept])
    np.testing.assert_array_equal(image, read_image(data))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (20000, 10), (1, 7)])
@pytest.mark.parametrize("write", [png, tiff, png16], ids=["png", "tiff", "png of 16 bits"])
def test_any_size(shape, write, colour):
    pixels = np.resize(colour, (*shape, 3)).astype(np.uint16 if write is png16 else np.uint8)
    read = read_image(write(pixels))
    assert read.shape == (*shape, 3)
    if write is not png16:
        np.testing.assert_array_equal(read, pixels)


def test_a_scaled_image_does_not_depend_on_gain_and_offset(colour):
    grey = colour[..., 0].astype(np.float32)
    np.testing.assert_array_equal(read_image(tiff(grey)), read_image(tiff(grey * 0.25 - 3)))


def test_an_image_of_one_wide_value_is_even_and_dark():
    read = read_image(tiff(np.full((5, 6), 1234, np.uint16)))
    assert read.min() == read.max() < 32


def test_every_sample_image_is_what_pillow_reads():
    for path in HELDOUT.glob("*/images/*.png"):
        read = read_image(path)
        np.testing.assert_array_equal(read, np.asarray(Image.open(path).convert("RGB")))
        assert read.flags.c_contiguous


BAD = {
    "no picture": (lambda c: b"no picture at all", "damaged, cut short"),
    "nothing": (lambda c: b"", "empty"),
    "png cut short": (lambda c: png(c)[:-500], "cut short"),
    "png without its end": (lambda c: png16(c.astype(np.uint16) * 9)[:-9], "cut short"),
    "jpeg cut short": (lambda c: pillow(c, "JPEG", "RGB")[:-500], "cut short"),
    "tiff cut short": (lambda c: tiff(c)[:-500], "cut short"),
    "tiff cut at its start": (lambda c: tiff(c)[:9], "cut short"),
    "planes": (lambda c: tiff(np.stack([c[..., 0]] * 5), photometric="minisblack"), "5 pages; choose"),
    "three planes": (lambda c: tiff(np.stack([c[..., 0]] * 3), photometric="minisblack"), "3 pages; choose"),
    "two channels": (lambda c: tiff(np.moveaxis(c, 2, 0)[:2], imagej=True, metadata={"axes": "CYX"}), "2 channels"),
    "nothing but not a number": (lambda c: tiff(np.full(c.shape[:2], np.nan, np.float32)), "no value that is finite"),
    "complex": (lambda c: tiff(c[..., 0].astype(np.complex64)), "not supported"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line_with_the_name(kind, colour, tmp_path):
    make, message = BAD[kind]
    path = tmp_path / "bad.img"
    path.write_bytes(make(colour))
    with pytest.raises(InputError, match=message) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [".dcm", ".nrrd", ".ims", ".npy", ".PDF", ".vsi", ".dng"])
def test_what_is_no_image_to_us_says_so_and_what_would_be(kind, tmp_path):
    # An Olympus .vsi and a camera's raw file begin as a TIFF does, and hold a small picture beside the real one.
    content = tiff(np.zeros((8, 8), np.uint8)) if kind in (".vsi", ".dng") else b"\x93 some other format"
    path = tmp_path / f"a{kind}"
    path.write_bytes(content)
    for asked in (read_image, lambda file: ImageFile("a", file).size()):
        with pytest.raises(InputError, match=rf"a\{kind}: .*\{kind.lower()}.*; save it as TIFF or PNG, or as OME-TIFF"):
            asked(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        read_image(tmp_path / "gone.png")


def test_the_size_is_read_from_the_header(tmp_path, colour):
    for name, data in {
        "a.png": png(colour),
        "b.tif": tiff(np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate"),
        "c.jpg": pillow(colour, "JPEG", "RGB"),
        "d.tif": tiff(colour[..., 0].astype(np.float64)),
    }.items():
        (tmp_path / name).write_bytes(data)
    assert [file.size() for file in find_images([tmp_path])] == [colour.shape[:2]] * 4


def test_a_zip_path_that_leads_outside_is_refused_when_read(tmp_path, colour):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("../../evil.png", png(colour))
        file.writestr("good.png", png(colour))
    evil, good = find_images([tmp_path / "a.zip"])
    np.testing.assert_array_equal(good.read(), colour)
    with pytest.raises(InputError, match=r"evil\.png: leads outside"):
        evil.read()


def test_a_zip_that_changed_is_read_anew(tmp_path, colour):
    path = tmp_path / "a.zip"
    for number, pixels in enumerate((colour, 255 - colour)):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.png", png(pixels))
        os.utime(path, ns=(number, number))
        np.testing.assert_array_equal(find_images([path])[0].read(), pixels)


def test_a_damaged_zip_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=r"a\.zip: not a readable zip"):
        find_images([tmp_path / "a.zip"])


# Those of scikit-image that hold several pages or frames.
SEVERAL = ("multipage", "multipage_rgb", "no_time_for_that_tiny")


@pytest.mark.slow
def test_the_pictures_that_come_with_scikit_image_are_read_as_the_docs_say(repository):
    """None of them is ours."""
    folder = Path(skimage.data.__file__).parent
    text = (repository / "docs" / "images.md").read_text(encoding="utf-8")
    found = {path.stem: path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".tif", ".gif")}
    assert len(found) > 20
    for name, path in found.items():
        assert f"`{name}" in text
        if name in SEVERAL:
            with pytest.raises(InputError, match="choose with --plane"):
                read_image(path)
        else:
            pixels = read_image(path)
            assert pixels.shape[:2] == ImageFile(name, path).size()
