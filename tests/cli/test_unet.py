"""A U-Net on real images, end to end: trained, gone on with, scored, exported, and its submission."""

import csv
import json

import numpy as np
import pytest
import tifffile

from maskseg.data.dataset import dataset_dicts
from maskseg.formats.kaggle_reader import read_submission
from maskseg.imaging.reading import read_image
from maskseg.inference.api import load_model
from maskseg.models.checkpoint import model_weights
from maskseg.models.config import load_config
from maskseg.models.zoo import find_model

pytestmark = pytest.mark.slow

QUICK = {
    "MODEL.UNET.CHANNELS": "[8, 16, 16]",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.AMP.ENABLED": "False",
    "SOLVER.BASE_LR": "0.01",
}


@pytest.fixture(scope="module")
def data(converted):
    """Four images to train on, two to choose by."""
    return converted("train", "train", "train", "train", "dev", "dev")


def words(data, out, **changes):
    pairs = {
        **QUICK,
        "DATASETS.TRAIN": f"('{data}:train',)",
        "DATASETS.TEST": f"('{data}:dev',)",
        "DATALOADER.CACHE_DIR": out.parent / "cache",
        "OUTPUT_DIR": out,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return ["--config-file", "nuclei_unet", "--num-gpus", "0", *(text for pair in pairs.items() for text in pair)]


def test_training_prediction_and_submission_in_one_go(maskseg, data, tmp_path):
    out, pictures = tmp_path / "run", data / "images"
    short = ["--image-size", "64", "--channel-rate", "0.5", "--epochs", "40", "--predict", pictures]
    settings = {"TEST__EVAL_PERIOD": 0, "POSTPROCESS__MASK_THRESHOLD": 0.3}
    status, _, errors = maskseg("train", *short, *words(data, out, **settings))
    assert status == 0, errors
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows]
    assert losses[-1] < 0.8 * losses[0], losses
    # 40 epochs of four images, two at once.
    assert rows[-1]["iteration"] == 79
    assert {"validation/total_loss", "validation/dsb_score"} <= rows[-1].keys()

    # What it was trained with goes with the weights.
    cfg = find_model(out).cfg
    assert (cfg.INPUT.LONG_SIDE, cfg.INPUT.AUG.WINDOW, cfg.INPUT.SHRINK) == (64, 64, True)
    assert cfg.MODEL.UNET.CHANNEL_RATE == 0.5

    # Every image is in the submission and has a label image of its own size, the same instances in both.
    with (out / "predicted" / "submission.csv").open() as file:
        names = {row["ImageId"] for row in csv.DictReader(file)}
    records = {record["image_id"]: record for record in dataset_dicts(str(data))}
    assert names == records.keys()
    sizes = {name: (record["height"], record["width"]) for name, record in records.items()}
    found = read_submission(out / "predicted" / "submission.csv", sizes)
    for name, shape in sizes.items():
        labels = tifffile.imread(out / "predicted" / "labels" / f"{name}.tif")
        assert labels.shape == shape
        assert len(found[name]) == labels.max()
        assert sum(lengths.sum() for _, lengths in found[name]) == np.count_nonzero(labels)
    assert sum(len(runs) for runs in found.values()) > 0

    # Scored again it has the score that it had, and exported too.
    again = ["train", "--config-file", out / "config.yaml", "--num-gpus", 0, "--eval-only"]
    assert maskseg(*again)[0] == 0
    scored = json.loads((out / "evaluation_data_dev.json").read_text())
    status, _, errors = maskseg("models", "export", out, "-o", tmp_path / "unet.safetensors")
    assert status == 0, errors
    model = find_model(tmp_path / "unet.safetensors").cfg
    assert model.INPUT.LONG_SIDE == 64
    assert scored["images"] == 2
    status, _, errors = maskseg(*again, "--image-size", 128)
    assert status == 2 and "trained with INPUT.LONG_SIDE 64, and the config has 128" in errors
    image = read_image(pictures / f"{min(names)}.png")
    whole, half = (load_model(name).segment(image).to_labels() for name in (out, tmp_path / "unet.safetensors"))
    assert np.count_nonzero((whole > 0) != (half > 0)) < 0.01 * whole.size

    # What is tuned are the thresholds of a Mask R-CNN.
    status, _, errors = maskseg("tune", f"{data}:dev", "--folds", 2, "--model", out, "-o", tmp_path / "tuned")
    assert status == 2 and "no Mask R-CNN" in errors and errors.count("\n") == 1
    # Nor has it tiles, levels or a diameter.
    for option, value in {"--diameter": "20", "--tile": 512, "--tile-overlap": 64, "--level": 1, "--mpp": 0.5}.items():
        status, _, errors = maskseg("predict", pictures, "-o", tmp_path / "no", "--model", out, option, value)
        assert status == 2 and errors.count("\n") == 1
        assert f"{option} {value}: the model {out}, a U-Net, cannot follow it; leave it out" in errors
    assert not (tmp_path / "no").exists()


def test_it_goes_on_where_it_was(maskseg, data, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    settings = {"INPUT__LONG_SIDE": 64, "INPUT__AUG__WINDOW": 64, "DATASETS__TEST": "()", "SOLVER__WARMUP_ITERS": 0}
    settings["SOLVER__LR_SCHEDULER_NAME"] = "WarmupMultiStepLR"
    assert maskseg("train", *words(data, whole, SOLVER__MAX_ITER=6, **settings))[0] == 0
    assert maskseg("train", *words(data, halves, SOLVER__MAX_ITER=3, **settings))[0] == 0
    status, _, errors = maskseg("train", "--resume", *words(data, halves, SOLVER__MAX_ITER=6, **settings))
    assert status == 0, errors
    ours, theirs = (model_weights(folder / "model_final.pth") for folder in (whole, halves))
    assert all(np.allclose(value, theirs[key], rtol=1e-4, atol=1e-6) for key, value in ours.items())
    # The images were read by the first of the three trainings, and kept for the others.
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_published_numbers_stand_in_the_config():
    cfg = load_config("nuclei_unet")
    assert list(cfg.MODEL.UNET.CHANNELS) == [32, 64, 128, 256, 512]
    assert (cfg.INPUT.LONG_SIDE, cfg.INPUT.AUG.WINDOW) == (256, 256)
    assert (cfg.MODEL.UNET.LOSS, cfg.SOLVER.OPTIMIZER) == ("bce", "Adam")
