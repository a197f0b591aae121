"""Pictures that are decoded as a whole: their turns, their size, and how large they may be."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.imaging import pictures
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
