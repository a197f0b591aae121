"""Microscopes' own formats through bioio: channels by name, planes, the size of pixels, what is missing or damaged."""

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.imaging import bioio_images
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import LeftFiles, find_images
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import is_large, open_source

pytestmark = pytest.mark.skipif(not bioio_images.can_read(".czi"), reason="bioio and bioio-czi are not installed")


@pytest.mark.slow
def test_a_czi_is_read_in_parts(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    stack = np.random.default_rng(0).integers(0, 4000, (2, 3, 40, 60)).astype(np.uint16)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for c in range(2):
            for z in range(3):
                file.write(data=stack[c, z][..., None], plane={"C": c, "Z": z, "T": 0})
        file.write_metadata("a", channel_names={0: "DAPI", 1: "GFP"}, scale_x=0.25e-6, scale_y=0.25e-6)
    (image,) = find_images([tmp_path], Choice.parse("gfp", "z=max"))
    assert is_large(image, 1 << 30)
    opened = open_source(image)
    assert opened.mpp == pytest.approx(0.25)
    np.testing.assert_array_equal(opened.source.values((5, 3, 50, 30))[..., 0], stack[1].max(axis=0)[3:30, 5:50])
    np.testing.assert_array_equal(opened.source.read((5, 3, 50, 30)), image.read()[3:30, 5:50])
    with pytest.raises(InputError, match="3 planes; choose"):
        ImageFile("a", tmp_path / "a.czi").read()
    with pytest.raises(InputError, match=r"2 channels \(0 DAPI, 1 GFP\)"):
        ImageFile("a", tmp_path / "a.czi", choice=Choice.parse(None, "z=1")).read()


@pytest.mark.slow
def test_of_several_scenes_one_is_chosen(tmp_path, monkeypatch):
    czi = pytest.importorskip("pylibCZIrw.czi")
    scenes = np.random.default_rng(0).integers(0, 4000, (2, 40, 60)).astype(np.uint16)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for number, pixels in enumerate(scenes):
            file.write(data=pixels[..., None], plane={"C": 0, "Z": 0, "T": 0}, scene=number, location=(number * 100, 0))
        file.write_metadata("a", channel_names={0: "DAPI"}, scale_x=0.25e-6, scale_y=0.25e-6)
    for read in (ImageFile.read, open_source):
        with pytest.raises(InputError, match="it holds 2 images that its description does not name; export one image"):
            read(ImageFile("a", tmp_path / "a.czi"))
    # As ZEN describes them, and pylibCZIrw does not.
    names = property(lambda self: ("first", "second"))
    monkeypatch.setattr("bioio_czi.aicspylibczi_reader.reader.Reader.scenes", names)
    for read in (ImageFile.read, open_source):
        with pytest.raises(
            InputError, match=r"it holds 2 images \(0 first, 1 second\); choose one with --plane image=N"
        ):
            read(ImageFile("a", tmp_path / "a.czi"))
        with pytest.raises(InputError, match=r"--plane image=2: its images are 0 "):
            read(ImageFile("a", tmp_path / "a.czi", choice=Choice.parse(None, "image=2")))
    files = find_images([tmp_path], Choice.parse(None, "image=all"))
    assert [file.id for file in files] == ["a_image0", "a_image1"]
    for image, pixels in zip(files, scenes, strict=True):
        np.testing.assert_array_equal(image.read_values()[1][..., 0], pixels)
        np.testing.assert_array_equal(open_source(image).source.values((5, 3, 50, 30))[..., 0], pixels[3:30, 5:50])


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"", b"ZISRAWFILE" + bytes(99), b"\xda\xce\xbe\x0a" + bytes(300), b"\x70\0\0\0" + bytes(99)]
)
@pytest.mark.parametrize("suffix", sorted(bioio_images.PACKAGES))
def test_what_is_damaged_or_cannot_be_read_is_one_line(tmp_path, suffix, content):
    (tmp_path / f"b{suffix}").write_bytes(content)
    wanted = "damaged|empty" if bioio_images.can_read(suffix) else "pip install "
    with pytest.raises(InputError, match=wanted) as caught:
        ImageFile("b", tmp_path / f"b{suffix}").read()
    assert f"b{suffix}" in str(caught.value)
    assert "\n" not in str(caught.value)

    left = LeftFiles()
    left.kinds.update([".czi", ".nd2", ".lif", ".txt"])
    said = str(left)
    assert "pip install 'maskseg[formats]' bioio-czi reads .czi" in said
    assert "pip install 'maskseg[formats]' reads .nd2" in said
    assert "pip install 'maskseg[formats]' bioio-lif reads .lif" in said
