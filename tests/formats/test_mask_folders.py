import os
import shutil
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskseg.core.errors import InputError
from maskseg.data.dataset import image_id, load_coco
from maskseg.imaging.reading import read_image
from tests.fixtures.converting import convert_folders as convert

SAMPLE = Path(__file__).parents[2] / "datasets" / "sample"


def faults(summary):
    return {(Path(item.file).name, item.kind) for item in summary.left_out}


def filled(path_or_data):
    """A mask the plain way: the whole picture, thresholded and filled by SciPy."""
    data = path_or_data if isinstance(path_or_data, bytes) else path_or_data.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return ndimage.binary_fill_holes(pixels > 128)


def decoded(data, image):
    return [coco_mask.decode(item["segmentation"]).astype(bool) for item in data.annotations.get(image["id"], [])]


def packed(masks):
    return sorted(np.packbits(mask).tobytes() for mask in masks)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "heldout"])
def test_every_mask_of_the_sample_is_its_png_filled(part, tmp_path):
    summary = convert(SAMPLE / part, tmp_path, progress=False)
    data = load_coco(tmp_path)
    folders = {path.name: path for path in (SAMPLE / part).iterdir()}
    assert {image_id(image) for image in data.images} == set(folders)
    assert not summary.left_out
    assert summary.masks == summary.annotation_count == len(list((SAMPLE / part).glob("*/masks/*")))
    for image in data.images:
        folder = folders[image_id(image)]
        masks = decoded(data, image)
        assert packed(masks) == packed(filled(path) for path in (folder / "masks").iterdir())
        for mask, item in zip(masks, data.annotations[image["id"]], strict=True):
            x, y, w, h = item["bbox"]
            assert (item["area"], item["iscrowd"], item["category_id"]) == (mask.sum(), 0, 1)
            assert mask.any(axis=0).nonzero()[0][[0, -1]].tolist() == [x, x + w - 1]
            assert mask.any(axis=1).nonzero()[0][[0, -1]].tolist() == [y, y + h - 1]
        copied = tmp_path / "images" / image["file_name"]
        assert copied.read_bytes() == next((folder / "images").iterdir()).read_bytes()
        assert read_image(copied).shape[:2] == (image["height"], image["width"])


@pytest.mark.slow
@pytest.mark.skipif("MASKSEG_DATA" not in os.environ, reason="MASKSEG_DATA names no folder of data")
def test_masks_of_the_full_set_are_their_pngs_filled(tmp_path):
    # Some images of each kind; all of them take minutes.
    archive = Path(os.environ["MASKSEG_DATA"]) / "dsb2018" / "stage1_train.zip"
    source = tmp_path / "some.zip"
    masks_of = {}
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(source, "w") as some:
        wanted = set(sorted({name.split("/")[1] for name in whole.namelist() if "/images/" in name})[::80])
        for name in whole.namelist():
            if not name.endswith("/") and name.split("/")[1] in wanted:
                content = whole.read(name)
                some.writestr(name, content)
                if "/masks/" in name:
                    masks_of.setdefault(name.split("/")[1], []).append(filled(content))
    summary = convert(source, tmp_path / "out", progress=False)
    data = load_coco(tmp_path / "out")
    assert summary.images == len(wanted)
    assert summary.masks + len(summary.left_out) == summary.annotation_count == sum(map(len, masks_of.values()))
    for image in data.images:
        # What is left out is empty or the same as another.
        expected = {np.packbits(mask).tobytes() for mask in masks_of[image_id(image)] if mask.any()}
        assert packed(decoded(data, image)) == sorted(expected)


def test_holes_are_filled_pieces_stay_together_and_overlaps_stay(make_folder, tmp_path):
    folder = make_folder("a", nuclei=0)
    ring, pieces = np.zeros((2, 40, 50), np.uint8)
    ring[5:15, 5:15] = 255
    ring[8:12, 8:12] = 128  # not above the threshold: a hole
    pieces[10:20, 10:20] = 129
    pieces[30:35, 40:50] = 255
    cv2.imwrite(str(folder / "masks" / "ring.png"), ring)
    cv2.imwrite(str(folder / "masks" / "pieces.png"), pieces)
    convert(folder.parent, tmp_path / "out", progress=False)
    data = load_coco(tmp_path / "out")
    expected = np.zeros((2, 40, 50), bool)
    expected[0, 5:15, 5:15] = True
    expected[1] = pieces > 0
    assert packed(decoded(data, data.images[0])) == packed(expected)
    assert sorted(data.masks(data.images[0]).areas.tolist()) == [100, 150]


def test_a_zip_a_folder_and_one_level_more_give_the_same(make_folder, tmp_path):
    source = make_folder("a").parent
    make_folder("b", nuclei=3)
    shutil.copytree(source, tmp_path / "deep" / "stage1_train")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "deep")
    written = []
    for number, path in enumerate((source, tmp_path / "deep", tmp_path / "packed.zip")):
        convert(path, tmp_path / str(number), progress=False)
        written.append((tmp_path / str(number) / "annotations.json").read_bytes())
    assert written[0] == written[1] == written[2]


def test_no_mask_in_masks_is_an_image_without_nuclei(make_folder, tmp_path):
    summary = convert(make_folder("empty", nuclei=0).parent, tmp_path / "out", progress=False)
    assert (summary.images, summary.masks, summary.left_out) == (1, 0, [])


def test_modalities_are_put_in(make_folder, tmp_path):
    convert(make_folder("a").parent, tmp_path / "out", modalities={"a": "tissue"}, progress=False)
    assert load_coco(tmp_path / "out").images[0]["modality"] == "tissue"


def spoil_cut(folder):
    path = folder / "masks" / "0.png"
    path.write_bytes(path.read_bytes()[:-20])
    return "0.png", "unreadable mask"


def spoil_nothing_in_it(folder):
    (folder / "masks" / "0.png").write_bytes(b"")
    return "0.png", "unreadable mask"


def spoil_size(folder):
    cv2.imwrite(str(folder / "masks" / "0.png"), np.full((41, 50), 255, np.uint8))
    return "0.png", "mask of another size"


def spoil_empty(folder):
    cv2.imwrite(str(folder / "masks" / "0.png"), np.full((40, 50), 128, np.uint8))
    return "0.png", "empty mask"


def spoil_double(folder):
    shutil.copy(folder / "masks" / "1.png", folder / "masks" / "copy.png")
    return "copy.png", "duplicate mask"


def spoil_not_a_picture(folder):
    (folder / "masks" / "0.png").write_text("no picture")
    return "0.png", "unreadable mask"


@pytest.mark.parametrize(
    "spoil", [spoil_cut, spoil_nothing_in_it, spoil_size, spoil_empty, spoil_double, spoil_not_a_picture]
)
def test_a_bad_mask_is_named_and_costs_only_itself(spoil, make_folder, tmp_path, capfd):
    good, bad = make_folder("good"), make_folder("bad", nuclei=3)
    expected = spoil(bad)
    summary = convert(good.parent, tmp_path / "out", progress=False)
    assert faults(summary) == {expected}
    assert str(bad / "masks" / expected[0]) == summary.left_out[0].file
    assert "\n" not in summary.left_out[0].reason
    assert summary.images == 2
    assert summary.masks + 1 == summary.annotation_count == len(list(good.parent.glob("*/masks/*")))
    assert expected[1] in str(summary)


def no_masks(folder):
    shutil.rmtree(folder / "masks")
    return "no masks/", 0


def no_image(folder):
    next((folder / "images").iterdir()).unlink()
    return "no image", 3


def no_folders(folder):
    shutil.rmtree(folder / "masks")
    shutil.rmtree(folder / "images")
    return "no image", 0


def cut_image(folder):
    path = next((folder / "images").iterdir())
    path.write_bytes(path.read_bytes()[:-30])
    return "cut short", 3


def two_images(folder):
    shutil.copy(next((folder / "images").iterdir()), folder / "images" / "second.png")
    return "2 images", 3


def all_masks_of_zeros_and_ones(folder):
    for path in (folder / "masks").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), 0) // 255)
    return "none of its masks", 3


@pytest.mark.parametrize("packed_up", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("spoil", [no_masks, no_image, no_folders, cut_image, two_images, all_masks_of_zeros_and_ones])
def test_a_bad_image_folder_is_named_and_costs_only_itself(spoil, packed_up, make_folder, tmp_path):
    good, bad = make_folder("good"), make_folder("bad", nuclei=3)
    reason, masks = spoil(bad)
    source = Path(shutil.make_archive(str(tmp_path / "a"), "zip", good.parent)) if packed_up else good.parent
    summary = convert(source, tmp_path / "out", progress=False)
    (fault,) = summary.left_out
    assert fault.kind == "image left out"
    assert fault.file.endswith("bad")
    assert reason in fault.reason
    assert (f"({masks} mask files" in fault.reason) == (masks > 0)
    # Every mask file is either written or goes with its image.
    assert (summary.images, summary.masks, summary.annotation_count) == (1, 2, 2 + masks)
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["good.png"]


def test_an_id_twice_keeps_the_first_and_names_both(make_folder, tmp_path):
    first = make_folder("x", where="source/one")
    make_folder("x", nuclei=3, where="source/two")
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    (fault,) = summary.left_out
    assert (summary.images, summary.masks) == (1, 2)
    assert fault.file.endswith(str(Path("two") / "x"))
    assert str(first) in fault.reason


def test_zip_paths_that_lead_outside_are_named_and_nothing_is_written_there(make_folder, tmp_path):
    good = make_folder("good")
    image = next((good / "images").iterdir()).read_bytes()
    mask = next((good / "masks").iterdir()).read_bytes()
    outside = ["../evil/images/evil.png", "/evil/images/evil.png", "..\\evil\\images\\evil.png", "C:/evil/images/e.png"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good/images/good.png", image)
        file.writestr("good/masks/0.png", mask)
        for name in outside:
            file.writestr(name, image)
    summary = convert(tmp_path / "a.zip", tmp_path / "out", progress=False)
    assert (summary.images, summary.masks) == (1, 1)
    assert [item.file for item in summary.left_out] == [f"{tmp_path / 'a.zip'}:{name}" for name in outside]
    assert all("leads outside" in item.reason for item in summary.left_out)
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert written == {"images", "images/good.png", "annotations.json"}
    assert not (tmp_path / "evil").exists()


def test_a_damaged_zip_member_costs_only_itself(make_folder, tmp_path):
    good = make_folder("good", nuclei=3)
    path = Path(shutil.make_archive(str(tmp_path / "a"), "zip", good.parent))
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("good/masks/1.png").header_offset
    data = bytearray(path.read_bytes())
    data[place + 30 + len("good/masks/1.png") + 25] ^= 0xFF
    path.write_bytes(data)
    summary = convert(path, tmp_path / "out", progress=False)
    assert faults(summary) == {("1.png", "unreadable mask")}
    assert summary.masks == 2


def test_a_name_twice_in_a_zip_is_one_file(make_folder, tmp_path):
    good = make_folder("good", nuclei=1)
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of the second
        for part in ("images/good.png", "masks/0.png", "masks/0.png"):
            file.write(good / part, f"good/{part}")
    summary = convert(tmp_path / "a.zip", tmp_path / "out", progress=False)
    assert (summary.masks, summary.annotation_count, summary.left_out) == (1, 1, [])


def test_files_of_file_managers_are_no_masks(make_folder, tmp_path):
    good = make_folder("good")
    for name in (".DS_Store", "._0.png", "Thumbs.db"):
        (good / "masks" / name).write_bytes(b"x")
    assert convert(good.parent, tmp_path / "out", progress=False).left_out == []


@pytest.mark.parametrize("kind", ["missing", "no zip", "no image folder"])
def test_nothing_to_convert_is_one_line_that_says_what_is_expected(kind, tmp_path):
    source = tmp_path / "source"
    if kind == "no zip":
        source.write_text("no zip")
    elif kind == "no image folder":
        source.mkdir()
        (source / "image.png").write_bytes(b"x")
    with pytest.raises(InputError, match="source") as error:
        convert(source, tmp_path / "out", progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_run_that_converts_nothing_keeps_the_former_data_set(make_folder, tmp_path):
    good = make_folder("good")
    convert(good.parent, tmp_path / "out", progress=False)
    before = (tmp_path / "out" / "annotations.json").read_bytes()
    shutil.rmtree(good / "masks")
    with pytest.raises(InputError, match="no masks/"):
        convert(good.parent, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "annotations.json").read_bytes() == before
