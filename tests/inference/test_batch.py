"""Many images to files: failures are named, and an interrupted run goes on."""

import csv

import cv2
import numpy as np
import pytest

from maskseg.data.coco import load_coco
from maskseg.images import find_images
from maskseg.inference.batch import predict_files
from maskseg.masks import CropMasks
from maskseg.output.labels import read_labels
from maskseg.output.submission import check_submission


class Squares:
    """Stands for a predictor: every image has one square nucleus, placed by its first pixel."""

    def __init__(self, stop_after: int | None = None):
        self.calls = 0
        self.stop_after = stop_after

    def segment(self, image, flip):
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        labels = np.zeros(image.shape[:2], np.int32)
        if image[0, 0, 0]:
            labels[2:7, image[0, 0, 0] :][:, :5] = 1
        return CropMasks.from_labels(labels)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"image_{number}.png"), np.full((20, 30, 3), number * 3, np.uint8))
    return folder


def test_every_format_is_written_and_the_submission_is_valid(images, tmp_path):
    files = find_images([images])
    assert predict_files(Squares(), files, tmp_path / "out") == []
    assert check_submission(tmp_path / "out" / "submission.csv", {file.id: (20, 30) for file in files}) == []
    assert read_labels(tmp_path / "out" / "labels" / "image_2.tif").sum() == 25
    assert read_labels(tmp_path / "out" / "labels" / "image_0.tif").sum() == 0
    predicted = load_coco(tmp_path / "out" / "predictions.json")
    assert [image["file_name"] for image in predicted.images] == [f"image_{n}.png" for n in range(5)]
    assert [int(predicted.masks(image).areas.sum()) for image in predicted.images] == [0, 25, 25, 25, 25]
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    assert [row["nuclei"] for row in rows] == ["0", "1", "1", "1", "1"]
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        f"image_{n}.png" for n in range(5)
    ]
    assert not (tmp_path / "out" / ".parts").exists()


def test_a_bad_image_is_named_and_the_rest_is_done(images, tmp_path):
    whole = (images / "image_3.png").read_bytes()
    (images / "image_3.png").write_bytes(whole[: len(whole) // 2])
    failed = predict_files(Squares(), find_images([images]), tmp_path / "out")
    assert [name for name, _ in failed] == ["image_3"]
    assert "image_3.png" in failed[0][1]
    assert not (tmp_path / "out" / "labels" / "image_3.tif").exists()
    status = {row["image_id"]: row["status"] for row in csv.DictReader((tmp_path / "out" / "images.csv").open())}
    assert [status[f"image_{n}"] == "ok" for n in range(5)] == [True, True, True, False, True]
    # Mended and run again, only the bad one is still to do.
    (images / "image_3.png").write_bytes(whole)
    again = Squares()
    assert predict_files(again, find_images([images]), tmp_path / "out") == []
    assert again.calls == 1


def test_an_interrupted_run_goes_on_where_it_was(images, tmp_path):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out")
    assert not (tmp_path / "out" / "submission.csv").exists(), "an unfinished submission is none"
    again = Squares()
    predict_files(again, files, tmp_path / "out")
    assert again.calls == 2
    predict_files(Squares(), files, tmp_path / "whole")
    for name in ("submission.csv", "labels/image_4.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_parts_of_other_settings_are_not_used(images, tmp_path):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out", settings={"model": "old"})
    again = Squares()
    predict_files(again, files, tmp_path / "out", settings={"model": "new"})
    assert again.calls == 5


def test_only_what_is_asked_for_is_written(images, tmp_path):
    predict_files(Squares(), find_images([images]), tmp_path / "out", formats=["rle"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["submission.csv"]
