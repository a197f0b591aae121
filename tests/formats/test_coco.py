"""Predictions in COCO's form, read back by pycocotools and by maskseg."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import image_id, load_coco
from maskseg.formats.coco import write_predictions


def masks(seed: int, count: int, shape=(40, 50)) -> CropMasks:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for value in range(1, count + 1):
        y, x = rng.integers(shape[0] - 8), rng.integers(shape[1] - 8)
        labels[y : y + 8, x : x + 8] = value
    present = np.unique(labels)[1:]
    return CropMasks.from_labels(labels, rng.random(len(present)))


def test_pycocotools_and_maskseg_read_the_same_nuclei_with_their_scores(tmp_path):
    predicted = {"one.png": masks(1, 7), "none.tif": masks(2, 0), "two.jpg": masks(3, 12)}
    path = tmp_path / "deep" / "predictions.json"
    write_predictions(path, predicted.items())
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
    ours = load_coco(path)
    assert [image["file_name"] for image in ours.images] == list(predicted)
    for image in ours.images:
        expected = predicted[image["file_name"]]
        read = ours.masks(image)
        np.testing.assert_array_equal(read.to_labels(), expected.to_labels())
        np.testing.assert_allclose(read.scores, expected.scores, atol=1e-6)
        items = theirs.imgToAnns[image["id"]]
        assert len(items) == len(expected)
        for item, box, bitmap in zip(items, expected.boxes, expected.bitmaps, strict=True):
            x, y, w, h = item["bbox"]
            assert (x, y, x + w, y + h) == tuple(box)
            np.testing.assert_array_equal(theirs.annToMask(item)[y : y + h, x : x + w], bitmap)
            assert item["area"] == bitmap.sum()
    assert len({item["id"] for item in theirs.dataset["annotations"]}) == sum(map(len, predicted.values()))
    assert [image_id(image) for image in ours.images] == ["one", "none", "two"]


def test_where_predicted_masks_overlap_the_higher_score_has_the_pixel(tmp_path):
    large, small = np.ones((4, 4), bool), np.ones((2, 2), bool)
    both = CropMasks((6, 6), [(0, 0, 4, 4), (1, 1, 3, 3)], [large, small], [0.9, 0.6])
    write_predictions(tmp_path / "p.json", [("a.png", both)])
    data = load_coco(tmp_path / "p.json")
    assert np.unique(data.masks(data.images[0]).to_labels()).tolist() == [0, 1]


def test_pycocotools_of_any_version_loads_the_file(tmp_path):
    """Versions 2.0.9 and 2.0.10 end loadRes with a KeyError where "info" is missing."""
    masks = CropMasks.from_labels(np.pad(np.ones((4, 5), np.uint16), 3))
    write_predictions(tmp_path / "a.json", [("a.png", masks)])
    truth = COCO(str(tmp_path / "a.json"))
    assert {"info", "licenses"} <= truth.dataset.keys()
    assert len(truth.loadRes(truth.dataset["annotations"]).anns) == 1
