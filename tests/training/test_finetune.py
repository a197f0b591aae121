"""Fine-tuning without a config file."""

import re

import numpy as np
import pytest
import torch

from maskseg.core.errors import InputError
from maskseg.data.split import write_split
from maskseg.models.config import load_config
from maskseg.training import finetune
from maskseg.training.finetune import default_folder, finetune_config
from maskseg.training.trainer import Trainer, build_optimizer


@pytest.fixture(scope="module")
def model(overrides, dataset, tmp_path_factory):
    """The folder of a tiny trained network."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    made = Trainer(
        load_config(
            "nuclei_R_18_FPN",
            overrides(
                DATASETS__TRAIN=(f"{dataset}:train",), DATASETS__TEST="()", OUTPUT_DIR=folder, SOLVER__MAX_ITER=1
            ),
        )
    )
    made.train()
    (folder / "config.yaml").write_text(made.cfg.dump())
    return folder


def parts(cfg):
    return cfg.DATASETS.TRAIN, cfg.DATASETS.TEST


@pytest.mark.slow
def test_it_learns_from_the_model_and_says_what_it_chose(model, dataset, tmp_path):
    cfg, choices = finetune_config(
        str(model), str(dataset), str(tmp_path / "run"), ["SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "0"]
    )
    assert parts(cfg) == ((f"{dataset}:train",), (f"{dataset}:dev",))
    assert f"{dataset}:dev" in choices[0] and "3 iterations" in choices[1]
    made = Trainer(cfg)
    made.resume_or_load(False)
    start = torch.load(model / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(value, start[key]) for key, value in made.plain_model.state_dict().items())
    made.train()
    assert (tmp_path / "run" / "model_best.pth").is_file()
    assert any(not torch.equal(value, start[key]) for key, value in made.plain_model.state_dict().items())


@pytest.mark.slow
def test_the_schedule_grows_with_the_nuclei_between_its_bounds(model, write_dataset, nuclei, tmp_path, monkeypatch):
    def iterations(images):
        folder = write_dataset(tmp_path / str(images), {f"i{number}": nuclei(number) for number in range(images)})
        return finetune_config(str(model), str(folder), "run")[0].SOLVER.MAX_ITER

    assert iterations(1) == finetune.FEWEST
    monkeypatch.setattr(finetune, "FEWEST", 1)
    few, many = iterations(2), iterations(8)
    assert few < many < 8 * few
    monkeypatch.setattr(finetune, "MOST", 5)
    assert iterations(9) == 5


@pytest.mark.slow
def test_without_a_split_everything_is_trained_on(model, write_dataset, nuclei, tmp_path):
    folder = write_dataset(tmp_path / "whole", {"a": nuclei(0), "b": nuclei(1)})
    cfg, choices = finetune_config(str(model), str(folder), "run")
    assert parts(cfg) == ((str(folder),), ())
    assert f"maskseg split {folder}" in choices[0]


def test_one_image_has_a_word_about_validation(model, write_dataset, nuclei, tmp_path):
    one = write_dataset(tmp_path / "one", {"a": nuclei(0)})
    assert "one image cannot tell: annotate a second one" in finetune_config(str(model), str(one), "run")[1][0]
    two = write_dataset(tmp_path / "two", {"a": nuclei(0), "b": nuclei(1)}, ["train", "dev"])
    cfg, choices = finetune_config(str(model), str(two), "run")
    assert parts(cfg) == ((f"{two}:train",), (f"{two}:dev",))
    assert "1 image to choose by is few" in choices[0]


def test_a_split_that_names_other_images_is_none(model, write_dataset, nuclei, tmp_path):
    folder = write_dataset(tmp_path / "one", {"a": nuclei(0)})
    write_split(folder / "split.csv", [{"image_id": "b", "part": "train"}])
    assert parts(finetune_config(str(model), str(folder), "run")[0]) == ((str(folder),), ())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["SOLVER.MAX_ITR", "100"],
        ["SOLVER.BASE_LR", "fast"],
        ["SOLVER.MAX_ITER", "1e3"],
        ["SOLVER.MAX_ITER"],
        ["SOLVER.OPTIMIZER", "Magic"],
        ["SOLVER.MAX_ITER", "0"],
        ["SOLVER.MAX_ITER", "5", "SOLVER.EPOCHS", "2"],
    ],
)
def test_overrides_are_checked_as_those_of_a_config(model, dataset, words):
    with pytest.raises(InputError) as from_config:
        load_config("nuclei_R_18_FPN", words)
    with pytest.raises(InputError) as fine_tuning:
        finetune_config(str(model), str(dataset), "run", words)
    # Some tell the value that was there before.
    before, after = (re.sub(r"\([\d.e-]+ vs\.", "(", str(caught.value)) for caught in (from_config, fine_tuning))
    assert before == after
    assert "\n" not in after


@pytest.mark.slow
def test_what_follows_from_the_length_follows_from_that_which_is_given(model, dataset):
    def schedule(*words):
        cfg, choices = finetune_config(str(model), str(dataset), "run", list(words))
        assert f"{cfg.SOLVER.MAX_ITER} iterations" in choices[1]
        return cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD

    assert schedule("SOLVER.MAX_ITER", "12") == (12, 1, 50)
    assert schedule("SOLVER.MAX_ITER", "4000") == (4000, 400, 1000)
    # Six images, two at once.
    assert schedule("SOLVER.EPOCHS", "100") == (300, 30, 75)
    assert schedule("SOLVER.MAX_ITER", "12", "SOLVER.WARMUP_ITERS", "5", "TEST.EVAL_PERIOD", "3") == (12, 5, 3)


@pytest.mark.slow
def test_the_rate_is_a_share_of_the_model_s_own_however_often_it_is_trained_on(model, dataset, tmp_path):
    def rate(start, *words):
        cfg, choices = finetune_config(str(start), str(dataset), "run", list(words))
        used = build_optimizer(cfg, torch.nn.Linear(2, 2)).param_groups[0]["lr"]
        assert f"learning rate {used:g}," in choices[2]
        return cfg, used

    own = load_config(str(model / "config.yaml")).SOLVER.BASE_LR
    cfg, first = rate(model)
    assert first == pytest.approx(finetune.RATE * own)
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.yaml").write_text(cfg.dump())
    (again / "model_final.pth").write_bytes((model / "model_final.pth").read_bytes())
    assert rate(again)[1] == first
    assert rate(model, "SOLVER.BASE_LR", "0.25")[1] == 0.25


def test_one_part_may_be_named(model, dataset):
    cfg, _ = finetune_config(str(model), f"{dataset}:dev", "run")
    assert parts(cfg) == ((f"{dataset}:dev",), ())


def test_a_data_set_without_nuclei_is_refused(model, write_dataset, tmp_path):
    folder = write_dataset(tmp_path / "none", {"a": np.zeros((48, 64), np.int32)})
    with pytest.raises(InputError, match="no nucleus in 1 images"):
        finetune_config(str(model), str(folder), "run")


def test_the_folder_is_named_after_both():
    assert default_folder("nuclei", "data/mine:train") == "runs/nuclei_mine_train"
    assert default_folder("runs/R18/model_best.pth", "/somewhere/mine/") == "runs/model_best_mine"
