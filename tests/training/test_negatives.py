"""Made-up pictures without nuclei."""

import numpy as np
import pytest

from maskseg.data.dataset import dataset_dicts
from maskseg.models.config import load_config
from maskseg.training import negatives
from maskseg.training.mapper import Samples


@pytest.mark.slow
@pytest.mark.parametrize("kind", negatives._KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("side", [64, 200])
def test_every_kind_shows_something_other_each_time(kind, side, monkeypatch):
    monkeypatch.setattr(negatives, "_KINDS", (kind,))
    pictures = [negatives.negative(np.random.default_rng(seed), side) for seed in range(6)]
    assert {(picture.shape, picture.dtype.name) for picture in pictures} == {((side, side, 3), "uint8")}
    assert sum(np.ptp(picture) > 20 for picture in pictures) >= 3
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert np.array_equal(pictures[2], negatives.negative(np.random.default_rng(2), side))


@pytest.mark.slow
def test_their_share_of_the_samples_is_that_asked_for_and_they_hold_no_nucleus(overrides, dataset):
    records = dataset_dicts(f"{dataset}:train")
    samples = {
        share: Samples(load_config("nuclei_R_18_FPN", overrides(INPUT__AUG__NEGATIVES=share)), records)
        for share in (0.0, 0.3, 1.0)
    }
    drawn = [samples[0.3][position, position % len(records)] for position in range(60)]
    made_up = [sample for sample in drawn if sample["image_id"] == "negative"]
    assert 9 <= len(made_up) <= 27
    assert all(len(sample["instances"]) == 0 and not sample["instances"].gt_masks.labels.any() for sample in made_up)
    assert {sample["image"].shape for sample in made_up} == {drawn[0]["image"].shape}
    assert all(samples[1.0][position, 0]["image_id"] == "negative" for position in range(4))
    assert all(samples[0.0][position, 0]["image_id"] != "negative" for position in range(4))
