"""A large image to files: what is streamed tile by tile is what the whole image gives."""

import csv

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.formats.geojson import read_geojson
from maskseg.formats.kaggle_reader import read_submission
from maskseg.formats.labels import LabelWriter, read_labels
from maskseg.formats.registry import predicted
from maskseg.formats.writer import ImageInfo, write_all
from maskseg.imaging.finding import find_images
from maskseg.inference.run import Tiles, predict_files
from tests.inference.test_predictor import BrightSpots, disks, predictor, scale_model
from tests.inference.test_tiling import UNSCALED, Marked, marks, scored

EVERY = [name for name in predicted() if name != "parquet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One image, as a whole and in tiles; the folder of each run."""
    folder = tmp_path_factory.mktemp("large")
    image = marks(np.random.default_rng(5), (500, 420), 500)
    tifffile.imwrite(folder / "a.tif", image, tile=(64, 64), photometric="rgb", bigtiff=True)
    model = predictor(Marked(), *UNSCALED)
    for name, large in (("whole", 10**9), ("tiled", 1000)):
        tiles = Tiles(side=128, overlap=68, large=large)
        assert predict_files(model, find_images([folder / "a.tif"]), folder / name, EVERY, tiles=tiles) == []
    return folder / "whole", folder / "tiled"


@pytest.mark.slow
def test_label_images_hold_the_same_nuclei(runs):
    whole, tiled = (CropMasks.from_labels(read_labels(run / "labels/a.tif")) for run in runs)
    assert len(whole) > 100
    assert scored(tiled) == scored(whole)
    with tifffile.TiffFile(runs[1] / "labels/a.tif") as file:
        assert not file.is_bigtiff
        assert file.pages.first.is_tiled
        assert file.pages.first.dtype == np.uint16
    for run in runs:
        group = zarr.open_group(run / "zarr/a.zarr", mode="r")
        np.testing.assert_array_equal(group["0"][:], read_labels(run / "labels/a.tif"))


@pytest.mark.slow
def test_every_other_format_holds_the_same_nuclei(runs):
    shape = (500, 420)
    whole, tiled = (read_geojson(run / "geojson/a.geojson", shape) for run in runs)
    assert scored(tiled) == scored(whole)
    whole, tiled = (load_coco(run / "predictions.json") for run in runs)
    assert scored(tiled.masks(tiled.images[0])) == scored(whole.masks(whole.images[0]))
    whole, tiled = (read_submission(run / "submission.csv", {"a": shape})["a"] for run in runs)
    assert {run[0].tobytes() for run in tiled} == {run[0].tobytes() for run in whole}
    for name in ("imagej/a.zip", "svg/a.svg", "overlays/a.png"):
        assert (runs[1] / name).stat().st_size > 1000


def test_tables_hold_the_same_nuclei_with_the_labels_of_the_label_image(runs):
    whole, tiled = ([row for row in csv.DictReader((run / "nuclei.csv").open())] for run in runs)
    keys = [key for key in whole[0] if key != "label"]
    assert sorted([row[key] for key in keys] for row in tiled) == sorted([row[key] for key in keys] for row in whole)
    labels = read_labels(runs[1] / "labels/a.tif")
    for row in tiled[::20]:
        assert np.count_nonzero(labels == int(row["label"])) == int(row["area"])
    whole, tiled = (next(csv.DictReader((run / "images.csv").open())) for run in runs)
    assert {**tiled, "seconds": ""} == {**whole, "seconds": ""}


def test_nothing_but_the_results_is_left(runs):
    assert not (runs[1] / ".parts").exists()


def test_labels_above_16_bits_are_stored(tmp_path):
    masks = CropMasks((600, 300), [[10, 250, 30, 270], [280, 590, 300, 600]], [np.ones((20, 20)), np.ones((10, 20))])
    masks.bitmaps = [bitmap.astype(bool) for bitmap in masks.bitmaps]
    writer = LabelWriter(ImageInfo("a", (600, 300), at_most=70000), tmp_path / "a.tif")
    write_all([writer], [(masks[:1], 100), (masks[1:], 600)])
    labels = read_labels(tmp_path / "a.tif")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, masks.to_labels())


@pytest.mark.slow
def test_a_large_image_without_formats_of_run_lengths_is_the_same(runs, tmp_path):
    source, tiles = runs[0].parent / "a.tif", Tiles(side=128, overlap=68, large=1000)
    model = predictor(Marked(), *UNSCALED)
    assert predict_files(model, find_images([source]), tmp_path, ["labels", "geojson"], tiles=tiles) == []
    for name in ("labels/a.tif", "geojson/a.geojson"):
        assert (tmp_path / name).read_bytes() == (runs[1] / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["geojson", "labels"]


@pytest.mark.parametrize(("shape", "big"), [((300, 400), False), ((70_000, 70_000), True)])
def test_label_images_are_classic_tiff_below_4_gb(shape, big, tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr("maskseg.formats.labels.tifffile.imwrite", lambda *args, **kwargs: written.update(kwargs))
    writer = LabelWriter(ImageInfo("a", shape, at_most=10), tmp_path / "a.tif")
    writer.open()
    writer.add(CropMasks.empty(shape), 0)
    writer.close()
    assert written["bigtiff"] is big


def test_a_level_that_is_asked_for_is_taken_of_a_small_file_too_and_one_that_has_none_says_so(tmp_path):
    image = marks(np.random.default_rng(6), (256, 384), 60)
    with tifffile.TiffWriter(tmp_path / "levels.tif") as file:
        file.write(image, subifds=1, tile=(64, 64), photometric="rgb")
        file.write(image[::2, ::2], subfiletype=1, tile=(64, 64), photometric="rgb")
    tifffile.imwrite(tmp_path / "one.tif", image, photometric="rgb")
    cv2.imwrite(str(tmp_path / "plain.png"), image)
    model, out = predictor(Marked(), *UNSCALED), tmp_path / "out"
    failed = dict(predict_files(model, find_images([tmp_path]), out, ["labels"], tiles=Tiles(level=1)))
    assert sorted(failed) == ["one", "plain"]
    assert "levels 0 to 0" in failed["one"] and "leave out --level" in failed["plain"]
    assert read_labels(out / "labels" / "levels.tif").shape == (128, 192)


@pytest.mark.slow
def test_the_tiles_that_are_asked_for_cut_what_is_large_once_it_is_magnified(tmp_path):
    cv2.imwrite(str(tmp_path / "disks.png"), disks(10))
    network = BrightSpots()
    tiles = Tiles(side=128, overlap=64, large=600 * 600)
    assert predict_files(scale_model(network), find_images([tmp_path]), tmp_path / "out", ["labels"], tiles=tiles) == []
    assert read_labels(tmp_path / "out" / "labels" / "disks.tif").max() == 12
    first, *others = (shape[1] * shape[2] for shape in network.seen)
    assert first == 416 * 512 and max(others) <= (128 + 2 * 96) ** 2
