"""The wheel holds what a checkout holds and Detectron2, and predicts without checkout, network or home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tifffile

pytestmark = pytest.mark.slow

MOST = 60e6  # bytes

# Put before the entry point: from here on the process cannot reach a network.
OFFLINE = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        raise OSError(f"no network here: {event} {arguments}")

sys.addaudithook(watch)
"""
# As in an environment in which nobody installed Detectron2, whatever the one of these tests has.
NO_OTHER = """
import os
from importlib.machinery import PathFinder

class WithoutTheirs(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "detectron2":
            path = [entry for entry in sys.path if entry.endswith("_vendor")]
        return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutTheirs if finder is PathFinder else finder for finder in sys.meta_path]
"""
NO_DETECTRON2 = "sys.modules['detectron2'] = None\n"
WHICH = """
import maskseg
from importlib.util import find_spec
print(find_spec("detectron2").origin, maskseg.__file__)
"""
RUN = "from maskseg.cli.main import main; main()"


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(repository, tmp_path_factory) -> Path:
    """A copy of what the wheel is built from, since setuptools leaves its build folder there."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("maskseg", "configs", "tools"):
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
def target(wheel, tmp_path_factory) -> Path:
    """A clean folder with the wheel."""
    folder = tmp_path_factory.mktemp("target")
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel)
    return folder


def maskseg(
    target: Path, tmp_path: Path, *arguments: str | Path, before: str = "", first: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess:
    """Run the installed maskseg in `tmp_path`, with an empty home and none of the settings of this process."""
    home = tmp_path / "home"
    home.mkdir()
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, [*first, target, *packages])),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }
    # -S: no .pth file is followed, so an editable install of the checkout is not seen. -P: nor is the current folder.
    command = [sys.executable, "-S", "-P", "-c", OFFLINE + before + RUN, *map(str, arguments)]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={k: v for k, v in environment.items() if v}
    )


def names(wheel: Path) -> set[str]:
    """The files of a wheel, its own description left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_every_module_config_template_and_model_and_detectron2(source, wheel):
    modules = {path.relative_to(source).as_posix() for path in source.glob("maskseg/**/*.py")}
    configs = {f"maskseg/{path.relative_to(source).as_posix()}" for path in source.glob("configs/**/*.yaml")}
    weights = {path.relative_to(source).as_posix() for path in source.glob("maskseg/weights/*")}
    templates = {path.relative_to(source).as_posix() for path in source.glob("maskseg/reports/*.html")}
    # The page of maskseg serve, where it was built.
    page = {path.relative_to(source).as_posix() for path in source.glob("maskseg/serve/static/**/*") if path.is_file()}
    bundled = {path.relative_to(source).as_posix() for path in source.glob("maskseg/_vendor/**/*") if path.is_file()}
    assert len(modules) > 10
    assert "maskseg/configs/nuclei_R_101_FPN.yaml" in configs
    assert weights >= {"maskseg/weights/nuclei.safetensors", "maskseg/weights/CARD.md"}
    assert "maskseg/reports/page.html" in templates
    for name in ("LICENSE", "CHANGES", "modeling/box_regression.py", "model_zoo/configs/Base-RCNN-FPN.yaml"):
        assert f"maskseg/_vendor/detectron2/{name}" in bundled
    plugin = {
        path.relative_to(source).as_posix()
        for ending in ("yaml", "png")
        for path in source.glob(f"maskseg/napari_plugin/*.{ending}")
    }
    assert "maskseg/napari_plugin/napari.yaml" in plugin
    beside = {"maskseg/py.typed", *plugin}
    assert names(wheel) == modules | configs | weights | templates | page | bundled | beside
    assert wheel.stat().st_size <= MOST


def test_the_source_distribution_makes_the_same_wheel_and_fetches_nothing(source, wheel, tmp_path, monkeypatch):
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("maskseg-*.tar.gz")
    # For the pip that fetches Detectron2, should it be started.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, archive)
    (again,) = tmp_path.glob("maskseg-*.whl")
    assert names(again) == names(wheel)


def test_installed_from_the_wheel_it_predicts_without_checkout_network_or_home(repository, target, tmp_path):
    images = (repository / "datasets/sample/heldout").glob("*/images/*.png")
    image = min(images, key=lambda path: path.stat().st_size)
    done = maskseg(target, tmp_path, "predict", image, "-o", "out", before=NO_OTHER + WHICH)
    assert done.returncode == 0, done.stderr
    detectron2, ours = map(Path, done.stdout.splitlines()[0].split())
    assert ours == target / "maskseg/__init__.py"
    assert detectron2 == target / "maskseg/_vendor/detectron2/__init__.py"
    labels = tifffile.imread(tmp_path / "out/labels" / f"{image.stem}.tif")
    assert labels.max() >= 3
    assert (tmp_path / "out/submission.csv").stat().st_size > 100
    # Nothing was put by for a later run.
    assert not [path for path in (tmp_path / "home").rglob("*.safetensors")]
    assert "jit.script" not in done.stderr


def test_a_detectron2_of_the_environment_is_used(target, tmp_path):
    theirs = tmp_path / "theirs/detectron2/__init__.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("raise ImportError('theirs')\n")
    done = maskseg(target, tmp_path, "predict", "image.png", "-o", "out", before=WHICH, first=(tmp_path / "theirs",))
    assert done.stdout.split()[0] == str(theirs)


def test_the_audit_hook_of_these_tests_stops_a_connection():
    code = OFFLINE + "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no network here" in done.stderr


def test_without_detectron2_one_line_says_so(target, tmp_path):
    (tmp_path / "image.png").write_bytes(b"")
    done = maskseg(target, tmp_path, "predict", "image.png", "-o", "out", before=NO_DETECTRON2)
    assert done.returncode == 2
    assert done.stderr == "maskseg: error: the Python package detectron2 is missing; run: maskseg doctor\n"
