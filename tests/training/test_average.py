"""The moving average of the weights."""

import numpy as np
import pytest
import torch

from maskseg.models.checkpoint import model_weights, read_weights
from maskseg.models.config import load_config
from maskseg.training.average import WeightAverage
from maskseg.training.trainer import Trainer


class Stand:
    """A trainer that holds a model and nothing else."""

    def __init__(self):
        self.plain_model = torch.nn.BatchNorm1d(2)


def test_it_is_the_exponential_average_and_starts_short():
    stand = Stand()
    average = WeightAverage(stand.plain_model, decay=0.6)
    average.trainer = stand
    expected = None
    for step, value in enumerate(np.random.default_rng(0).normal(size=20)):
        stand.plain_model.weight.data.fill_(value)
        stand.plain_model.running_mean.fill_(value)
        average.after_step()
        keep = min(0.6, (1 + step) / (10 + step))
        # The first step takes the weights as they are.
        expected = value if step == 0 else keep * expected + (1 - keep) * value
        assert average.model.weight.tolist() == pytest.approx([expected] * 2, rel=1e-5)
        assert average.model.running_mean.tolist() == pytest.approx([value] * 2), "buffers are not averaged"
    assert stand.plain_model.weight.tolist() == pytest.approx([value] * 2), "the model itself is left alone"


@pytest.fixture
def trainer(overrides, dataset, tmp_path):
    """A function that makes a trainer of 6 iterations with an average."""

    def make(folder: str, **changes) -> Trainer:
        settings = {
            "DATASETS__TRAIN": (f"{dataset}:train",),
            "DATASETS__TEST": (f"{dataset}:dev",),
            "OUTPUT_DIR": tmp_path / folder,
            "SOLVER__MAX_ITER": 6,
            "SOLVER__CHECKPOINT_PERIOD": 3,
            "SOLVER__EMA_DECAY": 0.5,
            "TEST__EVAL_PERIOD": 0,
            **changes,
        }
        made = Trainer(load_config("nuclei_R_18_FPN", overrides(**settings)))
        made.resume_or_load(resume=True)
        return made

    return make


def test_resumed_it_averages_on(trainer, tmp_path):
    whole = trainer("whole")
    whole.train()
    # The same up to the checkpoint in the middle, and from there in a new process, as it were.
    first = trainer("broken")
    first.max_iter = 4
    first.train()
    (tmp_path / "broken" / "last_checkpoint").write_text("model_0000002.pth")
    resumed = trainer("broken")
    assert resumed.start_iter == 3
    resumed.train()
    ours, theirs = whole.average.state_dict(), resumed.average.state_dict()
    assert int(ours["steps"]) == int(theirs["steps"]) == 6
    assert all(torch.allclose(value, theirs[key], rtol=1e-5, atol=1e-7) for key, value in ours.items())


def test_the_averaged_weights_are_those_that_predict(trainer, tmp_path):
    made = trainer("run")
    made.train()
    average = made.average.model.state_dict()
    trained = made.plain_model.state_dict()
    assert any(not torch.allclose(value, trained[key]) for key, value in average.items())
    for name in ("model_best.pth", "model_final.pth"):
        found = model_weights(tmp_path / "run" / name)
        assert found.keys() == average.keys()
        assert all(torch.equal(value, average[key]) for key, value in found.items()), name
    final = read_weights(tmp_path / "run" / "model_final.pth")["model"]
    assert all(torch.equal(value, trained[key]) for key, value in final.items()), "training goes on from its own"


def test_it_starts_from_the_weights_of_the_training(trainer, tmp_path):
    first = trainer("first", SOLVER__MAX_ITER=1)
    first.train()
    second = trainer("second", MODEL__WEIGHTS=str(tmp_path / "first" / "model_final.pth"))
    started = second.plain_model.state_dict()
    assert all(torch.equal(value, started[key]) for key, value in second.average.model.state_dict().items())
