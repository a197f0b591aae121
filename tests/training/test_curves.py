"""The record of a training: lines, table, picture."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from detectron2.utils.events import EventStorage

from maskseg.core.errors import InputError
from maskseg.training.curves import Log, draw, forget_from, read_metrics, write_table


def write_lines(folder, rows, end=""):
    (folder / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)


def test_a_repeated_line_counts_once_and_a_cut_one_not_at_all(tmp_path):
    rows = [{"iteration": 19, "total_loss": 3.0}, {"iteration": 39, "total_loss": 2.0}]
    write_lines(tmp_path, [*rows, {"iteration": 39, "total_loss": 2.5, "lr": 0.1}], end='{"iteration": 59, "tot')
    assert read_metrics(tmp_path) == [rows[0], {"iteration": 39, "total_loss": 2.5, "lr": 0.1}]
    forget_from(tmp_path, 30)
    assert (tmp_path / "metrics.json").read_text() == json.dumps(rows[0]) + "\n"


def test_no_record_is_an_empty_one(tmp_path):
    assert read_metrics(tmp_path) == []


def test_the_table_has_every_figure(tmp_path):
    rows = [{"iteration": 19, "total_loss": 3.0}, {"iteration": 39, "total_loss": 2.0, "validation/dsb_score": 0.5}]
    write_table(tmp_path, rows)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items() if value} for row in read] == rows


@pytest.mark.slow
def test_the_picture_shows_the_curves(tmp_path):
    def picture(rows):
        draw(tmp_path, rows)
        return cv2.imread(str(tmp_path / "curves.png"))

    rows = [{"iteration": i, "total_loss": 1 / (i + 1), "validation/dsb_score": i / 10} for i in range(8)]
    drawn = picture(rows)
    coloured = (np.ptp(drawn, axis=2) > 30).any(axis=0)
    third = len(coloured) // 3
    # The loss, the score, and the learning rate, of which nothing is known.
    assert coloured[:third].any() and coloured[third : 2 * third].any() and not coloured[2 * third :].any()
    assert np.ptp(drawn) == 255
    # Other losses take a second line.
    more = picture([{**row, "loss_mask": 1.0} for row in rows])
    assert len(more) == 2 * len(drawn)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device there")
def test_on_a_full_disk_the_record_is_named(tmp_path):
    log = Log(tmp_path, 0)
    with EventStorage() as storage:
        log.trainer = SimpleNamespace(start_iter=0, iter=19, max_iter=40, storage=storage)
        log.before_train()
        storage.put_scalar("total_loss", 1.0)
        handle = log._writers[0]._file_handle.fileno()
        disk, full = os.dup(handle), os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, handle)
        with pytest.raises(
            InputError, match=r"metrics\.json: cannot be written \(No space left on device\); free"
        ) as caught:
            log.after_step()
        assert "\n" not in str(caught.value)
        os.dup2(disk, handle)
        log.after_train()
    os.close(disk)
    os.close(full)
    assert read_metrics(tmp_path) == [{"iteration": 0, "total_loss": 1.0}]
