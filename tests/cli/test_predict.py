"""``maskseg predict`` with the bundled model, on real images, as a user runs it."""

import csv
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts
from maskseg.evaluation.dsb import image_scores
from maskseg.formats.geojson import read_geojson
from maskseg.formats.labels import read_labels
from tests.fixtures.converting import convert_folders as convert

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_the_bundled_model_outlines_held_out_images(smallest, tmp_path, maskseg):
    """In a process of its own, from another folder; the score is far above what an untrained network reaches."""
    command = [sys.executable, "-m", "maskseg.cli.main", "predict", smallest, "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status, out, errors = maskseg("submission", "check", tmp_path / "out" / "submission.csv", "--images", smallest)
    assert status == 0, out + errors
    convert(smallest, tmp_path / "truth", progress=False)
    for record in dataset_dicts(str(tmp_path / "truth")):
        shape = (record["height"], record["width"])
        truth = CropMasks.from_rle([item["segmentation"] for item in record["annotations"]], shape).to_labels()
        found = read_labels(tmp_path / "out" / "labels" / f"{record['image_id']}.tif")
        assert image_scores(truth, found)["dsb_score"] > 0.4


def test_a_corrupt_image_is_named_the_rest_is_done_and_the_exit_status_says_so(smallest, here, maskseg):
    good = next(smallest.glob("*/images/*.png"))
    (here / "images").mkdir()
    shutil.copy(good, here / "images" / "good.png")
    (here / "images" / "bad.png").write_bytes(good.read_bytes()[:1000])
    status, _, errors = maskseg("predict", "images", "-o", "out", "--formats", "table", "--tta", "none")
    assert status == 1
    assert "bad.png" in errors
    assert "Traceback" not in errors
    status, _, _ = maskseg("predict", "images/bad.png", "-o", "none", "--formats", "table", "--tta", "none")
    assert status == 2
    rows = {row["image_id"]: row for row in csv.DictReader((here / "out" / "images.csv").open())}
    assert rows["good"]["status"] == "ok"
    assert int(rows["good"]["nuclei"]) > 0
    assert rows["bad"]["status"] != "ok"


def test_a_bad_input_is_named_and_the_others_are_done(smallest, here, maskseg):
    shutil.copy(next(smallest.glob("*/images/*.png")), here / "good.png")
    (here / "bad.zip").write_bytes(b"PK\3\4 cut short")
    bad = ("bad.zip", "missing")
    for inputs, ends in (((bad[0], "good.png", bad[1]), 1), (bad, 2)):
        status, _, errors = maskseg("predict", *inputs, "-o", f"out{ends}", "--formats", "table", "--tta", "none")
        assert status == ends
        assert "Traceback" not in errors
        assert errors.count("bad.zip: not a readable zip file") == errors.count("missing: no image found") == 1
    (row,) = csv.DictReader((here / "out1" / "images.csv").open())
    assert (row["image_id"], row["status"]) == ("good", "ok")
    assert not (here / "out2" / "images.csv").exists()


def odd_images(grey, folder):
    """One fluorescence image, uint8 (H, W), in many forms, and images of odd sizes."""
    folder.mkdir()
    image, wide = Image.fromarray(grey), grey.astype(np.uint16) * 200
    image.save(folder / "grey.png")
    image.convert("RGBA").save(folder / "same_rgba.png")
    image.convert("LA").save(folder / "same_grey_alpha.png")
    palette = Image.fromarray(255 - grey).convert("P")
    palette.putpalette(np.repeat(np.arange(256, dtype=np.uint8)[::-1], 3).tobytes())
    palette.save(folder / "same_palette.png")
    tifffile.imwrite(folder / "same_tiff.tif", grey[None], compression="zlib")
    turn = Image.Exif()
    turn[0x0112] = 6
    Image.fromarray(np.rot90(grey)).save(folder / "near_turned.jpg", quality=97, exif=turn)
    image.convert("CMYK").save(folder / "near_cmyk.jpg", quality=97)
    cv2.imwrite(str(folder / "wide.png"), wide)
    tifffile.imwrite(folder / "wide_float.tif", wide.astype(np.float32) / 65535 - 1)
    tifffile.imwrite(folder / "wide_rgba.tif", np.dstack([wide] * 4), photometric="rgb", extrasamples=["unassalpha"])
    Image.new("RGB", (1, 1), (200, 0, 0)).save(folder / "size_1.png")
    Image.fromarray(np.resize(grey, (10, 20000))).save(folder / "size_long.png")
    Image.fromarray(np.resize(grey, (20000, 10))).save(folder / "size_tall.png")
    tifffile.imwrite(folder / "bad_two_channels.tif", np.stack([grey] * 2), imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(folder / "bad_complex.tif", grey.astype(np.complex64))
    tifffile.imwrite(folder / "bad_nan.tif", np.where(grey > 9, np.nan, grey).astype(np.float32))


def test_odd_images_are_right_or_one_clear_line_in_every_format(repository, here, maskseg):
    """The same pixels in another form have the same nuclei; where a form is inexact, nearly the same."""
    (path,) = (repository / "datasets/sample/heldout").glob("2dd9d8c7*/images/*.png")
    grey = np.asarray(Image.open(path).convert("L"))
    odd_images(grey, here / "odd")
    formats = "rle,labels,coco,table,geojson,imagej,svg,parquet"
    status, _, errors = maskseg("predict", "odd", "-o", "out", "--formats", formats, "--tta", "none")
    assert status == 1
    assert "Traceback" not in errors
    left_out = [line for line in errors.splitlines() if line.startswith("left out ")]
    assert [line.split()[2].rstrip(":") for line in left_out] == ["bad_complex", "bad_nan", "bad_two_channels"]
    assert all(f"{name}.tif: " in line for name, line in zip(("complex", "nan", "two_channels"), left_out, strict=True))

    labels = {path.stem: read_labels(path) for path in (here / "out" / "labels").iterdir()}
    assert labels["grey"].max() > 5
    for name, found in labels.items():
        if name.startswith("same"):
            np.testing.assert_array_equal(found, labels["grey"], err_msg=name)
        if name.startswith(("near", "wide_")):
            # Percentiles of one channel and of three equal ones differ in the last digit.
            assert image_scores(labels["wide" if name.startswith("wide") else "grey"], found)["dsb_score"] > 0.8, name
    assert image_scores(labels["grey"], labels["wide"])["dsb_score"] > 0.5
    assert {name: labels[name].shape for name in labels if name.startswith("size")} == {
        "size_1": (1, 1),
        "size_long": (10, 20000),
        "size_tall": (20000, 10),
    }

    nuclei = list(csv.DictReader((here / "out" / "nuclei.csv").open()))
    for name, found in labels.items():
        number = found.max()
        assert sum(row["image_id"] == name for row in nuclei) == number
        masks = read_geojson(here / "out" / "geojson" / f"{name}.geojson", found.shape)
        np.testing.assert_array_equal(masks.to_labels(), found)
        assert len(roifile.roiread(here / "out" / "imagej" / f"{name}.zip")) == number
        assert (here / "out" / "svg" / f"{name}.svg").read_text().count("<path ") == number
    means = {row["image_id"]: row["intensity_mean_0"] for row in nuclei if row["label"] == "1"}
    assert float(means["grey"]) == pytest.approx(grey[labels["grey"] == 1].mean())
    assert float(means["wide"]) == pytest.approx(grey[labels["wide"] == 1].mean() * 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere"),
        (["images", "--formats", "rle,jpeg"], "--formats"),
        (["images", "--microns-per-pixel", "0"], "--microns-per-pixel"),
        (["images", "--diameter", "0.3"], "--diameter 0.3: give the diameter of a nucleus in pixels"),
        (["images", "--normalize", "4000,100"], "--normalize 4000,100: give auto, off, or the two values"),
        (["images", "--model", "no-such-model"], "no-such-model"),
    ],
)
def test_bad_calls_end_in_one_line(repository, here, maskseg, arguments, words):
    (here / "images").mkdir()
    shutil.copy(next((repository / "datasets/sample/heldout").glob("*/images/*.png")), here / "images")
    status, _, errors = maskseg("predict", *arguments, "-o", "out")
    assert status == 2
    assert words in errors
    assert "Traceback" not in errors
    assert not (here / "out").exists()
