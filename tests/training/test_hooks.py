"""The bar of a training."""

from types import SimpleNamespace

import pytest

from maskseg.training.hooks import ProgressBar


@pytest.mark.parametrize("watched", [True, False])
def test_the_bar_is_lines_where_nobody_watches(monkeypatch, capsys, watched):
    monkeypatch.setattr("sys.stderr.isatty", lambda: watched)
    figure = SimpleNamespace(median=lambda window: 0.5, latest=lambda: 1e-4)
    storage = SimpleNamespace(histories=lambda: {"total_loss": figure, "lr": figure})
    bar = ProgressBar()
    bar.trainer = SimpleNamespace(max_iter=40, start_iter=10, iter=10, storage=storage)
    bar.before_train()
    for bar.trainer.iter in range(10, 40):
        bar.after_step()
    bar.after_train()
    said = capsys.readouterr().err
    assert "loss=0.500" in said and said.endswith("\n")
    assert ("\r" in said) == watched
    if not watched:
        assert said.splitlines()[0].startswith("train: 10 of 40")
        assert said.splitlines()[-1].startswith("train: 40 of 40")
