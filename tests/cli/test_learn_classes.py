"""A short training tells classes apart that anybody sees: bright nuclei on black, and dark ones on a light field."""

import csv
import json
import shutil

import numpy as np
import pytest

from maskseg.data.dataset import load_coco, write_coco
from maskseg.data.split import write_split
from tests.fixtures.converting import convert_folders as convert

pytestmark = pytest.mark.slow

NAMES = ("bright", "dark")


@pytest.fixture(scope="module")
def two(repository, tmp_path_factory):
    """Three images of each class to learn from, and three of each held out."""
    folder, sample = tmp_path_factory.mktemp("two"), repository / "datasets" / "sample"
    with (sample / "modality.csv").open() as file:
        modality = {row["image_id"]: row["modality"] for row in csv.DictReader(file)}
    kinds, parts = {}, {}
    for part in ("train", "heldout"):
        left = [3, 3]
        for source in sorted((sample / part).iterdir()):
            kind = int(modality[source.name] != "white on black")
            if left[kind]:
                left[kind] -= 1
                kinds[source.name], parts[source.name] = kind, part
                shutil.copytree(source, folder / "source" / source.name)
        assert left == [0, 0]
    data = folder / "data"
    convert(folder / "source", data, progress=False)
    content = load_coco(data)
    items = [item for image in content.images for item in content.annotations[image["id"]]]
    of_image = {image["id"]: kinds[image["file_name"].removesuffix(".png")] for image in content.images}
    for item in items:
        item["category_id"] = 1 + of_image[item["image_id"]]
    write_coco(data / "annotations.json", content.images, items, NAMES)
    write_split(data / "split.csv", [{"image_id": k, "part": part, "modality": ""} for k, part in parts.items()])
    return data


@pytest.fixture(scope="module")
def trained(two, tmp_path_factory):
    from typer.testing import CliRunner

    from maskseg.cli.main import app

    run = tmp_path_factory.mktemp("trained") / "run"
    short = ["SOLVER.MAX_ITER", "40", "SOLVER.IMS_PER_BATCH", "2", "SEED", "1"]
    result = CliRunner().invoke(
        app, ["train", "--num-gpus", "0", "--from", "nuclei", "--data", f"{two}:train", "-o", str(run), *short]
    )
    assert result.exit_code == 0, result.output
    assert "10 times that for the layer of classes" in result.output
    return run


def test_forty_iterations_tell_bright_from_dark_on_other_images(maskseg, two, trained, tmp_path):
    out = tmp_path / "out"
    status, _, err = maskseg("predict", two / "images", "-o", out, "--model", trained, "--formats", "coco,geojson")
    assert status == 0, err
    scores = tmp_path / "scores"
    status, said, err = maskseg(
        "evaluate", "--truth", f"{two}:heldout", "--pred", out / "predictions.json", "-o", scores
    )
    assert status == 0, err
    figures = json.loads((scores / "summary.json").read_text())["classes"]
    print(figures)
    assert figures["accuracy"] > 0.9, said
    for path in sorted((out / "geojson").glob("*.geojson")):
        names = [one["properties"]["classification"]["name"] for one in json.loads(path.read_text())["features"]]
        assert set(names) <= set(NAMES)


def test_tiles_and_turns_give_the_same_classes(two, trained):
    from maskseg.imaging.reading import read_image
    from maskseg.inference.api import load_model

    content = load_coco(two)
    whole, turned = load_model(trained), load_model(trained, ["POSTPROCESS.TTA", "d4"])
    for image in content.images[::3]:
        pixels = read_image(two / "images" / image["file_name"])
        one, other = whole.segment(pixels), turned.segment(pixels)
        share = [np.bincount(masks.classes, minlength=2).argmax() for masks in (one, other)]
        assert share[0] == share[1]
