"""Trainings that are ended by real signals, in processes of their own, and gone on with."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine.hooks import PeriodicWriter

from maskseg.cli import main as cli
from maskseg.models.checkpoint import read_weights
from maskseg.models.config import load_config
from maskseg.training.trainer import Trainer

pytestmark = pytest.mark.slow

ITERATIONS, PERIOD = 10, 3


def train(words: list[str], moment: str, iteration: int, number: int, said: Path) -> None:
    """The command `maskseg train`, in a process that gets a signal at a moment of an iteration: "step" or "write".

    It comes from another process, as SIGTERM for this one alone, otherwise, as by Ctrl-C, for its workers too.
    A negative number is a signal for its workers, too. `said` is where stderr goes.
    """
    # Its own workers start as they do outside of tests.
    multiprocessing.set_start_method("fork", force=True)
    os.setpgrp()
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    sys.argv = ["maskseg", "train", *words]
    step, save, now = Trainer.run_step, torch.save, []
    everybody = number in (signal.SIGINT, signal.SIGKILL) or number < 0
    script = f"import os; os.kill({os.getpid() * (-1 if everybody else 1)}, {abs(number)})"

    def send():
        subprocess.run([sys.executable, "-S", "-c", script], start_new_session=True)

    def run_step(self):
        now[:] = [self.iter]
        if moment == "step" and self.iter == iteration:
            send()
        step(self)

    def save_half(data, file):
        save(data, file)
        if moment == "write" and now == [iteration]:
            file.flush()
            os.truncate(file.fileno(), os.fstat(file.fileno()).st_size // 2)
            send()

    Trainer.run_step, torch.save = run_step, save_half
    # A line in metrics.json each iteration.
    PeriodicWriter.__init__.__defaults__ = (1,)
    torch.set_num_threads(1)
    cli.main()


@pytest.fixture(scope="module")
def start():
    """A function that calls `train` in a process of its own and gives its exit code."""
    context = multiprocessing.get_context("forkserver")
    # Imported once for all processes.
    context.set_forkserver_preload(["maskseg.cli.train", "maskseg.training.trainer", "torch.utils.tensorboard"])

    def run(*arguments) -> int:
        process = context.Process(target=train, args=arguments)
        process.start()
        process.join(600)
        return process.exitcode

    return run


@pytest.fixture
def settings(overrides, dataset, tmp_path):
    def give(folder: str, **changes) -> list[str]:
        return overrides(
            DATASETS__TRAIN=(f"{dataset}:train",),
            DATASETS__TEST="()",
            OUTPUT_DIR=tmp_path / folder,
            SOLVER__MAX_ITER=ITERATIONS,
            SOLVER__CHECKPOINT_PERIOD=PERIOD,
            **changes,
        )

    return give


def written(folder: Path) -> list[int]:
    """Iterations of the whole lines of metrics.json."""
    lines = (folder / "metrics.json").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines if line.endswith("}")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such signals there")
def test_however_often_it_is_ended_it_leads_to_the_same_weights(start, settings, tmp_path):
    broken, said = tmp_path / "broken", tmp_path / "said.txt"

    def begin(folder: str, moment: str = "", iteration: int = 0, number: int = 0) -> int:
        words = ["--config-file", "nuclei_R_18_FPN", "--num-gpus", "0", *settings(folder, DATALOADER__NUM_WORKERS=1)]
        more = ["--resume"] if (tmp_path / folder / "last_checkpoint").exists() else []
        return start([*more, *words], moment, iteration, number, said)

    assert begin("whole") == 0, said.read_text()

    # Ctrl-C: the iteration is finished, and nothing is lost.
    assert begin("broken", "step", 1, signal.SIGINT) == 130, said.read_text()
    assert (broken / "last_checkpoint").read_text() == "model_0000001.pth"
    lines = said.read_text()
    end = f"ended after 2 of {ITERATIONS} iterations, all of them in {broken}/model_0000001.pth; --resume goes on\n"
    assert end in lines
    assert lines.count("ending after this iteration") == 1
    assert "Traceback" not in lines

    # Killed while it writes the checkpoint of iteration 5: that of iteration 2 is the last.
    assert begin("broken", "write", 5, signal.SIGKILL) == -signal.SIGKILL
    assert (broken / "last_checkpoint").read_text() == "model_0000002.pth"
    (half,) = broken.glob(".model_0000005.pth.*")
    assert 0 < half.stat().st_size < 0.6 * (broken / "model_0000002.pth").stat().st_size
    assert written(broken) == [0, 1, 2, 3, 4, 5]
    with (broken / "metrics.json").open("a") as file:
        file.write('{"iteration": 6, "total_lo')

    # Killed in an iteration.
    assert begin("broken", "step", 7, signal.SIGKILL) == -signal.SIGKILL
    assert written(broken) == list(range(7))
    # SIGTERM, as from a cluster that wants its machine back, to this process alone and to its loader workers with it;
    # before it the iteration that was lost is done again.
    for iteration, number in ((6, signal.SIGTERM), (7, -signal.SIGTERM)):
        assert begin("broken", "step", iteration, number) == 128 + signal.SIGTERM, said.read_text()
        assert "Traceback" not in said.read_text()
        assert (broken / "last_checkpoint").read_text() == f"model_000000{iteration}.pth"

    assert begin("broken") == 0, said.read_text()
    weights = [read_weights(tmp_path / folder / "model_final.pth") for folder in ("whole", "broken")]
    assert weights[0]["iteration"] == weights[1]["iteration"] == ITERATIONS - 1
    for key, value in weights[0]["model"].items():
        assert torch.equal(value, weights[1]["model"][key]), key
    # Every iteration once, and nothing is left of what was begun.
    assert written(broken) == list(range(ITERATIONS))
    with (broken / "metrics.csv").open(newline="") as file:
        assert [int(row["iteration"]) for row in csv.DictReader(file)] == list(range(ITERATIONS))
    assert {path.name for path in broken.glob(".*")} == set()
    assert {path.name for path in broken.glob("*.pth")} == {"model_final.pth"}


def test_a_second_signal_ends_it_at_once(settings, tmp_path, monkeypatch):
    step, before = Trainer.run_step, signal.getsignal(signal.SIGINT)

    def run_step(self):
        for _ in range(2 if self.iter == 1 else 0):
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    trainer = Trainer(load_config("nuclei_R_18_FPN", settings("run")))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.iter == 1
    assert list((tmp_path / "run").glob("*.pth")) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_in_the_background_that_is_to_ignore_ctrl_c_does(settings, monkeypatch):
    step = Trainer.run_step

    def run_step(self):
        signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    trainer = Trainer(load_config("nuclei_R_18_FPN", [*settings("run"), "SOLVER.MAX_ITER", "2"]))
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trainer.train()
    finally:
        signal.signal(signal.SIGINT, former)
    assert trainer.iter == 2
