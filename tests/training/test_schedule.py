"""Schedules made longer and shorter as a whole."""

import pytest

from maskseg.core.errors import InputError
from maskseg.models.config import load_config
from maskseg.training.schedule import fit_schedule, scale_schedule


def numbers(cfg) -> tuple:
    solver = cfg.SOLVER
    return solver.MAX_ITER, tuple(solver.STEPS), solver.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD


@pytest.fixture
def schedule():
    """A function: overrides to a config of 1000 iterations with everything that a schedule has."""
    words = "SOLVER.MAX_ITER 1000 SOLVER.STEPS (300,600) SOLVER.WARMUP_ITERS 100 TEST.EVAL_PERIOD 50"
    return lambda *more: load_config("nuclei_R_101_FPN", [*words.split(), "SOLVER.IMS_PER_BATCH", "4", *more])


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (1000, (1000, (300, 600), 100, 50)),
        (500, (500, (150, 300), 50, 25)),
        (3000, (3000, (900, 1800), 300, 150)),
        # Nothing comes before the first iteration.
        (1, (1, (1, 1), 0, 1)),
    ],
)
def test_all_of_it_is_scaled(schedule, iterations, expected):
    cfg = schedule()
    scale_schedule(cfg, iterations)
    assert numbers(cfg) == expected


def test_without_validation_none_comes_of_scaling(schedule):
    cfg = schedule("TEST.EVAL_PERIOD", "0")
    scale_schedule(cfg, 10)
    assert cfg.TEST.EVAL_PERIOD == 0


def test_epochs_are_passes_over_the_images(schedule):
    cfg = schedule()
    cfg.SOLVER.EPOCHS = 20
    # 100 images, four at once: 25 iterations an epoch.
    assert fit_schedule(cfg, 100) == ["20 epochs of 100 images are 500 iterations"]
    assert numbers(cfg) == (500, (150, 300), 50, 25)
    assert fit_schedule(cfg, 100) == [], "done already"
    cfg.DATALOADER.EPOCH_SHARE = [0.5, 1.0]
    fit_schedule(cfg, 100)
    assert cfg.SOLVER.MAX_ITER == 375


def test_what_is_asked_for_has_the_last_word_over_epochs(tmp_path):
    config = tmp_path / "epochs.yaml"
    config.write_text("SOLVER:\n  EPOCHS: 20\n")
    assert load_config(config).SOLVER.EPOCHS == 20
    assert load_config(config, ["SOLVER.MAX_ITER", "7"]).SOLVER.EPOCHS == 0
    with pytest.raises(InputError, match="give one of them"):
        load_config(config, ["SOLVER.MAX_ITER", "7", "SOLVER.EPOCHS", "2"])


@pytest.mark.parametrize(("length", "warmup", "expected"), [(30, 300, 3), (12, 15, 1), (1, 300, 0), (100, 51, 10)])
def test_a_warmup_longer_than_the_training_is_scaled_and_said(schedule, length, warmup, expected):
    cfg = schedule("SOLVER.WARMUP_ITERS", str(warmup), "SOLVER.MAX_ITER", str(length))
    (said,) = fit_schedule(cfg, 10)
    assert f"SOLVER.WARMUP_ITERS {warmup}" in said
    assert f"SOLVER.MAX_ITER {length}" in said
    assert expected == cfg.SOLVER.WARMUP_ITERS


@pytest.mark.parametrize("warmup", [0, 10, 50])
def test_a_warmup_that_fits_stays(schedule, warmup):
    cfg = schedule("SOLVER.MAX_ITER", "100", "SOLVER.WARMUP_ITERS", str(warmup))
    assert fit_schedule(cfg, 10) == []
    assert warmup == cfg.SOLVER.WARMUP_ITERS


@pytest.mark.parametrize("words", ["SOLVER.MAX_ITER 0", "SOLVER.IMS_PER_BATCH 0", "SOLVER.EPOCHS -1"])
def test_a_length_that_is_none_is_one_line(words):
    with pytest.raises(InputError, match=words.rpartition(" ")[0]):
        load_config("nuclei_R_18_FPN", words.split())
