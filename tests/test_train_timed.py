"""tools/train_timed.py: a training whose schedule is the clock's."""

import importlib.util
from contextlib import nullcontext

import pytest

from maskseg.models.config import load_config


class Time:
    """A clock that a step takes ten seconds of."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def tool(repository, monkeypatch):
    spec = importlib.util.spec_from_file_location("train_timed", repository / "tools" / "train_timed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "time", Time())
    return module


def run(tool, cfg, minutes, steps=None, resume=False):
    """Train; returns the rates of the steps that were made."""
    made, rates = tool.ClockTrainer(cfg, minutes), []

    def run_step():
        rates.append(made.optimizer.param_groups[0]["lr"])
        made.storage.put_scalars(total_loss=1.0)
        tool.time.now += 10
        if steps and len(rates) == steps:
            made.checkpointer.save("model_cut", iteration=made.iter)
            raise KeyboardInterrupt

    made.run_step = run_step
    made.resume_or_load(resume)
    with pytest.raises(KeyboardInterrupt) if steps else nullcontext():
        made.train()
    return rates


@pytest.mark.slow
def test_the_rate_rises_and_falls_with_the_time_and_the_training_ends_with_it(tool, overrides, dataset, tmp_path):
    given = {"DATASETS__TRAIN": (f"{dataset}:train",), "SOLVER__BASE_LR": 0.001, "SOLVER__CHECKPOINT_PERIOD": 1000}
    cfg = tool.timed(load_config("nuclei_R_18_FPN", overrides(**given, OUTPUT_DIR=tmp_path / "whole")))
    rates = run(tool, cfg, 10)
    # The time of the first step is not counted: 600 seconds after it.
    assert len(rates) == 61
    top = rates.index(max(rates))
    assert 1 <= top <= 5 and max(rates) == pytest.approx(0.001, rel=0.05)
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.0001
    assert sorted(path.name for path in (tmp_path / "whole").glob("quarter_*.pth")) == [
        f"quarter_{number}.pth" for number in (1, 2, 3, 4)
    ]
    assert (tmp_path / "whole" / "model_final.pth").is_file()


def test_layers_keep_a_rate_of_their_own(tool, overrides, dataset, tmp_path):
    given = {"DATASETS__TRAIN": (f"{dataset}:train",), "SOLVER__BIAS_LR_FACTOR": 10.0, "OUTPUT_DIR": tmp_path}
    cfg = tool.timed(load_config("nuclei_R_18_FPN", overrides(**given)))
    rates = []
    made = tool.ClockTrainer(cfg, 10)
    made.run_step = lambda: rates.append(sorted({group["lr"] for group in made.optimizer.param_groups}))
    tool.time.now, made.iter = 1000.0, 0
    (clock,) = [hook for hook in made._hooks if isinstance(hook, tool.Clock)]
    clock.before_step()
    made.run_step()
    ((slow, fast),) = rates
    assert fast == pytest.approx(10 * slow)


@pytest.mark.slow
def test_one_that_was_cut_off_goes_on_for_the_time_that_is_left(tool, overrides, dataset, tmp_path):
    given = {"DATASETS__TRAIN": (f"{dataset}:train",), "SOLVER__CHECKPOINT_PERIOD": 1000, "OUTPUT_DIR": tmp_path}
    cfg = tool.timed(load_config("nuclei_R_18_FPN", overrides(**given)))
    first = run(tool, cfg, 10, steps=31)
    second = run(tool, cfg, 10, resume=True)
    assert 30 <= len(second) <= 32
    assert second[0] == pytest.approx(first[-1], rel=0.1)
    assert second[-1] < first[-1] / 10
