"""`maskseg check`: what it prints, writes and returns."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco, write_coco
from maskseg.formats.coco import to_annotations


@pytest.fixture
def dataset(tmp_path):
    """A function that writes a data set of one image with the given masks, bool (64, 64), and returns its folder."""

    def make(*masks: np.ndarray, name: str = "set", file_name: str = "a.png"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        pixels = np.random.default_rng(1).integers(0, 250, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / file_name), pixels)
        items = [item for mask in masks for item in to_annotations(CropMasks.from_labels(mask))]
        annotations = [{"id": n, "image_id": 1, **item} for n, item in enumerate(items, start=7)]
        write_coco(
            folder / "annotations.json", [{"id": 1, "file_name": file_name, "height": 64, "width": 64}], annotations
        )
        return folder

    return make


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_nothing_wrong_is_status_0(maskseg, dataset, tmp_path):
    folder = dataset(square(3, 3, 9))
    status, out, err = maskseg("check", folder, "--page", tmp_path / "page.html", "--workers", 1)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"{folder}: 1 images, 1 nuclei, 0 findings"
    assert "Nothing is wrong" in (tmp_path / "page.html").read_text()


def test_findings_are_counted_by_kind_and_status_1(maskseg, dataset, tmp_path):
    folder = dataset(square(3, 3, 9), square(20, 3, 2), square(30, 3, 2))
    status, out, _ = maskseg("check", folder, "--table", tmp_path / "found.csv", "--workers", 1)
    assert status == 1
    assert out.splitlines()[1].split()[:2] == ["2", "speck:"]
    with (tmp_path / "found.csv").open(newline="") as file:
        assert [row["annotation"] for row in csv.DictReader(file)] == ["8", "9"]
    assert maskseg("check", folder, "--ignore", "speck", "--workers", 1)[0] == 0
    assert maskseg("check", folder, "--min-area", 4, "--workers", 1)[0] == 0


def test_a_repaired_copy_is_checked_again(maskseg, dataset, tmp_path):
    folder = dataset(square(3, 3, 9), square(20, 3, 2))
    status, out, err = maskseg("check", folder, "--fix", tmp_path / "fixed", "--workers", 1)
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'fixed'}: 1 images, 1 nuclei, 0 findings" in out
    assert [item["id"] for item in load_coco(tmp_path / "fixed").annotations[1]] == [7]


def test_what_is_left_in_the_copy_is_listed_and_status_1(maskseg, dataset, tmp_path):
    folder = dataset(square(20, 3, 2))
    status, _, err = maskseg("check", folder, "--fix", tmp_path / "fixed", "--workers", 1)
    assert status == 1
    assert err == "left as it is: a: no-nuclei\n"


def test_an_image_left_out_of_the_copy_is_status_2(maskseg, dataset, tmp_path):
    folder = dataset(square(3, 3, 9))
    records = [*load_coco(folder).images, {"id": 2, "file_name": "gone.png", "height": 64, "width": 64}]
    write_coco(folder / "annotations.json", records, load_coco(folder).annotations[1])
    status, out, _ = maskseg("check", folder, "--fix", tmp_path / "fixed", "--workers", 1)
    assert status == 2
    assert "1 images left out" in out


@pytest.mark.parametrize("options", [["--ignore", "nothing"], ["--fix", "."]])
def test_a_bad_argument_is_one_line(options, maskseg, dataset, monkeypatch):
    folder = dataset(square(3, 3, 9))
    monkeypatch.chdir(folder)
    status, _, err = maskseg("check", folder, *options, "--workers", 1)
    assert (status, len(err.splitlines())) == (2, 1)


def test_a_folder_that_is_no_data_set_is_one_line(maskseg, tmp_path):
    status, _, err = maskseg("check", tmp_path)
    assert (status, len(err.splitlines())) == (2, 1)


@pytest.mark.slow
def test_the_page_shows_each_finding_and_escapes_file_names(maskseg, dataset, tmp_path):
    ring = square(20, 20, 12) & ~square(24, 24, 3)
    overlapping = [square(40, 40, 12), square(46, 46, 12)]
    folder = dataset(ring, *overlapping, square(3, 3, 2), file_name="<script>alert(1)<script>.png")
    assert maskseg("check", folder, "--page", tmp_path / "page.html", "--workers", 1)[0] == 1
    page = (tmp_path / "page.html").read_text()
    assert page.count("data-full=") == 3
    for text in ("hole, nucleus 7, 9 px", "overlap, nucleus 9, with 8, 0.25 share of the smaller", "speck, nucleus 10"):
        assert text in page
    assert "<script>alert" not in page


def test_the_page_shows_no_image_from_outside_the_data_set(maskseg, dataset, tmp_path):
    folder = dataset(square(3, 3, 9))
    data = load_coco(folder)
    (folder / "images" / "a.png").rename(folder / "secret.png")
    write_coco(folder / "annotations.json", [{**data.images[0], "file_name": "../secret.png"}], data.annotations[1])
    assert maskseg("check", folder, "--page", tmp_path / "page.html", "--workers", 1)[0] == 1
    page = (tmp_path / "page.html").read_text()
    assert "unreadable-image" in page or "cannot be read" in page
    assert "data-full=" not in page
