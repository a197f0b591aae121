"""Tasks make themselves known, those of other packages too, and then are trained and predict like any other."""

import csv
import logging
import sys

import cv2
import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.models import tasks
from maskseg.models.config import load_config

pytestmark = pytest.mark.slow


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that installs a package whose entry points name a module as that of a task."""

    def install(name, module, *folders):
        info = tmp_path / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[maskseg.tasks]\n{name} = {module}\n")
        for folder in (*folders, tmp_path):
            monkeypatch.syspath_prepend(str(folder))
        tasks._discover.cache_clear()

    before = dict(tasks._TASKS)
    yield install
    tasks._TASKS.clear()
    tasks._TASKS.update(before)
    monkeypatch.undo()
    tasks._discover.cache_clear()


def test_every_project_is_found_and_each_part_is_there(repository):
    assert {"GeneralizedRCNN", "UNet", "NerveUNet", "ProteinClassifier"} <= set(tasks.registered())
    for path in (repository / "maskseg" / "projects").glob("*/task.py"):
        assert f"{tasks.PROJECTS}.{path.parent.name}.task" in sys.modules, f"{path.parent} has no __init__.py"
    for task in tasks.registered().values():
        assert all(task.part(name) for name in task.__dataclass_fields__ if name != "add_keys")


def test_a_network_of_no_task_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"'RetinaNet'; choose one of GeneralizedRCNN, "):
        tasks.part(load_config("nuclei_R_18_FPN", ["MODEL.META_ARCHITECTURE", "RetinaNet"]), "predictor")


def test_a_package_that_is_broken_leaves_the_others_alone(package, tmp_path, caplog):
    (tmp_path / "broken_task.py").write_text("import no_such_module_at_all\n")
    package("broken", "broken_task")
    with caplog.at_level(logging.WARNING):
        assert "UNet" in tasks.registered()
    assert "the task broken (broken_task) cannot be used: No module named 'no_such_module_at_all'" in caplog.text


def test_the_toy_task_is_trained_and_predicts(package, repository, dataset, overrides, maskseg, tmp_path):
    example = repository / "docs" / "examples"
    assert len((example / "toy_task.py").read_text().splitlines()) <= 120
    package("counting", "toy_task", example)
    out = tmp_path / "run"
    sets = {"DATASETS__TRAIN": f"('{dataset}:train',)", "DATASETS__TEST": f"('{dataset}:dev',)"}
    steps = {"SOLVER__MAX_ITER": 60, "TEST__EVAL_PERIOD": 0, "SOLVER__BASE_LR": 0.01, "SOLVER__WARMUP_ITERS": 0}
    keys = overrides(MODEL__META_ARCHITECTURE="CountNet", MODEL__COUNT_CHANNELS=8, OUTPUT_DIR=out, **sets, **steps)
    status, _, errors = maskseg("train", "--config-file", "nuclei_R_18_FPN", "--num-gpus", 0, *keys)
    assert status == 0, errors
    status, text, errors = maskseg("train", "--config-file", out / "config.yaml", "--num-gpus", 0, "--eval-only")
    assert status == 0, errors
    assert float(text.rpartition("counts: ")[2].split()[0]) > 0.5, "it has learned to count"

    (tmp_path / "images").mkdir()
    for number, value in enumerate((0, 200)):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((64, 64, 3), value, np.uint8))
    status, text, errors = maskseg("predict", tmp_path / "images", "-o", tmp_path / "out", "--model", out)
    assert status == 0, errors
    assert "2 of 2 images done" in text
    with (tmp_path / "out" / "counts.csv").open() as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == ["0", "1"]
    for options in (["--formats", "geojson"], ["--tile", 512], ["--tta", "flip"]):
        status, _, errors = maskseg("predict", tmp_path / "images", "-o", tmp_path / "no", "--model", out, *options)
        assert status == 2
        assert errors.count("\n") == 1 and options[0] in errors and "counter" in errors and str(out) in errors
    assert not (tmp_path / "no").exists()
    sys.modules.pop("toy_task")
