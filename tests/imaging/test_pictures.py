"""Pictures that are decoded as a whole: their turns, their size, and how large they may be."""

import io

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.imaging import pictures
from maskseg.imaging.channels import Choice
from maskseg.imaging.reading import ImageFile


@pytest.fixture(scope="module")
def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (60, 40), interpolation=cv2.INTER_CUBIC)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "PNG of 16 bits"])
def test_a_turn_is_the_same_for_the_size_and_the_pixels(kind, orientation, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    if kind == "PNG of 16 bits":
        wide = cv2.imencode(".png", picture[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        # The chunk of EXIF lies before the pixels.
        Image.fromarray(picture).save(file, "PNG", exif=exif)
        other = file.getvalue()
        place = other.index(b"eXIf") - 4
        chunk = other[place : place + 12 + int.from_bytes(other[place : place + 4], "big")]
        data = wide[:33] + chunk + wide[33:]
    else:
        options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        Image.fromarray(picture).save(file, kind, exif=exif, **options)
        data = file.getvalue()
    (tmp_path / "a.img").write_bytes(data)
    turned = {
        1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1], 5: picture.swapaxes(0, 1),
        6: np.rot90(picture, -1), 7: picture.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(picture, 1),
    }[orientation]  # fmt: skip
    image = ImageFile("a", tmp_path / "a.img")
    read = image.read()
    assert image.size() == read.shape[:2] == turned.shape[:2]
    if kind == "PNG of 16 bits":
        assert np.corrcoef(read.ravel(), turned.ravel())[0, 1] > 0.99
    else:
        assert np.abs(read.astype(int) - turned).max() <= (12 if kind == "JPEG" else 0)


def test_an_image_over_pillows_limit_is_read(picture, tmp_path, monkeypatch):
    Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(ImageFile("a", tmp_path / "a.png").read(), picture)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_one_that_is_too_large_is_one_line_with_the_remedy(picture, tmp_path, monkeypatch):
    Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 2399)
    file = ImageFile("a", tmp_path / "a.png")
    for call in (file.read, file.size):
        with pytest.raises(InputError, match=r"a\.png: 40 x 60 are more pixels .*tiled TIFF"):
            call()


@pytest.mark.parametrize("most", [1023, 4095, 65535])
@pytest.mark.parametrize("comment", [b"", b"# made by a camera\n"])
def test_pnm_of_more_than_8_bits_keeps_its_values(most, comment, picture, tmp_path):
    wide = (picture.astype(np.uint16) * 4).astype(">u2")
    for kind, pixels in ((b"P5", wide[..., 0]), (b"P6", wide)):
        data = kind + b"\n" + comment + b"60 40\n%d\n" % most + pixels.tobytes()
        (tmp_path / "a.pnm").write_bytes(data)
        values = ImageFile("a", tmp_path / "a.pnm").load().values
        np.testing.assert_array_equal(values, pixels.reshape(values.shape))
        (tmp_path / "b.pnm").write_bytes(data[:-99])
        with pytest.raises(InputError, match=r"b\.pnm: damaged, cut short"):
            ImageFile("b", tmp_path / "b.pnm").load()


@pytest.mark.parametrize("end", [b"", b"\n", b" # end"])
@pytest.mark.parametrize("most", [255, 1023, 65535])
def test_pnm_in_letters_is_read_whatever_ends_it(most, end, picture, tmp_path, capfd):
    wide = picture.astype(np.uint16) * (1 if most == 255 else 4)
    for kind, pixels in ((b"P2", wide[..., 0]), (b"P3", wide)):
        numbers = b" ".join(b"%d" % value for value in pixels.ravel())
        (tmp_path / "a.pgm").write_bytes(kind + b"\n# made by hand\n60 40\n%d\n" % most + numbers + end)
        values = ImageFile("a", tmp_path / "a.pgm").load().values
        np.testing.assert_array_equal(values, pixels.reshape(values.shape))
        for damaged in (numbers[: len(numbers) // 2], numbers[:99] + b"x" + numbers[99:]):
            (tmp_path / "b.pgm").write_bytes(kind + b"\n60 40\n%d\n" % most + damaged)
            with pytest.raises(InputError, match=r"b\.pgm: damaged, cut short"):
                ImageFile("b", tmp_path / "b.pgm").load()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("ending", ["jp2", "j2k"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_component_of_jpeg_2000_is_dropped_only_where_the_file_calls_it_alpha(
    count, ending, dtype, picture, tmp_path
):
    pixels = np.dstack([picture, 255 - picture[..., :1]])[..., -count:].astype(dtype) * (1 if dtype == np.uint8 else 99)
    data = imagecodecs.jpeg2k_encode(np.ascontiguousarray(pixels), level=0, codecformat=ending)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    names = r"0 red, 1 green, 2 blue, 3" if count == 4 else "0, 1"
    with pytest.raises(InputError, match=rf"a\.{ending}: it holds {count} channels \({names}\); choose"):
        ImageFile("a", path).read()
    for number in range(count):
        values = ImageFile("a", path, choice=Choice(str(number))).load().values
        np.testing.assert_array_equal(values[..., 0], pixels[..., number])
    if ending == "jp2":
        # The channel definition, as the last box of the header.
        kinds = [(k, 0, k + 1) for k in range(count - 1)] + [(count - 1, 1, 0)]
        box = b"cdef" + count.to_bytes(2, "big") + np.array(kinds, ">u2").tobytes()
        box = (len(box) + 4).to_bytes(4, "big") + box
        place, stream = data.index(b"jp2h") - 4, data.index(b"jp2c") - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(box)
        path.write_bytes(data[:place] + size.to_bytes(4, "big") + data[place + 4 : stream] + box + data[stream:])
        values = ImageFile("a", path).load().values
        np.testing.assert_array_equal(values, pixels[..., : count - 1])


def test_inks_of_jpeg_2000_are_colours_or_refused(picture, tmp_path):
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jp2", irreversible=False)
    assert np.abs(ImageFile("a", tmp_path / "a.jp2").read().astype(int) - picture).max() <= 2
    wide = np.dstack([picture, picture[..., :1]]).astype(np.uint16) * 100
    data = imagecodecs.jpeg2k_encode(wide, level=0, codecformat="jp2")
    place = data.index(b"colr") + 7
    (tmp_path / "b.jp2").write_bytes(data[:place] + (12).to_bytes(4, "big") + data[place + 4 :])
    with pytest.raises(InputError, match=r"b\.jp2: it holds 4 channels \(0, 1, 2, 3\)"):
        ImageFile("b", tmp_path / "b.jp2").read()


STAND_INS = {
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    "web page": b"\n<!DOCTYPE html><html>please log in</html>",
    "file is empty": b"",
}


@pytest.mark.parametrize("words", STAND_INS)
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_what_often_stands_in_the_place_of_an_image_is_called_by_its_name(words, ending, tmp_path):
    (tmp_path / f"a{ending}").write_bytes(STAND_INS[words])
    file = ImageFile("a", tmp_path / f"a{ending}")
    for call in (file.load, file.size, file.open):
        with pytest.raises(InputError, match=rf"a\{ending}: .*{words}.*; ") as error:
            call()
        assert "\n" not in str(error.value)
