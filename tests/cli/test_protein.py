"""Protein localisation from the images to the submission. The images are made up."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch

from maskseg.inference.api import load_model
from maskseg.models.config import load_config
from maskseg.projects.protein.data import check_predicted, protein_dicts
from maskseg.projects.protein.samples import ProteinSamples, validation_sample

pytestmark = pytest.mark.slow

SIDE = 32


def settings(*changes):
    sizes = ["INPUT.LONG_SIDE", str(SIDE), "INPUT.AUG.WINDOW", str(SIDE), "DATALOADER.NUM_WORKERS", "0"]
    return ["MODEL.DEVICE", "cpu", "INPUT.CHANNELS", "['green']", *sizes, *changes]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twenty images for training, ten of them bright (class 3), and two for prediction; green and red."""
    folder = tmp_path_factory.mktemp("hpa")
    rng = np.random.default_rng(0)
    rows = ["Id,Target"]
    for number in range(22):
        bright = number % 2
        part = "train" if number < 20 else "test"
        (folder / part).mkdir(exist_ok=True)
        for channel in ("green", "red"):
            image = rng.integers(0, 60, (SIDE, SIDE)) + 150 * (bright and channel == "green")
            cv2.imwrite(str(folder / part / f"image{number}_{channel}.png"), image.astype(np.uint8))
        if part == "train":
            rows.append(f"image{number},{'3' if bright else '7 25'}")
    (folder / "train.csv").write_text("\n".join(rows))
    return folder


def test_samples_are_turned_and_mirrored_but_keep_their_brightness(dataset):
    cfg = load_config("protein_small", settings("INPUT.CHANNELS", "['green', 'red']", "INPUT.AUG.ROTATE", "0.0"))
    records = protein_dicts([f"{dataset}:train"])
    samples = ProteinSamples(cfg, records)
    plain = validation_sample(cfg, records[1])
    assert plain["image"].shape == (2, SIDE, SIDE) and plain["image"].dtype == torch.uint8
    drawn = [samples[position, 1] for position in range(8)]
    assert torch.equal(drawn[0]["image"], samples[0, 1]["image"]), "the position decides, also from the cache"
    assert len({one["image"].numpy().tobytes() for one in drawn}) == 8
    for one in drawn:
        assert one["image"].shape == plain["image"].shape
        assert torch.equal(one["labels"], plain["labels"])
        middle = one["image"][:, 8:-8, 8:-8].float().mean((1, 2))
        torch.testing.assert_close(middle, plain["image"].float().mean((1, 2)), rtol=0.1, atol=0)


def test_a_channel_that_is_missing_ends_a_training_before_it_begins(dataset, maskseg, tmp_path):
    status, _, error = maskseg(
        "train", "--config-file", "protein_small", "--num-gpus", 0,
        *settings("DATASETS.TRAIN", f"('{dataset}:train',)", "DATASETS.TEST", "()", "INPUT.CHANNELS", "['blue']"),
        "OUTPUT_DIR", tmp_path,
    )  # fmt: skip
    assert status == 2
    assert error.splitlines()[-1].startswith("maskseg: error: image0_blue.png: no such file")


def test_training_validation_prediction_and_submission(dataset, maskseg, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    sets = ["DATASETS.TRAIN", f"('{dataset}:train',)", "DATASETS.TEST", f"('{dataset}:dev',)"]
    schedule = ["SOLVER.MAX_ITER", "14", "TEST.EVAL_PERIOD", "7", "SOLVER.WARMUP_ITERS", "1", "SOLVER.BASE_LR", "0.01"]
    options = [*settings(*sets, *schedule), "OUTPUT_DIR", run]
    status, _, error = maskseg("train", "--config-file", "protein_small", "--num-gpus", 0, *options)
    assert status == 0, error
    assert (run / "curves.png").is_file()
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["validation/macro_f1_tuned"]]
    # Three classes of 28 occur, and bright is easily told from dark.
    assert float(rows[-1]["validation/macro_f1_tuned"]) == pytest.approx(3 / 28)
    model = load_model(run)
    thresholds = model.thresholds
    assert (thresholds != 0.5).sum() == 3, "those of the validation go with the weights"
    # Scored again, by the thresholds that were saved.
    status, text, _ = maskseg("train", "--config-file", run / "config.yaml", "--eval-only", "--num-gpus", 0)
    assert status == 0 and "macro F1, all 28" in text
    summary = json.loads((run / f"evaluation_{dataset.name}_dev.json").read_text())
    assert summary["macro_f1"] == pytest.approx(summary["macro_f1_tuned"])
    # One test image has lost its channel.
    (dataset / "test" / "lost_red.png").write_bytes((dataset / "test" / "image20_red.png").read_bytes())
    status, text, error = maskseg("predict", dataset / "test", "-o", out, "--model", run)
    assert status == 1
    assert "left out lost: lost_green.png: no such file" in error
    assert (out / "submission.csv").read_text() == "Id,Predicted\nimage20,7 25\nimage21,3\n"
    check_predicted(out / "submission.csv", ["image20", "image21"])
    (dataset / "test" / "lost_red.png").unlink()
    assert maskseg("submission", "check", out / "submission.csv", "--images", dataset / "test")[0] == 0
    assert maskseg("submission", "check", out / "submission.csv", "--images", dataset / "train")[0] == 2

    # What is for masks is refused, before anything is written; asked for or not, there is one format.
    options = {"--formats": "rle,geojson", "--tta": "d4", "--diameter": 20, "--normalize": "off",
               "--microns-per-pixel": 0.5, "--tile": 512, "--tile-overlap": 64,
               "--level": 1, "--mpp": 0.5, "--cluster": "ray"}  # fmt: skip
    for option, value in options.items():
        status, _, error = maskseg("predict", dataset / "test", "-o", tmp_path / "no", "--model", run, option, value)
        assert status == 2 and error.count("\n") == 1
        assert f"{option} {value}".replace("rle,", "") in error and f"{run}, a classifier of proteins," in error
    assert not (tmp_path / "no").exists()
    again = maskseg(
        "predict", dataset / "test", "-o", tmp_path / "again", "--model", run, "--tta", "none", "--formats", "rle"
    )
    assert again[0] == 0
    assert (tmp_path / "again" / "submission.csv").read_bytes() == (out / "submission.csv").read_bytes()
