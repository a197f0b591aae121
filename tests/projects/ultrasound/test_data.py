import csv
import zipfile

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as coco_mask

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, image_id, load_coco
from maskseg.data.split import read_split
from maskseg.projects.ultrasound.data import convert_ultrasound

SHAPE = (42, 58)


def disc(x=20, y=15, radius=8):
    return cv2.circle(np.zeros(SHAPE, np.uint8), (x, y), radius, 255, -1)


def speckle(seed):
    """A frame like no other: coarse noise."""
    coarse = np.random.default_rng(seed).integers(20, 220, (6, 8), np.uint8)
    return cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def put(tmp_path):
    """Writes a frame and its mask; the mask is empty where not given, and missing where None."""

    def put(name, frame=None, mask=np.zeros(SHAPE, np.uint8)):
        folder = tmp_path / "source" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{name}.tif", speckle(len(list(folder.iterdir()))) if frame is None else frame)
        if mask is not None:
            tifffile.imwrite(folder / f"{name}_mask.tif", mask)
        return folder.parent

    return put


def converted(source, out):
    return convert_ultrasound(source, out, progress=False)


def test_the_mask_comes_back_pixel_by_pixel_and_frames_are_in_their_order(put, tmp_path):
    put("1_10", mask=disc())
    put("1_2")
    source = put("2_1", mask=disc() // 255)  # a mask of 0 and 1 is a mask too
    summary, _ = converted(source, tmp_path / "out")
    assert (summary.images, summary.masks, summary.annotation_count, summary.left_out) == (3, 2, 3, [])
    assert str(summary) == "3 images with 2 nerves, from 3 mask files"
    data = load_coco(tmp_path / "out")
    assert [image_id(image) for image in data.images] == ["1_2", "1_10", "2_1"]
    assert [image["modality"] for image in data.images] == ["empty", "nerve", "nerve"]
    assert 1 not in data.annotations
    for number in (2, 3):
        (nerve,) = data.annotations[number]
        assert (coco_mask.decode(nerve["segmentation"]) * 255 == disc()).all()
    copied = tmp_path / "out" / "images" / "1_10.tif"
    assert copied.read_bytes() == (source / "train" / "1_10.tif").read_bytes()


def test_a_zip_file_gives_the_same_as_its_folder_and_test_images_are_passed_over(put, tmp_path):
    put("1_1", mask=disc())
    source = put("1_2")
    (source / "test").mkdir()
    tifffile.imwrite(source / "test" / "1.tif", speckle(9))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in source.rglob("*.tif"):
            file.write(path, path.relative_to(source))
    for origin, out in ((source, "a"), (tmp_path / "set.zip", "b")):
        summary, _ = converted(origin, tmp_path / out)
        assert (summary.images, summary.left_out) == (2, [])
    for name in ("annotations.json", "split.csv", "contradictions.csv", "images/1_1.tif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no mask", "no 1_2_mask beside it; add it"),
        ("size", "1_2_mask has 42x57 pixels, the frame 42x58; make them equal"),
        ("frame", "damaged, cut short"),
        ("mask", "1_2_mask.tif: damaged, cut short"),
    ],
)
def test_a_bad_pair_is_one_line_and_the_others_are_converted(put, tmp_path, fault, says):
    put("1_1", mask=disc())
    masks = {"no mask": None, "size": np.zeros((42, 57), np.uint8)}
    folder = put("1_2", mask=masks.get(fault, disc())) / "train"
    bad = {"frame": "1_2.tif", "mask": "1_2_mask.tif"}.get(fault)
    if bad:
        (folder / bad).write_bytes(b"II*\0no picture")
    summary, _ = converted(folder, tmp_path / "out")
    (line,) = summary.left_out
    assert line.file == str(folder / "1_2.tif")
    assert says in line.reason
    assert "\n" not in line.reason
    assert (summary.images, summary.annotation_count) == (1, 1 if fault == "no mask" else 2)


def test_a_lone_mask_and_a_file_of_another_name_are_named(put, tmp_path):
    folder = put("1_1") / "train"
    tifffile.imwrite(folder / "1_2_mask.tif", disc())
    tifffile.imwrite(folder / "nerve.tif", disc())
    summary, _ = converted(folder, tmp_path / "out")
    assert [(item.file, item.kind) for item in summary.left_out] == [
        (str(folder / "nerve.tif"), "file left out"),
        (str(folder / "1_2_mask.tif"), "mask left out"),
    ]


def test_nothing_to_convert_is_one_line(tmp_path):
    (tmp_path / "source").mkdir()
    tifffile.imwrite(tmp_path / "source" / "12.tif", disc())
    with pytest.raises(InputError, match="no image to convert; expected S_N"):
        converted(tmp_path / "source", tmp_path / "out")


def test_contradicting_near_duplicates_are_listed_and_others_are_not(put, tmp_path):
    noise = np.random.default_rng(0)
    frames = [speckle(seed) for seed in range(4)]
    second = {0: np.zeros(SHAPE, np.uint8), 1: disc(22), 2: disc(40), 3: np.zeros(SHAPE, np.uint8)}
    for number, frame in enumerate(frames):
        nearly = np.clip(frame + noise.normal(0, 2, SHAPE), 0, 255).astype(np.uint8)
        put(f"1_{number}", frame, disc() if number < 3 else second[3])
        source = put(f"1_{number + 10}", nearly, second[number])
    _, found = converted(source, tmp_path / "out")
    # One empty; masks side by side. Not: masks that agree; two that are empty.
    assert {(pair.first, pair.second) for pair in found} == {("1_0", "1_10"), ("1_2", "1_12")}
    assert all(pair.similarity > 0.99 and pair.dice < 0.5 for pair in found)
    with (tmp_path / "out" / "contradictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["first"], row["second"]) for row in rows] == [(pair.first, pair.second) for pair in found]
    parts = {name: row["part"] for name, row in read_split(tmp_path / "out" / "split.csv").items()}
    assert all(parts[f"1_{number}"] == parts[f"1_{number + 10}"] for number in range(4))


def test_one_subject_is_divided_with_equal_shares_of_nerves(put, tmp_path):
    for number in range(20):
        source = put(f"7_{number}", speckle(number), disc() if number % 2 else np.zeros(SHAPE, np.uint8))
    converted(source, tmp_path / "out")
    dev = dataset_dicts(f"{tmp_path / 'out'}:dev")
    assert len(dev) == 4
    assert [record["modality"] for record in dev].count("nerve") == 2
    assert len(dataset_dicts(f"{tmp_path / 'out'}:train")) == 16


def test_of_several_subjects_none_is_in_both_parts(put, tmp_path):
    for subject in range(6):
        for number in range(3):
            source = put(f"{subject}_{number}", speckle(3 * subject + number), disc())
    converted(source, tmp_path / "out")
    part_of = {}
    for row in read_split(tmp_path / "out" / "split.csv").values():
        part_of.setdefault(row["group"], set()).add(row["part"])
    assert len(part_of) == 6
    assert all(len(parts) == 1 for parts in part_of.values())
    assert set().union(*part_of.values()) == {"train", "dev"}
