"""``maskseg tune`` as a user runs it, on sample images."""

import csv
import shutil

import pytest
import torch

from maskseg.evaluation import tune as module
from maskseg.models.checkpoint import read_weights
from maskseg.models.zoo import find_model
from tests.fixtures.converting import convert_folders as convert

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    images = sorted(repository.glob("datasets/sample/heldout/*/images/*.png"), key=lambda path: path.stat().st_size)
    for path in images[:3]:
        shutil.copytree(path.parent.parent, folder / "folders" / path.stem)
    convert(folder / "folders", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture
def coarse(monkeypatch):
    """A space small enough for a test."""
    monkeypatch.setattr(module, "SPACE", {**module.SPACE, module.SCORE: (0.5, 0.8), module.SUPPRESSION: (0.5,)})


def test_a_training_folder_with_bad_settings_gets_better_ones_which_are_then_followed(
    maskseg, dataset, coarse, tmp_path
):
    bundled = find_model("nuclei", ["MODEL.DEVICE", "cpu", "POSTPROCESS.MASK_THRESHOLD", "0.9"])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(bundled.cfg.dump())
    torch.save({"model": read_weights(bundled.weights)["model"]}, run / "model_final.pth")
    status, out, err = maskseg("tune", dataset, "--model", run, "--folds", "3")
    assert status == 0, err
    assert "written:" in out
    tuned = find_model(run).cfg
    assert tuned.POSTPROCESS.MASK_THRESHOLD < 0.8
    rows = list(csv.DictReader((run / "tune" / "trials.csv").open()))
    scores = [float(row["dsb_score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    # Not always the first: a fold's search may have passed by what is better on all images.
    best = {float(row["POSTPROCESS.MASK_THRESHOLD"]): float(row["dsb_score"]) for row in reversed(rows)}
    assert best[tuned.POSTPROCESS.MASK_THRESHOLD] > best[0.9]
    assert (run / "tune" / "tune.png").stat().st_size > 10_000
    # Again from there: nothing is left to gain, and nothing is written over.
    kept = (run / "postprocess.yaml").read_bytes()
    status, out, _ = maskseg("tune", dataset, "--model", run, "--folds", "3")
    assert status == 0
    assert "stay as they are" in out
    assert (run / "postprocess.yaml").read_bytes() == kept


def test_one_file_models_are_not_changed_without_a_place_for_the_copy(maskseg, dataset):
    status, _, err = maskseg("tune", dataset)
    assert status == 2
    assert "-o" in err
    assert "Traceback" not in err


def test_the_dataset_is_named_where_it_is_missing(maskseg, tmp_path):
    status, _, err = maskseg("tune", tmp_path / "nowhere", "-o", tmp_path)
    assert status == 2
    assert "nowhere" in err


def test_too_few_images_are_said_before_the_network_runs(maskseg, dataset, tmp_path):
    status, _, err = maskseg("tune", dataset, "-o", tmp_path / "out")
    assert status == 2
    assert "3 images do not make 5 folds" in err
    assert not (tmp_path / "out").exists()


def test_of_two_sets_every_image_counts(maskseg, dataset, coarse, tmp_path):
    status, out, err = maskseg("tune", dataset, dataset, "-o", tmp_path / "out", "--folds", "2")
    assert status == 0, err
    assert f"{dataset}, {dataset}, 6 images" in out
    # The same images twice: looked at once, and counted twice.
    assert len(list((tmp_path / "out" / "detections").rglob("*-plain-1.npz"))) == 3
