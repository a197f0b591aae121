import json
import os
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.data.dataset import load_coco
from maskseg.evaluation.dsb import image_scores, score_table, summarise
from tests.fixtures.converting import convert_folders as convert


def dense_dsb_score(truth, prediction):
    """The definition, with every mask and every pair held in full."""
    a = np.array([truth == t for t in np.unique(truth) if t], dtype=np.int64).reshape(-1, truth.size)
    b = np.array([prediction == p for p in np.unique(prediction) if p], dtype=np.int64).reshape(-1, truth.size)
    intersection = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - intersection
    per_threshold = []
    for percent in range(50, 100, 5):
        match = 100 * intersection > percent * union
        tp = (match.any(axis=1)).sum()
        fn = len(a) - tp
        fp = len(b) - match.any(axis=0).sum()
        per_threshold.append(tp / (tp + fp + fn) if tp + fp + fn else 1.0)
    return float(np.mean(per_threshold))


def random_labels(random, shape, nuclei):
    """Rectangles painted one over the other: many sizes, cut shapes and touching neighbours."""
    labels = np.zeros(shape, np.int32)
    for label in range(1, nuclei + 1):
        y, x = random.integers(0, shape[0]), random.integers(0, shape[1])
        h, w = random.integers(1, 12, size=2)
        labels[y : y + h, x : x + w] = label
    return labels


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 3))
@settings(max_examples=150)
def test_score_equals_the_dense_definition(seed, nuclei, shift):
    random = np.random.default_rng(seed)
    truth = random_labels(random, (48, 61), nuclei)
    prediction = np.roll(truth, shift, axis=seed % 2)  # overlaps at every threshold
    prediction = np.where(prediction % 5 == 1, 0, prediction)  # some missed
    extra = random_labels(random, truth.shape, int(random.integers(0, 4)))
    prediction = np.where(extra > 0, extra + 1000, prediction)  # some invented
    assert image_scores(truth, prediction)["dsb_score"] == pytest.approx(dense_dsb_score(truth, prediction), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
@settings(max_examples=50)
def test_truth_against_itself_scores_one_and_any_change_of_side_is_symmetric(seed, nuclei):
    random = np.random.default_rng(seed)
    truth, other = random_labels(random, (40, 40), nuclei), random_labels(random, (40, 40), nuclei)
    assert image_scores(truth, truth)["dsb_score"] == 1
    there, back = image_scores(truth, other), image_scores(other, truth)
    assert there["dsb_score"] == back["dsb_score"]
    assert there["precision_50"] == back["recall_50"]


def test_hand_drawn_answer():
    truth = np.zeros((10, 20), int)
    truth[0:4, 0:4] = 1  # 16 px, predicted as 12 px inside: IoU 0.75, above 0.50 ... 0.70 and not above 0.75
    truth[6:8, 0:4] = 2  # missed
    prediction = np.zeros_like(truth)
    prediction[0:3, 0:4] = 7
    scores = image_scores(truth, prediction)
    assert scores["dsb_score"] == pytest.approx(5 * (1 / 2) / 10, abs=1e-15)
    assert scores["matched_iou"] == scores["area_ratio"] == 0.75
    assert (scores["precision_70"], scores["recall_70"]) == (1, 0.5)
    assert scores["f1_70"] == pytest.approx(2 / 3)
    assert (scores["matched"], scores["n_truth"], scores["n_pred"]) == (1, 2, 1)


def test_outlines_too_wide_and_too_narrow_cancel_out():
    square, wide = np.zeros((20, 20), int), np.zeros((20, 20), int)
    square[5:15, 5:15], wide[5:15, 3:15] = 1, 1
    too_wide, too_narrow = image_scores(square, wide), image_scores(wide, square)
    assert too_wide["area_ratio"] == pytest.approx(1.2) and too_narrow["area_ratio"] == pytest.approx(1 / 1.2)
    assert summarise([too_wide, too_narrow])["area_ratio"] == pytest.approx(1)
    assert summarise([too_wide, too_wide, too_narrow])["area_ratio"] == pytest.approx(1.2 ** (1 / 3))


def test_empty_images():
    empty, one = np.zeros((5, 5), int), np.eye(5, dtype=int)
    both = image_scores(empty, empty)
    assert all(both[key] == 1 for key in ("dsb_score", "precision_50", "recall_50", "f1_50", "f1_70"))
    for truth, prediction in ((empty, one), (one, empty)):
        scores = image_scores(truth, prediction)
        assert scores["dsb_score"] == scores["precision_50"] == scores["recall_50"] == scores["f1_70"] == 0
        assert scores["matched_iou"] is scores["area_ratio"] is None


def test_summary_is_the_mean_over_images_for_the_set_and_each_modality():
    truth = np.zeros((6, 12), int)
    truth[:, 0:3], truth[:, 6:9] = 1, 2
    half = np.where(truth == 2, 0, truth)
    rows = [image_scores(truth, truth), image_scores(truth, half), image_scores(half, half)]
    summary = summarise(rows, ["a", "a", ""])
    assert summary["dsb_score"] == pytest.approx(np.mean([row["dsb_score"] for row in rows]))
    assert summary["by_modality"]["a"]["dsb_score"] == pytest.approx(0.75)
    assert summary["by_modality"]["unknown"]["images"] == 1
    assert sum(part["images"] for part in summary["by_modality"].values()) == summary["images"] == 3
    # Four of five nuclei are found, each exactly: the mean runs over nuclei, not over images.
    assert (summary["n_truth"], summary["matched"], summary["matched_iou"]) == (5, 4, 1)
    assert json.loads(json.dumps(summary)) == summary


def test_table_has_a_line_for_each_modality_and_the_set():
    rows = [
        image_scores(np.eye(3, dtype=int), np.eye(3, dtype=int)),
        image_scores(np.eye(3, dtype=int), np.zeros((3, 3), int)),
    ]
    lines = score_table(summarise(rows, ["tissue", "fluorescence"])).splitlines()
    assert "mean IoU (DSB score)" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["fluorescence", "tissue", "all"]
    assert "0.5000" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_a_set_without_images_has_no_score():
    with pytest.raises(InputError, match="no image"):
        summarise([])


@pytest.mark.slow
def test_truth_of_the_sample_scores_one_against_itself(repository, tmp_path):
    convert(repository / "datasets" / "sample", tmp_path, progress=False)
    data = load_coco(tmp_path)
    assert len(data.images) == 32
    for image in data.images:
        labels = data.masks(image).to_labels()
        scores = image_scores(labels, labels)
        assert scores["dsb_score"] == 1, image["file_name"]
        assert scores["n_truth"] == scores["n_pred"] > 0


@pytest.mark.skipif("MASKSEG_DATA" not in os.environ, reason="MASKSEG_DATA names no folder of data")
def test_truth_of_the_full_set_scores_one_against_itself():
    """Every twentieth image, read from the mask files themselves."""
    path = Path(os.environ["MASKSEG_DATA"]) / "dsb2018" / "stage1_train.zip"
    with zipfile.ZipFile(path) as archive:
        masks = defaultdict(list)
        for name in archive.namelist():
            if "/masks/" in name and name.endswith(".png"):
                masks[name.split("/")[-3]].append(name)
        assert len(masks) == 615
        for names in list(masks.values())[::20]:
            labels = None
            for label, name in enumerate(names, start=1):
                with archive.open(name) as file:
                    mask = np.asarray(Image.open(file).convert("L")) > 128
                labels = np.zeros(mask.shape, np.int32) if labels is None else labels
                labels[mask] = label
            assert image_scores(labels, labels)["dsb_score"] == 1
