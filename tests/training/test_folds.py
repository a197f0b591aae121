"""Cross-validation."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_record
from maskseg.evaluation import dsb
from maskseg.inference.predictor import Predictor
from maskseg.models.config import load_config
from maskseg.training import folds
from maskseg.training.folds import fold_configs, pooled_scores
from maskseg.training.trainer import Trainer, load_records


@pytest.fixture
def dataset(write_dataset, nuclei, tmp_path):
    """Five images in three folds, one for training only."""
    labels = {f"image{number}": nuclei(number) for number in range(6)}
    return write_dataset(tmp_path / "data", labels, ["fold1", "fold1", "fold2", "fold2", "fold10", "train"])


@pytest.fixture
def config(overrides, tmp_path):
    def make(*names, **changes):
        return load_config(
            "nuclei_R_18_FPN",
            overrides(DATASETS__TRAIN=names, OUTPUT_DIR=tmp_path / "run", SOLVER__MAX_ITER=1, **changes),
        )

    return make


def test_each_training_sees_all_but_its_fold(config, dataset):
    configs = fold_configs(config(str(dataset)))
    seen = [{record["image_id"] for record in load_records(cfg.DATASETS.TRAIN)} for cfg in configs]
    everything = {f"image{number}" for number in range(6)}
    assert seen == [everything - out for out in ({"image0", "image1"}, {"image2", "image3"}, {"image4"})]
    assert len({cfg.OUTPUT_DIR for cfg in configs}) == 3
    assert all(cfg.DATASETS.TEST == () for cfg in configs), "nothing is chosen by the fold"


@pytest.mark.slow
def test_every_image_of_a_fold_is_scored_once_by_the_training_that_did_not_see_it(
    config, dataset, tmp_path, monkeypatch
):
    configs = fold_configs(config(str(dataset)))
    for cfg in configs:
        Trainer(cfg).train()
        (Path(cfg.OUTPUT_DIR) / "config.yaml").write_text(cfg.dump())
    # A network that has learned the truth of a fold by heart, but for one nucleus in the second.
    scored = []

    class Perfect(Predictor):
        title = "perfect"

        def __init__(self, cfg, _):
            self.cfg = cfg

        def segment(self, image, tta=None):
            scored.append(Path(self.cfg.OUTPUT_DIR).name)
            masks = CropMasks.from_labels(np.where(image[..., 0] > 0, (image[..., 0].astype(int) - 60) // 5, 0))
            return masks[1:] if scored[-1] == "fold2" else masks

    monkeypatch.setattr(folds, "build_predictor", Perfect)
    scores = pooled_scores(configs, tmp_path)
    assert scored == ["fold1", "fold1", "fold2", "fold2", "fold10"]
    assert scores["fold1"] == scores["fold10"] == 1.0
    counts = [load_record(record)[1].max() for record in load_records((f"{dataset}:fold2",))]
    assert scores["fold2"] == pytest.approx(np.mean([(count - 1) / count for count in counts]))
    assert scores["pooled"]["images"] == 5
    assert scores["pooled"]["dsb_score"] == pytest.approx((3 + 2 * scores["fold2"]) / 5)
    assert json.loads((tmp_path / "folds.json").read_text())["fold2"] == scores["fold2"]
    assert dsb.score_table(scores["pooled"])


def test_a_data_set_without_folds_is_refused(config, dataset, write_dataset, nuclei, tmp_path):
    other = write_dataset(tmp_path / "other", {"a": nuclei(0)})
    with pytest.raises(InputError, match=r"maskseg split .*other --folds 5"):
        fold_configs(config(str(other)))
    with pytest.raises(InputError, match="one data set folder"):
        fold_configs(config(f"{dataset}:fold1"))
    with pytest.raises(InputError, match="one data set folder"):
        fold_configs(config(str(dataset), str(other)))
