"""The wheels: maskseg's holds what a checkout holds, and predicts without checkout, network or home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import tifffile

MOST = 60e6  # bytes

# Put before the entry point: from here on the process cannot reach a network.
OFFLINE = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        raise OSError(f"no network here: {event} {arguments}")

sys.addaudithook(watch)
"""
NO_DETECTRON2 = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "detectron2":
            raise ModuleNotFoundError("No module named 'detectron2'", name="detectron2")

sys.meta_path.insert(0, Absent())
"""
WHICH = "from importlib.util import find_spec; print(find_spec('detectron2').origin)\n"
RUN = "import maskseg; print(maskseg.__file__); from maskseg.cli.main import main; main()"


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(repository, tmp_path_factory) -> Path:
    """A copy of what the wheel is built from, since setuptools leaves its build folder there."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("maskseg", "configs"):
        shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(repository / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def target(repository, wheel, tmp_path_factory) -> Path:
    """A clean folder with both wheels; Detectron2's is there after `make wheel`, else the environment's own is used."""
    folder = tmp_path_factory.mktemp("target")
    wheels = [wheel, *repository.glob("dist/detectron2-*.whl")]
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", folder, *wheels)
    return folder


def maskseg(target: Path, tmp_path: Path, *arguments: str | Path, before: str = "") -> subprocess.CompletedProcess:
    """Run the installed maskseg in `tmp_path`, with an empty home and none of the settings of this process."""
    home = tmp_path / "home"
    home.mkdir()
    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PYTHONPATH": os.pathsep.join([str(target), *packages]),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }
    # -S: no .pth file is followed, so an editable install of the checkout is not seen. -P: nor is the current folder.
    command = [sys.executable, "-S", "-P", "-c", OFFLINE + before + RUN, *map(str, arguments)]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={k: v for k, v in environment.items() if v}
    )


def test_wheel_holds_every_module_config_template_and_model(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(source).as_posix() for path in source.glob("maskseg/**/*.py")}
    configs = {f"maskseg/{path.relative_to(source).as_posix()}" for path in source.glob("configs/**/*.yaml")}
    weights = {path.relative_to(source).as_posix() for path in source.glob("maskseg/weights/*")}
    templates = {path.relative_to(source).as_posix() for path in source.glob("maskseg/**/*.html")}
    assert len(modules) > 10
    assert "maskseg/configs/nuclei_R_101_FPN.yaml" in configs
    assert weights >= {"maskseg/weights/nuclei.safetensors", "maskseg/weights/CARD.md"}
    assert "maskseg/reports/page.html" in templates
    assert inside == modules | configs | weights | templates
    assert wheel.stat().st_size <= MOST


def test_installed_from_the_wheel_it_predicts_without_checkout_network_or_home(repository, target, tmp_path):
    images = (repository / "datasets/sample/heldout").glob("*/images/*.png")
    image = min(images, key=lambda path: path.stat().st_size)
    done = maskseg(target, tmp_path, "predict", image, "-o", "out", before=WHICH)
    assert done.returncode == 0, done.stderr
    detectron2, ours = map(Path, done.stdout.splitlines()[:2])
    assert ours == target / "maskseg/__init__.py"
    assert detectron2.is_relative_to(target) == (target / "detectron2").is_dir()
    labels = tifffile.imread(tmp_path / "out/labels" / f"{image.stem}.tif")
    assert labels.max() >= 3
    assert (tmp_path / "out/submission.csv").stat().st_size > 100
    # Nothing was put by for a later run.
    assert not [path for path in (tmp_path / "home").rglob("*.safetensors")]


def test_the_audit_hook_of_these_tests_stops_a_connection():
    code = OFFLINE + "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no network here" in done.stderr


def test_without_detectron2_one_line_says_so(target, tmp_path):
    (tmp_path / "image.png").write_bytes(b"")
    done = maskseg(target, tmp_path, "predict", "image.png", "-o", "out", before=NO_DETECTRON2)
    assert done.returncode == 2
    assert done.stderr == "maskseg: error: the Python package detectron2 is missing; run: maskseg doctor\n"
