"""Which Detectron2 is imported: one of the environment's own, else the copy that maskseg carries."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import maskseg

VENDOR = str(Path(maskseg.__file__).parent / "_vendor")


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch):
    """A process in which neither is on the path yet."""
    path = [entry for entry in sys.path if not (Path(entry) / "detectron2").is_dir()]
    monkeypatch.setattr(sys, "path", path)
    # Nor an editable install of one.
    finders = [finder for finder in sys.meta_path if "detectron2" not in str(finder)]
    monkeypatch.setattr(sys, "meta_path", finders)
    # What was imported comes back after the test.
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)


def origin() -> Path | None:
    """The file that `import detectron2` would read."""
    spec = importlib.util.find_spec("detectron2")
    return None if spec is None or spec.origin is None else Path(spec.origin)


def package(folder: Path) -> Path:
    folder.joinpath("detectron2").mkdir(parents=True)
    file = folder / "detectron2/__init__.py"
    file.write_text("")
    return file


def test_where_there_is_no_other_the_copy_is_found():
    assert origin() is None
    maskseg._offer_detectron2()
    assert origin() == Path(VENDOR, "detectron2/__init__.py")
    assert sys.path[-1] == VENDOR


def test_it_is_offered_once():
    before = len(sys.path)
    maskseg._offer_detectron2()
    maskseg._offer_detectron2()
    assert len(sys.path) == before + 1


def test_one_of_the_environment_is_kept(tmp_path, monkeypatch):
    theirs = package(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    maskseg._offer_detectron2()
    assert origin() == theirs
    assert VENDOR not in sys.path


def test_one_of_an_editable_install_is_kept(tmp_path, monkeypatch):
    """Its finder is asked after the path."""
    theirs = package(tmp_path)

    class Editable:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "detectron2":
                return importlib.util.spec_from_file_location(name, theirs)
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])
    maskseg._offer_detectron2()
    assert origin() == theirs


def test_a_folder_of_that_name_is_no_detectron2(tmp_path, monkeypatch):
    """Such as the one that holds a clone of Detectron2, in the current folder."""
    package(tmp_path / "detectron2")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    maskseg._offer_detectron2()
    assert origin() == Path(VENDOR, "detectron2/__init__.py")


def test_one_that_is_imported_already_stays(monkeypatch):
    """Even one that says nothing of where it is from."""
    monkeypatch.setitem(sys.modules, "detectron2", ModuleType("detectron2"))
    maskseg._offer_detectron2()
    assert VENDOR not in sys.path
