"""What `maskseg doctor` finds and the remedy it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    assert [str(problem) for problem in problems] == [
        f"made-up-package is missing; run: {sys.executable} -m pip install 'made-up-package>=1.2'",
        f"numpy is {np.__version__}, >=999 is needed; run: {sys.executable} -m pip install 'numpy>=999'",
    ]


def test_own_requirements_are_known_and_extras_left_out():
    names = " ".join(doctor.installed_requirements())
    assert "torchvision" in names
    assert "hypothesis" not in names


@pytest.mark.parametrize(
    ("bundled", "source", "remedy"),
    [
        (True, False, "uninstall detectron2"),
        (False, True, "install -e ."),
        (False, False, "install --force-reinstall --no-deps maskseg"),
    ],
)
def test_detectron2_that_does_not_load_is_explained(monkeypatch, tmp_path, bundled, source, remedy):
    """A broken one of the environment stands before maskseg's own; without one, the install is not whole."""
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.setattr(doctor, "PACKAGE", tmp_path / "maskseg")
    monkeypatch.setattr(doctor, "BUNDLED", tmp_path / "maskseg/_vendor/detectron2")
    if bundled:
        doctor.BUNDLED.mkdir(parents=True)
    if source:
        (tmp_path / "setup.py").touch()
    lines, problems = doctor.check_detectron2()
    assert lines == ["Detectron2: does not load"]
    assert len(problems) == 1
    assert str(problems[0]).endswith(remedy)


def test_a_package_that_detectron2_needs_is_named_for_itself(monkeypatch):
    """Detectron2 is not to blame, and pip can mend it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fvcore", None)
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    _, problems = doctor.examine()
    assert ("fvcore",) in [problem.install for problem in problems]
    assert not any("Detectron2" in problem.what for problem in problems)


def test_whose_detectron2_it_is_is_said(monkeypatch):
    detectron2 = pytest.importorskip("detectron2")
    where = Path(detectron2.__file__).parent
    for bundled, whose in ((where, "maskseg's own copy; "), (where / "another", "this environment's")):
        monkeypatch.setattr(doctor, "BUNDLED", bundled)
        lines, problems = doctor.check_detectron2()
        assert problems == []
        assert f"in {where}, {whose}" in lines[0]


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
    assert "torchvision::nms does not exist" in problems[0].what
    assert "torch torchvision" in str(problems[0]).partition("run: ")[2]


def test_models_are_listed_and_a_truncated_one_is_named(tmp_path):
    for name in ("good", "truncated"):
        save_file({"weight": np.zeros((50, 50), np.float16)}, tmp_path / f"{name}.safetensors")
    broken = tmp_path / "truncated.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    lines, problems = doctor.check_weights(tmp_path)
    assert lines == [f"models: 2 in {tmp_path}", "  good: 1 tensors, 0.0 MB"]
    assert len(problems) == 1
    assert str(problems[0]).startswith(str(broken))
    assert "install maskseg again" in str(problems[0])


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


@pytest.mark.slow
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


@pytest.fixture
def started(monkeypatch):
    """The commands that would be started; each ends well unless `status` says otherwise."""
    commands, status = [], []

    def run(command, **_more):
        commands.append(command)
        return subprocess.CompletedProcess(command, status.pop(0) if status else 0)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    return commands, status


def test_fix_installs_what_does_not_fit_in_one_call_and_looks_again(monkeypatch, started):
    wrong = [
        doctor.Problem("a is missing", ("a>=1",)),
        doctor.Problem("b is 1, >=2 is needed", ("b>=2",)),
        doctor.Problem("the pair", ("--force-reinstall", "c", "d")),
        doctor.Problem("a model is broken", remedy="get it again"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: ([], wrong))
    with pytest.raises(typer.Exit) as stop:
        doctor.doctor(fix=True)
    assert stop.value.exit_code == 0
    pip, force, again = started[0]
    assert pip[-3:] == ["install", "a>=1", "b>=2"]
    assert force[-4:] == ["install", "--force-reinstall", "c", "d"]
    assert again[1:] == ["-m", "maskseg.cli.main", "doctor"]


def test_fix_ends_where_pip_fails_and_the_status_says_so(monkeypatch, started):
    started[1].append(1)
    monkeypatch.setattr(doctor, "examine", lambda: ([], [doctor.Problem("a is missing", ("a",))]))
    with pytest.raises(typer.Exit) as stop:
        doctor.doctor(fix=True)
    assert stop.value.exit_code == 2
    assert len(started[0]) == 1


def test_without_fix_and_where_pip_can_do_nothing_nothing_is_started(monkeypatch, started):
    for fix, install in ((False, ("a",)), (True, ())):
        problem = doctor.Problem("a", install, remedy="do it")
        monkeypatch.setattr(doctor, "examine", lambda problem=problem: ([], [problem]))
        with pytest.raises(typer.Exit) as stop:
            doctor.doctor(fix=fix)
        assert stop.value.exit_code == 2
    assert started[0] == []
