"""Detections kept before thresholds against ordinary predictions under those thresholds."""

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.evaluation.detections import DetectionCache
from maskseg.imaging.reading import read_image
from maskseg.inference.api import build_predictor
from maskseg.inference.tta import PLAIN, View
from maskseg.models.zoo import find_model

SUPPRESSIONS = (0.2, 0.4, 0.7)


@pytest.fixture(scope="module")
def model():
    return find_model("nuclei", ["MODEL.DEVICE", "cpu", "INPUT.LONG_SIDE", "256"])


@pytest.fixture(scope="module")
def image(repository):
    """A quarter of an image of crowded nuclei, so that the network takes a moment only."""
    (path,) = repository.glob("datasets/sample/heldout/ae570a67*/images/*.png")
    return np.ascontiguousarray(read_image(path)[:128, :160])


@pytest.mark.slow
@pytest.mark.parametrize(("view", "magnify"), [(PLAIN, 1.0), (View(transposed=True, mirrored=True), 0.5)])
def test_a_choice_among_the_kept_is_what_the_network_gives_at_those_thresholds(model, image, view, magnify, tmp_path):
    cache = DetectionCache(model, tmp_path, 0.1, SUPPRESSIONS)
    kept = cache.get("one", image, view, magnify)
    predictor = build_predictor(model.cfg, model.weights)
    heads = predictor.model.roi_heads.box_predictor
    seen = np.ascontiguousarray(view.apply(image))
    counts = []
    for score in (0.1, 0.3, 0.8):
        for index, heads.test_nms_thresh in enumerate(SUPPRESSIONS):
            heads.test_score_thresh = score
            expected, chosen = predictor.detect(seen, magnify), kept.select(score, index)
            np.testing.assert_array_equal(chosen.boxes, expected.boxes)
            np.testing.assert_array_equal(chosen.scores, expected.scores)
            np.testing.assert_allclose(chosen.masks, expected.masks, atol=0.5 / 255 + 1e-6)
            counts.append(len(chosen.scores))
    heads.test_topk_per_image = 3
    np.testing.assert_array_equal(kept.select(0.8, 2, 3).boxes, predictor.detect(seen, magnify).boxes)
    assert len(set(counts)) > 3, "the thresholds make a difference in this image"


@pytest.mark.slow
def test_kept_detections_are_read_without_the_network_and_only_for_the_same_image_model_and_thresholds(
    model, image, tmp_path, monkeypatch
):
    first = DetectionCache(model, tmp_path, 0.1, SUPPRESSIONS).get("one", image, PLAIN, 1.0)
    runs = []
    monkeypatch.setattr(DetectionCache, "_detect", lambda self, *view: runs.append(view) or first)
    again = DetectionCache(model, tmp_path, 0.1, SUPPRESSIONS)
    for name in ("boxes", "scores", "masks", "survives"):
        np.testing.assert_array_equal(getattr(again.get("one", image, PLAIN, 1.0), name), getattr(first, name))
    assert not runs
    again.get("one", 255 - image, PLAIN, 1.0)
    again.get("one", image, View(mirrored=True), 1.0)
    again.get("one", image, PLAIN, 0.25)
    DetectionCache(model, tmp_path, 0.2, SUPPRESSIONS).get("one", image, PLAIN, 1.0)
    DetectionCache(model, tmp_path, 0.1, SUPPRESSIONS[:2]).get("one", image, PLAIN, 1.0)
    other = find_model("nuclei", ["MODEL.DEVICE", "cpu", "INPUT.LONG_SIDE", "288"])
    DetectionCache(other, tmp_path, 0.1, SUPPRESSIONS).get("one", image, PLAIN, 1.0)
    assert len(runs) == 6
    # Of the settings of post-processing the detections do not depend.
    same = find_model("nuclei", ["MODEL.DEVICE", "cpu", "INPUT.LONG_SIDE", "256", "POSTPROCESS.MIN_AREA", "3"])
    DetectionCache(same, tmp_path, 0.1, SUPPRESSIONS).get("one", image, PLAIN, 1.0)
    assert len(runs) == 6


@pytest.mark.slow
def test_a_damaged_file_is_named(model, image, tmp_path, monkeypatch):
    cache = DetectionCache(model, tmp_path, 0.1, SUPPRESSIONS)
    cache.get("one", image, PLAIN, 1.0)
    (path,) = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=rf"{path.name}.*delete it"):
        cache.get("one", image, PLAIN, 1.0)
