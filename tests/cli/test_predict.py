"""``maskseg predict`` with the bundled model, on real images, as a user runs it."""

import csv
import shutil
import subprocess
import sys

import pytest

from maskseg.data.coco import dataset_dicts
from maskseg.data.mask_folders import convert
from maskseg.evaluation.dsb import image_scores
from maskseg.masks import CropMasks
from maskseg.output.labels import read_labels


def maskseg(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "maskseg.cli.main", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def smallest(repository, tmp_path_factory):
    """The three smallest held-out images, as mask folders."""
    folder = tmp_path_factory.mktemp("heldout")
    images = sorted(
        (repository / "datasets/sample/heldout").glob("*/images/*.png"), key=lambda path: path.stat().st_size
    )
    for path in images[:3]:
        shutil.copytree(path.parent.parent, folder / path.stem)
    return folder


def test_the_bundled_model_outlines_held_out_images(smallest, tmp_path):
    """From another folder than the repository; the score is far above what an untrained network reaches."""
    done = maskseg("predict", smallest, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = maskseg("submission", "check", "out/submission.csv", "--images", smallest, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    convert(smallest, tmp_path / "truth", progress=False)
    for record in dataset_dicts(str(tmp_path / "truth")):
        shape = (record["height"], record["width"])
        truth = CropMasks.from_rle([item["segmentation"] for item in record["annotations"]], shape).to_labels()
        found = read_labels(tmp_path / "out" / "labels" / f"{record['image_id']}.tif")
        assert image_scores(truth, found)["dsb_score"] > 0.4


def test_a_corrupt_image_is_named_the_rest_is_done_and_the_exit_status_says_so(smallest, tmp_path):
    good = next(smallest.glob("*/images/*.png"))
    (tmp_path / "images").mkdir()
    shutil.copy(good, tmp_path / "images" / "good.png")
    (tmp_path / "images" / "bad.png").write_bytes(good.read_bytes()[:1000])
    done = maskseg("predict", "images", "-o", "out", "--formats", "table", "--tta", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.png" in done.stderr
    assert "Traceback" not in done.stderr
    rows = {row["image_id"]: row for row in csv.DictReader((tmp_path / "out" / "images.csv").open())}
    assert rows["good"]["status"] == "ok"
    assert int(rows["good"]["nuclei"]) > 0
    assert rows["bad"]["status"] != "ok"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere"),
        (["images", "--formats", "rle,jpeg"], "--formats"),
        (["images", "--model", "no-such-model"], "no-such-model"),
    ],
)
def test_bad_calls_end_in_one_line(repository, tmp_path, arguments, words):
    (tmp_path / "images").mkdir()
    shutil.copy(next((repository / "datasets/sample/heldout").glob("*/images/*.png")), tmp_path / "images")
    done = maskseg("predict", *arguments, "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
