"""What `maskseg doctor` finds and the remedy it names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from maskseg.cli import doctor


def test_requirements_that_are_met_are_listed_with_their_version():
    present, problems = doctor.check_requirements(["numpy>=1.0", "made-up-package; python_version < '3'"])
    assert present == [f"numpy {np.__version__}"]
    assert problems == []


def test_a_missing_and_an_old_package_are_named_with_the_remedy():
    present, problems = doctor.check_requirements(["made-up-package>=1.2", "numpy>=999"])
    assert present == [f"numpy {np.__version__}"]
    assert problems == [
        f"made-up-package is missing; run: {sys.executable} -m pip install 'made-up-package>=1.2'",
        f"numpy is {np.__version__}, >=999 is needed; run: {sys.executable} -m pip install 'numpy>=999'",
    ]


def test_own_requirements_are_known_and_extras_left_out():
    names = " ".join(doctor.installed_requirements())
    assert "torchvision" in names
    assert "hypothesis" not in names


def test_detectron2_that_does_not_load_names_its_installer(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    lines, problems = doctor.check_detectron2()
    assert lines == ["Detectron2: does not load"]
    assert len(problems) == 1
    assert problems[0].endswith("tools/install_detectron2.py")


@pytest.mark.parametrize("compiled", [True, False])
def test_compiled_ops_are_optional_and_reported(monkeypatch, compiled):
    pytest.importorskip("detectron2")
    # None in sys.modules makes the import fail, as in a pure-Python build.
    monkeypatch.setitem(sys.modules, "detectron2._C", object() if compiled else None)
    lines, problems = doctor.check_detectron2()
    assert problems == []
    assert ("compiled ops: present" in lines[0]) == compiled


def test_torch_and_torchvision_that_are_no_pair_are_found(monkeypatch):
    torchvision = pytest.importorskip("torchvision")

    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    _, problems = doctor.check_torch()
    assert len(problems) == 1
    assert "torchvision::nms does not exist" in problems[0]
    assert "torch torchvision" in problems[0].partition("run: ")[2]


def test_models_are_listed_and_a_truncated_one_is_named(tmp_path):
    for name in ("good", "truncated"):
        save_file({"weight": np.zeros((50, 50), np.float16)}, tmp_path / f"{name}.safetensors")
    broken = tmp_path / "truncated.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    lines, problems = doctor.check_weights(tmp_path)
    assert lines == [f"models: 2 in {tmp_path}", "  good: 1 tensors, 0.0 MB"]
    assert len(problems) == 1
    assert problems[0].startswith(str(broken))
    assert "install maskseg again" in problems[0]


def test_no_bundled_model_is_said_and_is_no_problem(tmp_path):
    lines, problems = doctor.check_weights(tmp_path)
    assert str(tmp_path) in lines[0]
    assert problems == []


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["x is missing; run: y"], 2)])
def test_status_says_whether_something_is_broken(monkeypatch, capsys, problems, status):
    monkeypatch.setattr(doctor, "examine", lambda: (["a line"], problems))
    if status:
        with pytest.raises(typer.Exit) as stop:
            doctor.doctor()
        assert stop.value.exit_code == status
    else:
        doctor.doctor()
    assert capsys.readouterr().out.splitlines() == [
        "a line",
        "problems: 1" if problems else "problems: none",
        *[f"  {problem}" for problem in problems],
    ]


def test_doctor_runs_where_packages_are_missing(tmp_path):
    """Without NumPy, torch, Detectron2, safetensors and packaging, it still names each of them."""
    missing = ("numpy", "torch", "torchvision", "detectron2", "safetensors", "packaging")
    hide = "import sys; " + "; ".join(f"sys.modules[{name!r}] = None" for name in missing)
    code = f"{hide}; sys.argv = ['maskseg', 'doctor']; import maskseg.cli.main as m; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    for name in ("packaging", "torch", "Detectron2"):
        assert name in done.stdout.partition("problems: ")[2]
