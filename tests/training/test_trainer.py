"""The training loop on a data set of six images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts
from maskseg.models.checkpoint import Checkpointer, read_weights
from maskseg.models.config import load_config
from maskseg.training.hooks import Validation, validation_losses
from maskseg.training.trainer import Trainer, load_records

pytestmark = pytest.mark.slow


class Losses(HookBase):
    """All losses of every iteration."""

    def __init__(self):
        self.rows: dict[int, dict[str, float]] = {}

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.rows[self.trainer.iter] = {key: value for key, (value, _) in latest.items() if "loss" in key}


class Kill(HookBase):
    """Ends the process, as it were, before an iteration."""

    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


@pytest.fixture
def trainer(overrides, dataset, tmp_path):
    """A function that makes a trainer, with a record of its losses."""

    def make(iterations: int = 2, folder: str = "run", test: str = "()", **changes) -> Trainer:
        settings = {
            "DATASETS__TRAIN": (f"{dataset}:train",),
            "DATASETS__TEST": test,
            "OUTPUT_DIR": tmp_path / folder,
            "SOLVER__MAX_ITER": iterations,
            "SOLVER__WARMUP_ITERS": 2,
            "SOLVER__CHECKPOINT_PERIOD": 3,
            "SEED": 3,
            **changes,
        }
        made = Trainer(load_config("nuclei_R_18_FPN", overrides(**settings)))
        made.losses = Losses()
        made.register_hooks([made.losses])
        return made

    return make


def trained(made: Trainer, resume: bool = False) -> Trainer:
    made.resume_or_load(resume)
    made.train()
    return made


def killed(made: Trainer, iteration: int, resume: bool = False) -> Trainer:
    made.register_hooks([Kill(iteration)])
    with pytest.raises(KeyboardInterrupt):
        trained(made, resume)
    return made


def figures(folder: Path) -> list[dict[str, float]]:
    """Lines of metrics.json without what a clock has measured."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.endswith("time")} for row in rows]


def close(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(one[key] == pytest.approx(other[key], rel=1e-5) for key in one)


def test_resumed_it_goes_on_as_if_unbroken(trainer, tmp_path):
    whole = trained(trainer(6, "whole"))
    assert sorted(whole.losses.rows) == list(range(6))
    assert {"loss_rpn_cls", "loss_box_reg", "loss_mask", "total_loss"} <= whole.losses.rows[0].keys()

    # Checkpoints are written every three iterations.
    begun = killed(trainer(6, "broken"), 4)
    assert (tmp_path / "broken" / "last_checkpoint").read_text() == "model_0000002.pth"
    torch.rand(7), np.random.random(), torch.manual_seed(99)
    resumed = trained(trainer(6, "broken"), resume=True)
    assert sorted(resumed.losses.rows) == [3, 4, 5]
    for iteration, row in whole.losses.rows.items():
        assert close(row, (begun if iteration < 3 else resumed).losses.rows[iteration]), iteration
    assert len({row["total_loss"] for row in whole.losses.rows.values()}) == 6
    ours = read_weights(tmp_path / "whole" / "model_final.pth")["model"]
    theirs = read_weights(tmp_path / "broken" / "model_final.pth")["model"]
    assert all(torch.allclose(value, theirs[key], rtol=1e-5, atol=1e-7) for key, value in ours.items())
    rates = [made.optimizer.param_groups[0]["lr"] for made in (whole, resumed)]
    assert rates[0] == rates[1]

    # Of the checkpoints the last is kept, whichever process wrote the others.
    assert {path.name for path in (tmp_path / "broken").glob("*.pth")} == {"model_final.pth"}

    # The record is that of the unbroken training, with medians over iterations before the break, too.
    ours, theirs = (figures(tmp_path / name) for name in ("whole", "broken"))
    assert [row["iteration"] for row in ours] == [row["iteration"] for row in theirs] == [5]
    assert close(ours[0], theirs[0])
    assert {"metrics.csv", "curves.png"} <= {path.name for path in (tmp_path / "broken").iterdir()}

    # Once more it is done already; what a kill after the last checkpoint has left is put right.
    (tmp_path / "broken" / "curves.png").unlink()
    (tmp_path / "broken" / ".curves.png.maskseg-abcd1234").write_bytes(b"half")
    again = trained(trainer(6, "broken"), resume=True)
    assert again.losses.rows == {}
    assert (tmp_path / "broken" / "curves.png").exists()
    assert list((tmp_path / "broken").glob(".*")) == []


def test_the_seed_decides(trainer):
    one, two, other = (trained(trainer(1, f"run{number}", SEED=seed)) for number, seed in enumerate((3, 3, 4)))
    assert close(one.losses.rows[0], two.losses.rows[0])
    assert not close(one.losses.rows[0], other.losses.rows[0])


def test_training_lowers_the_loss(trainer):
    made = trained(trainer(16, SOLVER__BASE_LR=0.002))
    losses = [made.losses.rows[iteration]["total_loss"] for iteration in range(16)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    start = trainer(16, "other").plain_model.state_dict()
    moved = {key for key, value in made.plain_model.state_dict().items() if not torch.equal(value, start[key])}
    assert not any("stem" in key for key in moved), "frozen"
    for part in ("res2", "fpn_lateral2", "rpn_head", "box_head", "box_predictor", "mask_head"):
        assert any(part in key for key in moved), part


def test_an_image_without_nuclei_is_trained_on(trainer, write_dataset, nuclei, tmp_path):
    labels = {"a": nuclei(0), "b": np.zeros((48, 64), np.int32), "c": np.zeros((48, 64), np.int32)}
    folder = write_dataset(tmp_path / "mostly_empty", labels)
    made = trained(trainer(3, DATASETS__TRAIN=(str(folder),)))
    assert all(np.isfinite(row["total_loss"]) for row in made.losses.rows.values())


def test_validation_is_over_the_whole_set(trainer, dataset):
    # So many places are sampled that all are: then nothing is left to chance.
    everything = {"MODEL__RPN__BATCH_SIZE_PER_IMAGE": 100_000, "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 10_000}
    made = trainer(2, test=(f"{dataset}:dev",), TEST__EVAL_PERIOD=0, **everything)
    trained(made)
    records = dataset_dicts(f"{dataset}:dev")
    assert len(records) == 3
    state = torch.random.get_rng_state()
    single = [validation_losses(made.cfg, made.plain_model, [record]) for record in records]
    assert torch.equal(torch.random.get_rng_state(), state), "the training's random numbers are left alone"
    assert len({losses["total_loss"] for losses in single}) == 3
    latest = {key: value for key, (value, _) in made.storage.latest().items()}
    for key in single[0]:
        assert latest[f"validation/{key}"] == pytest.approx(np.mean([losses[key] for losses in single]), rel=1e-4)
    parts = [value for key, value in latest.items() if key.startswith("validation/loss")]
    assert latest["validation/total_loss"] == pytest.approx(sum(parts))
    assert 0 <= latest["validation/dsb_score"] <= 1
    assert made.plain_model.training, "training mode is put back"


def test_validation_losses_are_the_same_each_time(trainer, dataset):
    made = trainer(1)
    records = dataset_dicts(f"{dataset}:dev")
    first = validation_losses(made.cfg, made.plain_model, records)
    torch.manual_seed(123)
    assert validation_losses(made.cfg, made.plain_model, records) == first


def test_it_validates_each_period_and_at_the_end(trainer, dataset, monkeypatch):
    made = trainer(5, test=(f"{dataset}:dev",), TEST__EVAL_PERIOD=2)
    seen = []
    monkeypatch.setattr(Validation, "run", lambda self: seen.append(self.trainer.iter + 1))
    trained(made)
    assert seen == [2, 4, 5]


def test_the_best_weights_are_kept(trainer, dataset, tmp_path, monkeypatch):
    scores = {1: 0.3, 2: 0.5, 3: 0.4, 4: 0.45, 5: 0.6}
    monkeypatch.setattr(
        Validation, "run", lambda self: setattr(self, "latest", {"dsb_score": scores[self.trainer.iter + 1]})
    )
    settings = {"test": (f"{dataset}:dev",), "TEST__EVAL_PERIOD": 1, "SOLVER__CHECKPOINT_PERIOD": 1}
    made = killed(trainer(5, **settings), 3)
    best = tmp_path / "run" / "model_best.pth"
    kept = read_weights(best)
    assert (kept["dsb_score"], kept["iteration"]) == (0.5, 1)
    last = made.plain_model.state_dict()
    assert any(not torch.equal(value, last[key]) for key, value in kept["model"].items())

    # Resumed, the score to beat is still 0.5.
    killed(trainer(5, **settings), 4, resume=True)
    assert read_weights(best)["iteration"] == 1
    trained(trainer(5, **settings), resume=True)
    assert read_weights(best)["dsb_score"] == 0.6


def test_a_loss_that_is_no_number_names_the_images(trainer, tmp_path):
    made = trainer(3)
    made.resume_or_load(False)
    before = {key: value.clone() for key, value in made.plain_model.state_dict().items()}
    expected = [index for _, index in zip(range(2), iter(made.sampler), strict=False)]
    forward = made.model.forward
    made.model.forward = lambda batch: {**forward(batch), "loss_mask": torch.tensor(float("nan"))}
    with pytest.raises(InputError, match=r"nan at iteration 0; images image\d, image\d;") as caught:
        made.train()
    named = re.findall(r"image\d", str(caught.value))
    assert named == [made.records[index]["image_id"] for _, index in expected]
    after = made.plain_model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items()), "no step was taken"
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_one_line(trainer, write_dataset, nuclei, tmp_path, workers):
    folder = write_dataset(tmp_path / "damaged", {"good": nuclei(0), "bad": nuclei(1)})
    path = folder / "images" / "bad.png"
    path.write_bytes(path.read_bytes()[:60])
    made = trainer(2, DATASETS__TRAIN=(str(folder),), DATALOADER__NUM_WORKERS=workers)
    with pytest.raises(InputError, match=r"^\S*bad\.png: ") as caught:
        trained(made)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_data_set_without_a_nucleus_or_an_image_is_refused(write_dataset, nuclei, tmp_path):
    empty = write_dataset(tmp_path / "empty", {"a": np.zeros((48, 64), np.int32)})
    with pytest.raises(InputError, match="no nucleus in 1 images") as caught:
        load_records((str(empty),))
    assert "\n" not in str(caught.value)
    gone = write_dataset(tmp_path / "gone", {"a": nuclei(0), "b": nuclei(1)})
    (gone / "images" / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png: no such image \(1 of 2 missing\)"):
        load_records((str(gone),))
    with pytest.raises(InputError, match=r"^DATASETS\.TRAIN: "):
        load_records(())


def test_data_sets_are_joined_and_their_order_is_by_name(dataset, write_dataset, nuclei, tmp_path):
    other = write_dataset(tmp_path / "other", {"z": nuclei(0), "a": nuclei(1)})
    ids = [record["image_id"] for record in load_records((f"{dataset}:dev", str(other)))]
    assert ids == ["image6", "image7", "image8", "a", "z"]


def test_the_balance_of_modalities_reaches_the_sampler(trainer):
    # Four white images, two purple ones.
    weights = trainer(1, DATALOADER__MODALITY_BALANCE=1.0).sampler.weights
    assert weights.tolist() == pytest.approx([0.75] * 4 + [1.5] * 2)
    assert trainer(1, DATALOADER__MODALITY_BALANCE=0.0).sampler.weights.tolist() == [1.0] * 6


def test_the_shares_of_the_data_sets_reach_the_sampler(trainer, dataset, write_dataset, nuclei, tmp_path):
    other = write_dataset(tmp_path / "other", {"z": nuclei(0), "a": nuclei(1)})
    both = {"DATASETS__TRAIN": (f"{dataset}:train", str(other)), "DATALOADER__MODALITY_BALANCE": 0.0}
    assert trainer(1, **both).sampler.weights.tolist() == [1.0] * 8
    weights = trainer(1, **both, DATASETS__TRAIN_SHARES=(1, 3)).sampler.weights
    assert weights.tolist() == pytest.approx([2 / 6] * 6 + [6 / 2] * 2)
    with pytest.raises(InputError, match=r"TRAIN_SHARES is \(1, 1\)"):
        trainer(1, DATASETS__TRAIN_SHARES=(1, 1))


def test_the_image_that_the_sampler_names_is_what_the_network_gets(trainer, dataset):
    made = trainer(2)
    made.resume_or_load(False)
    seen = []
    forward = made.model.forward
    made.model.forward = lambda batch: seen.append([item["image_id"] for item in batch]) or forward(batch)
    made.train()
    expected = [made.records[index]["image_id"] for _, (_, index) in zip(range(4), made.sampler, strict=False)]
    assert [name for batch in seen for name in batch] == expected


def test_boxes_that_are_no_numbers_are_one_line(trainer, tmp_path):
    made = trainer(30, SOLVER__BASE_LR=1e3, SOLVER__WARMUP_ITERS=0, SOLVER__CLIP_GRADIENTS__ENABLED=False)
    with pytest.raises(InputError, match=r"has diverged at a learning rate of 1e\+03: lower SOLVER\.BASE_LR") as caught:
        trained(made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["model", "validation"])
def test_wherever_it_diverges(trainer, dataset, monkeypatch, where):
    def diverged(*_, **__):
        raise FloatingPointError("Predicted boxes or scores contain Inf/NaN. Training has diverged.")

    made = trainer(2, test=(f"{dataset}:dev",), TEST__EVAL_PERIOD=1)
    if where == "model":
        made.model.forward = diverged
    else:
        monkeypatch.setattr("maskseg.training.hooks.validation_losses", diverged)
    with pytest.raises(InputError, match=r"no numbers at iteration 0.* lower SOLVER"):
        trained(made)


def test_weights_that_are_no_numbers_at_the_end_are_not_kept(trainer, tmp_path):
    made = trainer(2)
    step = made.optimizer.step

    def spoil():
        step()
        if made.iter == 1:
            with torch.no_grad():
                next(iter(made.plain_model.parameters())).fill_(float("inf"))

    made.optimizer.step = spoil
    with pytest.raises(InputError, match="the weights are no numbers at iteration 1"):
        trained(made)
    assert not (tmp_path / "run" / "model_final.pth").exists()


def test_an_error_of_the_program_stays_what_it_is(trainer):
    made = trainer(1)

    def broken(_):
        raise AssertionError("a bug")

    made.model.forward = broken
    with pytest.raises(AssertionError, match="a bug"):
        trained(made)


def test_killed_between_its_last_two_checkpoints_it_still_has_the_final_one(trainer, tmp_path, monkeypatch):
    save = Checkpointer.save

    def killed_before(self, name, **kwargs):
        if name == "model_final":
            raise KeyboardInterrupt
        save(self, name, **kwargs)

    monkeypatch.setattr(Checkpointer, "save", killed_before)
    with pytest.raises(KeyboardInterrupt):
        trained(trainer(3))
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000002.pth"
    weights = read_weights(tmp_path / "run" / "model_0000002.pth")["model"]
    monkeypatch.setattr(Checkpointer, "save", save)
    for _ in range(2):
        trained(trainer(3), resume=True)
        assert {path.name for path in (tmp_path / "run").glob("*.pth")} == {"model_final.pth"}
        assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"
    found = read_weights(tmp_path / "run" / "model_final.pth")
    assert found["iteration"] == 2
    assert all(torch.equal(value, found["model"][name]) for name, value in weights.items())


def test_at_its_end_it_says_so_and_changes_nothing(trainer, tmp_path, caplog):
    trained(trainer(2))
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    caplog.clear()
    trained(trainer(2), resume=True)
    assert "trained to its end already, 2 of 2 iterations" in caplog.text
    after = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {path: after[path] for path in before} == before


def test_a_training_that_goes_on_with_other_images_says_so(trainer, write_dataset, nuclei, tmp_path, caplog):
    names = [f"image{number}" for number in range(6)]
    same, other = (
        write_dataset(tmp_path / name, {image: nuclei(number + start) for number, image in enumerate(names)})
        for name, start in (("same", 0), ("other", 50))
    )
    trained(trainer(1, DATASETS__TRAIN=(str(same),)))
    moved = same.rename(tmp_path / "moved")
    caplog.clear()
    trained(trainer(2, DATASETS__TRAIN=(str(moved),)), resume=True)
    assert "other data" not in caplog.text
    trained(trainer(3, DATASETS__TRAIN=(str(other),)), resume=True)
    assert f"begun on other data, {moved} (6 images); goes on with {other} (6 images)" in caplog.text


def test_the_config_that_is_written_tells_what_the_data_told(trainer, tmp_path, caplog):
    made = trained(trainer(4, SOLVER__WARMUP_ITERS=300))
    written = load_config(tmp_path / "run" / "config.yaml")
    assert (tmp_path / "run" / "config.yaml").read_text() == made.cfg.dump()
    # The ellipses have half axes of 4 to 8 pixels, and the longer side 64.
    assert 5 < written.INPUT.NUCLEUS_DIAMETER < 20
    assert written.SOLVER.WARMUP_ITERS == 0
    assert "SOLVER.WARMUP_ITERS 300 is most of a training" in caplog.text


def test_epochs_are_of_the_images_that_are_trained_on(trainer):
    # Six images, two at once.
    assert trainer(1, SOLVER__EPOCHS=0).max_iter == 1
    made = trainer(1)
    cfg = made.cfg.clone()
    cfg.defrost()
    cfg.SOLVER.EPOCHS = 5
    assert Trainer(cfg).max_iter == 15
