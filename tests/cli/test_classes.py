"""Classes and corrections from the command line: convert, train, predict, evaluate."""

import csv
import json

import pytest
import torch
import yaml

from maskseg.data.dataset import load_coco, write_coco
from maskseg.models.checkpoint import model_weights

pytestmark = pytest.mark.slow


@pytest.fixture
def two(write_dataset, nuclei, tmp_path):
    """Images of nuclei of two classes, one of them to choose by."""
    labels = {f"i{number}": nuclei(number) for number in range(3)}
    folder = write_dataset(tmp_path / "two", labels, ("train", "train", "dev"))
    data = load_coco(folder)
    items = [item for image in data.images for item in data.annotations[image["id"]]]
    for item in items:
        item["category_id"] = 1 + item["id"] % 2
    write_coco(folder / "annotations.json", data.images, items, ("small", "large"))
    return folder


@pytest.fixture
def agnostic(maskseg, two, overrides, tmp_path):
    """A model without classes, of one step."""
    data = ["DATASETS.TRAIN", f"('{two}:train',)", "DATASETS.TEST", "()"]
    keys = overrides(
        OUTPUT_DIR=tmp_path / "agnostic",
        SOLVER__MAX_ITER=1,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.01,
        POSTPROCESS__MASK_THRESHOLD=0.0,
    )
    status, _, err = maskseg("train", "--num-gpus", 0, "--merge-classes", "all", *keys, *data)
    assert status == 0, err
    return tmp_path / "agnostic"


def test_a_model_without_classes_learns_two_and_every_output_names_them(maskseg, two, agnostic, tmp_path):
    assert yaml.safe_load((agnostic / "config.yaml").read_text())["MODEL"]["CLASS_NAMES"] == []
    run = tmp_path / "run"
    short = ["SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 0.0]
    status, out, err = maskseg("train", "--num-gpus", 0, "--from", agnostic, "--data", two, "-o", run, *short)
    assert status == 0, err
    assert "learns 2 classes: small" in out
    # All but the last layer is kept.
    before, after = model_weights(agnostic / "model_final.pth"), model_weights(run / "model_final.pth")
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    other = after.keys() - same
    assert other == {"roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.cls_score.bias"}
    config = yaml.safe_load((run / "config.yaml").read_text())["MODEL"]
    assert config["CLASS_NAMES"] == ["small", "large"] and config["ROI_HEADS"]["NUM_CLASSES"] == 2

    result = tmp_path / "out"
    status, out, err = maskseg(
        "predict", two / "images", "-o", result, "--model", run, "--formats", "coco,table,geojson"
    )
    assert status == 0, err
    content = json.loads((result / "predictions.json").read_text())
    assert content["annotations"], "the threshold lets everything through"
    names = {row["id"]: row["name"] for row in content["categories"]}
    assert set(names.values()) <= {"small", "large"}
    with (result / "nuclei.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [names[item["category_id"]] for item in content["annotations"]]
    with (result / "images.csv").open() as file:
        assert sum(int(row["nuclei_small"]) + int(row["nuclei_large"]) for row in csv.DictReader(file)) == len(rows)

    status, out, err = maskseg("evaluate", "--truth", two, "--pred", two, "-o", tmp_path / "scores")
    assert status == 0 and "mPQ+ 1.000" in out
    figures = json.loads((tmp_path / "scores" / "summary.json").read_text())["by_class"]
    assert figures["accuracy"] == 1 and set(figures["classes"]) == {"small", "large"}
    status, out, _ = maskseg("evaluate", "--truth", two, "--pred", two, "--merge-classes", "all")
    assert status == 0 and "mPQ+" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--merge-classes", "x=typo"], "no class 'typo'"),
        (["--class-names", "a,b"], "no nucleus is of these classes"),
        (["--class-names", "a,a"], "a name of its own"),
    ],
)
def test_classes_that_are_not_there_are_one_line(words, said, maskseg, two, agnostic, tmp_path):
    status, _, err = maskseg("train", "--num-gpus", 0, "--from", agnostic, "--data", two, "-o", tmp_path / "x", *words)
    assert status == 2 and said in err and err.count("\n") == 1


def test_a_training_says_how_many_corrected_nuclei_it_learns_from(maskseg, two, agnostic, tmp_path):
    marked = tmp_path / "marked"
    status, _, err = maskseg("export", two, "-o", marked, "--to", "geojson")
    assert status == 0, err
    path = marked / "i0.geojson"
    content = json.loads(path.read_text())
    ring = [[0, 0], [32, 0], [32, 48], [0, 48], [0, 0]]
    mark = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"name": "reviewed"}}
    content["features"].append({"type": "Feature", **mark})
    path.write_text(json.dumps(content))
    data = tmp_path / "corrected"
    status, _, err = maskseg("convert", "geojson", marked, "--images", two / "images", "--reviewed", "-o", data)
    assert status == 0, err
    (image,) = load_coco(data).images
    count = len(load_coco(data).annotations[image["id"]])
    assert 0 < count < len(load_coco(two).annotations[0])
    run = ["--from", agnostic, "--data", data, "-o", tmp_path / "run", "--merge-classes", "all", "SOLVER.MAX_ITER", 1]
    status, out, err = maskseg("train", "--num-gpus", 0, *run)
    assert status == 0, err
    assert f"learns from {count} corrected nuclei in 1 reviewed images" in out
