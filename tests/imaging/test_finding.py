"""Images found where people keep them, each under a name of its own."""

import io
import os
import shutil
import unicodedata
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import LeftFiles, find_images
from maskseg.imaging.names import as_id, printable


@pytest.fixture
def colour():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, colour):
    """Images as people keep them: some in folders, one DSB folder, and files that are no images."""
    small = png(colour[:20, :30])
    for name in ("b.png", "a.tif", "deep/c.JPG", "d/images/d.png", "d/masks/m.png", ".hidden.png", "notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small)
    return tmp_path / "in"


def test_images_are_found_in_folders_zips_and_globs(folder, monkeypatch):
    packed = shutil.make_archive(str(folder.parent / "packed"), "zip", folder)
    for inputs in ([folder], [packed], [folder / "*.png", folder / "a.tif", folder / "d", folder / "deep" / "*"]):
        files = find_images(inputs)
        assert [file.id for file in files] == ["a", "b", "c", "d"]
        assert all(file.size() == file.read().shape[:2] == (20, 30) for file in files)
    monkeypatch.chdir(folder)
    assert [file.id for file in find_images(["b.png", str(folder / "b.png"), "d/images"])] == ["b", "d"]


@pytest.mark.parametrize("name", ["nowhere", "*.nothing", "empty"])
def test_an_input_without_images_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image found"):
        find_images([tmp_path / name])


def test_an_input_that_is_bad_does_not_keep_the_others_from_being_found(folder, tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 cut short")
    (tmp_path / "empty").mkdir()
    wrong = [tmp_path / "bad.zip", tmp_path / "nowhere", tmp_path / "empty", ""]
    bad = []
    assert [file.id for file in find_images([*wrong[:2], folder, *wrong[2:]], bad=bad)] == ["a", "b", "c", "d"]
    words = (
        "bad.zip: not a readable zip file",
        "nowhere: no image found",
        "empty: no image found",
        "an input is empty",
    )
    assert len(bad) == 4 and all(word in line and "\n" not in line for word, line in zip(words, bad, strict=True))
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as file:
        file.write(folder / "b.png", "b.png")
    bad = []
    assert [file.id for file in find_images([tmp_path / "*.zip"], bad=bad)] == ["b"]
    assert len(bad) == 1 and "bad.zip" in bad[0]
    for item in (*wrong, tmp_path / "b*.zip"):
        with pytest.raises(InputError):
            find_images([item], bad=[])
        # As before where nobody asks.
        with pytest.raises(InputError):
            find_images([folder, item])
    with pytest.raises(InputError, match=r"bad\.zip: .*nowhere: .*empty: .*and 1 more input") as error:
        find_images(wrong, bad=[])
    assert "\n" not in str(error.value)


def test_a_folder_in_a_zip_is_named_like_one_on_disk(tmp_path, colour):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("set/test/1.png", "set/test/deep/2.png", "set/test_more/3.png", "set/train/4.png"):
            file.writestr(name, png(colour))
    assert [file.id for file in find_images([tmp_path / "a.zip" / "set" / "test"])] == ["1", "2"]
    with pytest.raises(InputError, match="no image found"):
        find_images([tmp_path / "a.zip" / "tes"])


def test_what_is_hidden_in_a_zip_is_left_out_as_in_a_folder(tmp_path, colour):
    names = (
        "a.png", ".ipynb_checkpoints/a.png", "x/.hidden/b.png", "x/b.png", "__MACOSX/x/b.png", "x/._b.png",
        "x/masks/deep/m.png", ".all/masks/c.png", ".all/masks/.d/e.png",
    )  # fmt: skip
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    assert ids(archive) == ids(tmp_path / "in") == ["a", "b"]
    # What is named itself is looked into.
    for below in (".all/masks", "x/.hidden", "x/masks"):
        assert ids(f"{archive}/{below}") == ids(tmp_path / "in" / below)
    for below in ("x/._b.png", "x/masks/deep/m.png"):
        assert ids(f"{archive}/{below}") == ids(tmp_path / "in" / below)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("../a.png", png(colour))
    (found,) = find_images([tmp_path / "b.zip"])
    with pytest.raises(InputError, match="leads outside the zip file"):
        found.read()


def ids(*inputs, **options):
    return [file.id for file in find_images(inputs, **options)]


def test_equal_names_are_told_apart_by_their_folders_and_endings(tmp_path, colour):
    for name in ("A01/dapi.png", "B01/dapi.png", "B01/gfp.png", "C01/x/dapi.png", "p/a.png", "p/a.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colour).save(tmp_path / name)
    assert ids(tmp_path) == ["A01_dapi", "B01_dapi", "a_bmp", "a_png", "gfp", "x_dapi"]
    assert ids(tmp_path / "A01", tmp_path / "B01" / "dapi.png") == ["A01_dapi", "B01_dapi"]
    assert ids(tmp_path / "A01" / "dapi.png", tmp_path / "A01") == ["dapi"]
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "A01")
    with zipfile.ZipFile(tmp_path / "all.zip", "a") as file:
        file.writestr("B01/dapi.png", png(colour))
    assert ids(tmp_path / "all.zip") == ["A01_dapi", "B01_dapi"]


def test_names_that_some_disks_take_for_one_are_told_apart_by_their_folders(tmp_path, colour):
    composed, decomposed = (unicodedata.normalize(form, "k\u00f6rper") for form in ("NFC", "NFD"))
    for name in ("one/A.png", "two/a.png", f"one/{composed}.png", f"two/{decomposed}.png", "one/C.png", "one/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(colour).save(tmp_path / name)
    if len(list((tmp_path / "one").iterdir())) < 4:
        pytest.skip("the disk is one of these")
    assert ids(tmp_path) == sorted(["one_A", "two_a", f"one_{composed}", f"two_{decomposed}", "C", "c"])


def test_a_plane_does_not_take_the_name_of_another_image(tmp_path, colour):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([colour[..., 0]] * 2), photometric="minisblack")
    Image.fromarray(colour).save(tmp_path / "a_z0.png")
    Image.fromarray(colour).save(tmp_path / "a-2.png")
    assert ids(tmp_path, choice=Choice.parse(plane="z=all")) == ["a-2", "a_z0", "a_z0-2", "a_z1"]


def test_an_input_without_a_name_is_not_the_folder_that_one_is_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="an input is empty"):
        find_images([""])


def test_what_can_be_read_outside_of_a_zip_only_is_said(tmp_path, colour):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", png(colour))
        for name in ("b.svs", "c.ome.zarr/.zattrs", "c.ome.zarr/0/.zarray", "c.ome.zarr/0/0.0", "notes.txt"):
            file.writestr(name, b"other")
    left = LeftFiles()
    assert [file.id for file in find_images([tmp_path / "a.zip"], left=left)] == ["a"]
    assert str(left) == (
        "1 file of other kinds left: .txt 1; 2 files in zip files left: .svs 1, .zarr 1; unpack them to read these"
    )


NAMES = {
    "turned round": "cell\u202egnp.png".encode(),
    "not UTF-8": b"cells_5\xb5m.png",
    "long": b"n" * 251 + b".png",
    "line break": b"two\nlines.png",
    "quotes and commas": b"a \"quoted\", 'name'.png",
    "decomposed": unicodedata.normalize("NFD", "zellk\u00f6rper.png").encode(),
    "hash and percent": b"#5 100%.png",
}


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_gives_an_id_that_results_can_have(kind, tmp_path, colour):
    path = os.fsencode(tmp_path) + b"/" + NAMES[kind]
    try:
        with open(path, "wb") as file:  # noqa: PTH123  a Path is text
            file.write(png(colour))
    except OSError:
        pytest.skip("the disk does not take this name")
    (file,) = find_images([tmp_path])
    np.testing.assert_array_equal(file.read(), colour)
    assert file.size() == (40, 60)
    file.id.encode("utf-8")
    assert file.id.isprintable()
    # The longest ending, and what a file has while it is written.
    (tmp_path / f".{file.id}.geojson.maskseg-12345678").touch()
    file.name.encode("utf-8")
    assert "\n" not in file.name


def test_names_that_are_cut_stay_different():
    first, second = as_id("x" * 250 + "a"), as_id("x" * 250 + "b")
    assert first != second
    assert len(first.encode()) <= 200
    assert printable("a\nb\udcb5") == "a\\nb\\udcb5"


def test_links_to_folders_are_followed_once(tmp_path, colour):
    for name in ("in/two.png", "elsewhere/one.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(colour).save(tmp_path / name)
    (tmp_path / "in" / "batch1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "dangling.png").symlink_to("nowhere")
    files = {file.id: file for file in find_images([tmp_path / "in"])}
    assert list(files) == ["dangling", "one", "two"]
    with pytest.raises(InputError, match=r"dangling\.png: cannot be read"):
        files["dangling"].read()


def test_results_are_no_images(tmp_path, colour):
    for name in ("a.png", "out/overlays/a.png", "out/b.png", "out/zarr/a.zarr/zarr.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(colour))
    assert ids(tmp_path, out=tmp_path / "out") == ["a"]
    assert ids(tmp_path / "*", out=tmp_path / "out") == ["a"]


def test_what_can_be_decoded_is_found_and_other_kinds_are_counted(tmp_path, colour):
    for name in ("a.BMP", "b.jp2", "c.gif", "d.JPEG", "e.WEBP"):
        Image.fromarray(colour).save(tmp_path / name)
    for name in ("f.btf", "g.ome.TIF", "h.tf8"):
        tifffile.imwrite(tmp_path / name, colour, photometric="rgb")
    for name in ("x.flex", "y.flex", "notes.txt", "README"):
        (tmp_path / name).write_bytes(b"other")
    left = LeftFiles()
    files = find_images([tmp_path], left=left)
    assert [file.id for file in files] == ["a", "b", "c", "d", "e", "f", "g.ome", "h"]
    assert all(file.read().shape == colour.shape for file in files)
    assert left.kinds == {".flex": 2, ".txt": 1, "without ending": 1}
    assert str(left).startswith("4 files of other kinds left: .flex 2, ")


def test_the_way_to_read_a_microscopes_own_format_is_named(tmp_path, colour, monkeypatch):
    monkeypatch.setattr("maskseg.imaging.bioio_images.importlib.util.find_spec", lambda name: None)
    Image.fromarray(colour).save(tmp_path / "a.png")
    (tmp_path / "b.czi").write_bytes(b"ZISRAWFILE")
    left = LeftFiles()
    assert [file.id for file in find_images([tmp_path], left=left)] == ["a"]
    assert str(left) == "1 file of other kinds left: .czi 1; pip install 'maskseg[formats]' bioio-czi reads .czi"


def ome_set(folder, planes):
    """An OME image of one channel a file."""
    names = [f"s_c{k}.ome.tif" for k in range(len(planes))]
    data = "".join(
        f'<TiffData FirstC="{k}" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{k}</UUID>'
        "</TiffData>"
        for k, name in enumerate(names)
    )
    channels = "".join(f'<Channel ID="Channel:0:{k}" Name="stain{k}" SamplesPerPixel="1"/>' for k in range(len(planes)))
    height, width = planes[0].shape
    for k, (name, plane) in enumerate(zip(names, planes, strict=True)):
        xml = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{k}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeC="{len(planes)}" '
            f'SizeT="1" SizeZ="1" SizeX="{width}" SizeY="{height}" PhysicalSizeX="325" PhysicalSizeXUnit="nm" '
            f'PhysicalSizeY="325" PhysicalSizeYUnit="nm">{channels}{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, plane, photometric="minisblack", description=xml, metadata=None)


def test_an_ome_image_in_several_files_is_one(tmp_path, colour):
    planes = [colour[..., k] for k in range(3)]
    ome_set(tmp_path, planes)
    left = LeftFiles()
    (file,) = find_images([tmp_path], left=left)
    assert left.parts == 2
    with pytest.raises(InputError, match="3 channels \\(0 stain0, 1 stain1, 2 stain2\\)"):
        file.read()
    for number, wanted in enumerate(("0", "stain1", "STAIN2")):
        (file,) = find_images([tmp_path], Choice(wanted))
        np.testing.assert_array_equal(file.read()[..., 0], planes[number])
        assert file.load().mpp == pytest.approx(0.325)
    # Named itself, each is the whole image.
    assert ids(tmp_path / "s_c1.ome.tif", tmp_path / "s_c0.ome.tif") == ["s_c0.ome", "s_c1.ome"]
    (tmp_path / "s_c1.ome.tif").unlink()
    files = find_images([tmp_path])
    assert [file.id for file in files] == ["s_c0.ome", "s_c2.ome"]
    for file, plane in zip(files, (planes[0], planes[2]), strict=True):
        np.testing.assert_array_equal(file.read()[..., 0], plane)


@pytest.mark.parametrize("folder", ["", "plate/A1/"])
def test_an_ome_image_in_several_files_of_a_zip_is_never_taken_for_several(folder, tmp_path, colour):
    ome_set(tmp_path, [colour[..., 0], colour[..., 1]])
    (tmp_path / "one").mkdir()
    ome_set(tmp_path / "one", [colour[..., 2]])

    def pack(*paths):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for number, path in enumerate(paths):
                file.write(tmp_path / path, f"{folder}{number if path.startswith('one') else ''}{path.split('/')[-1]}")

    pack("s_c0.ome.tif", "s_c1.ome.tif", "one/s_c0.ome.tif")
    *parts, whole = sorted(find_images([tmp_path / "a.zip"]), key=lambda file: file.id, reverse=True)
    assert len(parts) == 2
    for part in parts:
        for call in (part.read, part.size, part.planes, part.open, part.load):
            with pytest.raises(
                InputError, match=r"a\.zip:.*s_c[01]\.ome\.tif: is part of an OME image.*; unpack the zip"
            ):
                call()
    np.testing.assert_array_equal(whole.read()[..., 0], colour[..., 2])
    # As in a folder: where some are missing it is read with its own planes.
    pack("s_c1.ome.tif")
    (file,) = find_images([tmp_path / "a.zip"])
    np.testing.assert_array_equal(file.read()[..., 0], colour[..., 1])


@pytest.mark.parametrize("name", ["../secret.ome.tif", "/secret.ome.tif", "link.ome.tif"])
def test_an_ome_image_does_not_go_on_outside_its_folder(name, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    ome_set(folder, [np.full((30, 40), 5, np.uint8)] * 2)
    ome_set(tmp_path, [np.full((30, 40), 77, np.uint8)] * 2)
    secret = tmp_path / "s_c1.ome.tif"
    secret.rename(tmp_path / "secret.ome.tif")
    (folder / "s_c1.ome.tif").unlink()
    if name.startswith("link"):
        (folder / name).symlink_to(tmp_path / "secret.ome.tif")
    with tifffile.TiffFile(folder / "s_c0.ome.tif") as file:
        text = file.pages.first.description
    text = text.replace('"s_c1.ome.tif"', f'"{name}"')
    tifffile.imwrite(folder / "s_c0.ome.tif", np.full((30, 40), 5, np.uint8), description=text, metadata=None)
    (file,) = [file for file in find_images([folder]) if file.id == "s_c0.ome"]
    assert (file.read() == 5).all()


def test_all_planes_are_images_of_their_own(tmp_path):
    stack = np.random.default_rng(0).integers(0, 256, (11, 20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, photometric="minisblack", metadata={"axes": "TYX"})
    files = find_images([tmp_path], Choice.parse(None, "t=all"))
    assert [file.id for file in files] == [f"a.ome_t{k:02d}" for k in range(11)]
    for file, plane in zip(files, stack, strict=True):
        np.testing.assert_array_equal(file.read()[..., 0], plane)


def test_folders_that_cannot_be_read_are_named(tmp_path, closed):
    (tmp_path / "open").mkdir()
    for name in ("open", "closed"):
        (tmp_path / name / "a.png").touch()
    left = LeftFiles()
    assert [file.path.parent.name for file in find_images([tmp_path], left=left)] == ["open"]
    assert "folders that cannot be read" in str(left) and "closed (Permission denied)" in str(left)
    with pytest.raises(InputError, match="Permission denied"):
        find_images([tmp_path / "closed"])
