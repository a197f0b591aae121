"""The wheel holds what a checkout holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile


def test_wheel_holds_every_module_config_and_template(repository, tmp_path):
    """Built from a copy, since setuptools leaves its build folder in the source."""
    source = tmp_path / "source"
    source.mkdir()
    for folder in ("maskseg", "configs"):
        shutil.copytree(repository / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(repository / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", tmp_path, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}

    modules = {path.relative_to(source).as_posix() for path in source.glob("maskseg/**/*.py")}
    configs = {f"maskseg/{path.relative_to(source).as_posix()}" for path in source.glob("configs/**/*.yaml")}
    weights = {path.relative_to(source).as_posix() for path in source.glob("maskseg/weights/*")}
    templates = {path.relative_to(source).as_posix() for path in source.glob("maskseg/**/*.html")}
    assert len(modules) > 10
    assert "maskseg/configs/nuclei_R_101_FPN.yaml" in configs
    assert inside == modules | configs | weights | templates
