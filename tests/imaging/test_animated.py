"""Animated pictures: every frame as it is, gone through once, and turned as the file says."""

import zlib

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, PngImagePlugin, WebPImagePlugin, features

from maskseg.core.errors import InputError
from maskseg.imaging import pictures
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile

KINDS = ["gif", "png", "webp", "avif"]


@pytest.fixture(autouse=True)
def forgotten():
    if hasattr(pictures, "_frames"):
        pictures._frames.cache_clear()


def file(path, plane=None):
    return ImageFile("a", path, choice=Choice.parse(None, plane))


def animated(path, count=6, size=(40, 60), seed=0, **options):
    """So many pictures of spots that move, saved as one file; what Pillow, asked for each alone, makes of them."""
    kind = path.suffix[1:]
    if kind == "avif" and not features.check("avif"):
        pytest.skip("Pillow is without AVIF")
    random = np.random.default_rng(seed)
    frames = [random.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(count)]
    lossless = {"lossless": True} if kind == "webp" else {}
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=others, **lossless, **options)
    expected = []
    for number in range(count):
        with Image.open(path) as image:
            image.seek(number)
            expected.append(np.asarray(image.convert("RGB")))
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_is_what_it_is_alone_in_whatever_order(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    expected = animated(path)
    with pytest.raises(InputError, match=r"6 times; choose with --plane t=0"):
        file(path).read()
    for number in (0, 5, 2, 3, 1, 4, 4):
        np.testing.assert_array_equal(file(path, f"t={number}").read(), expected[number])
    np.testing.assert_array_equal(file(path, "t=max").read(), np.max(expected, axis=0))
    np.testing.assert_array_equal(file(path, "t=mean").read(), np.rint(np.mean(expected, axis=0)))


@pytest.mark.parametrize(
    ("kind", "plugin"),
    [
        ("gif", GifImagePlugin.GifImageFile),
        ("png", PngImagePlugin.PngImageFile),
        ("webp", WebPImagePlugin.WebPImageFile),
    ],
)
@pytest.mark.parametrize("plane", ["t=max", "t=mean", "t=all"])
def test_the_work_grows_with_the_frames_and_not_with_their_square(kind, plugin, plane, tmp_path, monkeypatch):
    path = tmp_path / f"a.{kind}"
    expected = animated(path, 12)
    steps = []
    step = plugin._seek

    def counted(image, frame, *others):
        # Pillow's WebP counts a frame that is loaded again too.
        steps.append(frame)
        return step(image, frame, *others)

    monkeypatch.setattr(plugin, "_seek", counted)
    files = find_images([path], Choice.parse(None, plane))
    read = [one.read() for one in files]
    assert len(steps) <= (3 + (plane == "t=all")) * 12 + 4 * len(files)
    if plane == "t=all":
        for image, frame in zip(read, expected, strict=True):
            np.testing.assert_array_equal(image, frame)


def test_frames_that_are_kept_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_KEPT", 3 * 40 * 60 * 3)
    monkeypatch.setattr(pictures, "_KEPT_AFTER", 0)
    expected = animated(tmp_path / "a.gif")
    np.testing.assert_array_equal(file(tmp_path / "a.gif", "t=max").read(), np.max(expected, axis=0))
    frames = pictures._frames((tmp_path / "a.gif").read_bytes())
    assert len(frames._kept) == 1
    for number in range(6):
        frames.frame(number)
    assert len(frames._kept) == 3


def test_a_damaged_frame_does_not_change_the_others(tmp_path):
    expected = animated(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    place = data.rindex(b"fdAT") + 40
    (tmp_path / "b.png").write_bytes(data[:place] + b"\xff" * 400 + data[place + 400 :])
    for number in (5, 1, 5, 0):
        if number == 5:
            with pytest.raises(InputError, match=r"b\.png: "):
                file(tmp_path / "b.png", "t=5").read()
        else:
            np.testing.assert_array_equal(file(tmp_path / "b.png", f"t={number}").read(), expected[number])


def test_an_animated_png_of_16_bits_keeps_them(tmp_path):
    wide = np.random.default_rng(0).integers(0, 5000, (40, 60)).astype(np.uint16)
    frames = [np.roll(wide, 7 * number, 0) for number in range(3)]
    # Of this one only a part is in the file.
    frames.append(frames[-1].copy())
    frames[-1][10:20, 10:30] = 60000
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(tmp_path / "a.png", save_all=True, append_images=others)
    for number, frame in enumerate(frames):
        values = file(tmp_path / "a.png", f"t={number}").load().values
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(values[..., 0], frame)
    values = file(tmp_path / "a.png", "t=max").load().values
    np.testing.assert_array_equal(values[..., 0], np.max(frames, axis=0))


def test_colours_of_16_bits_that_pillow_cannot_give_are_refused(tmp_path):
    animated(tmp_path / "a.png", 2)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[24] = 16
    # The check sum of the header.
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: its frames are in colour or alpha of 16 bits; save each as"):
        file(tmp_path / "a.png", "t=0").read()


def test_frames_that_a_file_cannot_hold_are_no_list_of_images(tmp_path):
    animated(tmp_path / "a.png", 2)
    data = (tmp_path / "a.png").read_bytes()
    place = data.index(b"acTL")
    chunk = b"acTL" + (1 << 30).to_bytes(4, "big") + bytes(4)
    data = data[:place] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[place + 16 :]
    (tmp_path / "a.png").write_bytes(data)
    (one,) = find_images([tmp_path], Choice.parse(None, "t=all"))
    with pytest.raises(InputError, match=r"a\.png: claims 1073741824 frames; get it again"):
        one.read()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_turn_is_the_same_for_the_size_and_for_each_frame(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    expected = animated(path, 3, exif=exif)
    for number, frame in enumerate(expected):
        one = file(path, f"t={number}")
        upright = np.rot90(frame, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
        assert one.size() == one.read().shape[:2] == upright.shape[:2]
        np.testing.assert_array_equal(one.read(), upright)
