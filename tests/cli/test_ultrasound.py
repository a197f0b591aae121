"""Ultrasound frames from the zip file to the submission, with made-up frames and a small network."""

import json
import re
import zipfile

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.slow

SHAPE = (42, 58)
QUICK = {
    "INPUT.SIZE": "[16, 24]",
    "MODEL.UNET.CHANNELS": "[8, 16]",
    "SOLVER.MAX_ITER": "40",
    "SOLVER.WARMUP_ITERS": "1",
    "SOLVER.BASE_LR": "0.01",
    "TEST.EVAL_PERIOD": "0",
}


def picture(number, nerve):
    """A dark frame, with a bright disc or without, and its mask."""
    frame = np.random.default_rng(number).integers(0, 60, SHAPE, np.uint8)
    mask = np.zeros(SHAPE, np.uint8)
    if nerve:
        cv2.circle(mask, (20 + 3 * (number % 6), 20), 9, 255, -1)
    return np.where(mask > 0, 230, frame).astype(np.uint8), mask


@pytest.fixture
def zipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "nerves.zip", "w") as file:

        def add(name, pixels):
            file.writestr(name, cv2.imencode(".tif", pixels)[1].tobytes())

        for number in range(10):
            frame, mask = picture(number, number % 2)
            add(f"train/1_{number}.tif", frame)
            add(f"train/1_{number}_mask.tif", mask)
        for number in range(4):
            add(f"test/{number}.tif", picture(20 + number, number % 2)[0])
    return tmp_path / "nerves.zip"


def test_from_the_zip_file_to_a_submission_that_is_valid(maskseg, zipped, tmp_path):
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    assert maskseg("convert", "ultrasound", zipped, "-o", data)[0] == 0
    pairs = {**QUICK, "DATASETS.TRAIN": f"('{data}:train',)", "DATASETS.TEST": f"('{data}:dev',)", "OUTPUT_DIR": run}
    overrides = [text for pair in pairs.items() for text in pair]
    status, printed, _ = maskseg("train", "--config-file", "ultrasound_unet", "--num-gpus", 0, *overrides)
    assert status == 0
    assert re.search(r"all, never a nerve +[01]\.\d{4}", printed), printed
    rows = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert rows[-1]["total_loss"] < rows[0]["total_loss"]
    assert rows[-1]["validation/dice"] > 0.8

    status, _, error = maskseg("predict", f"{zipped}/test", "-o", out, "--model", run, "--formats", "rle")
    assert (status, error) == (0, "")
    lines = (out / "submission.csv").read_text().splitlines()
    assert lines[0] == "img,pixels"
    assert [line.partition(",")[2] == "" for line in lines[1:]] == [True, False, True, False]
    status, printed, _ = maskseg("submission", "check", out / "submission.csv", "--images", f"{zipped}/test")
    assert status == 0
    assert "OK, 2 masks in 4 images, 2 of them empty" in printed
