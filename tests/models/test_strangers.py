"""Model folders that somebody else made: nothing outside is read or written, nobody is called, no code runs."""

import os
import pickle
import zipfile

import pytest
import torch
import yaml
from safetensors.torch import save_file

from maskseg.core.errors import InputError
from maskseg.inference.api import load_model
from maskseg.models import zoo
from maskseg.models.checkpoint import checksum
from tests.fixtures.watching import Outside, watched


@pytest.fixture
def outside(tmp_path):
    found = Outside(tmp_path / "outside")
    yield found
    found.close()


class Runs:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def config(folder, name, where):
    """A config that names a file, in one of the places where it may."""
    trees = {
        "_BASE_": {"_BASE_": name},
        "weights": {"MODEL": {"WEIGHTS": name}},
        "output": {"OUTPUT_DIR": name, "DATALOADER": {"CACHE_DIR": name}},
        "data": {"DATASETS": {"TRAIN": [name], "TEST": [name]}},
        "device": {"MODEL": {"DEVICE": name, "META_ARCHITECTURE": name, "BACKBONE": {"NAME": name}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(trees[where]))


def safetensors(folder, name, where):
    config(folder, name, where)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").unlink()
    weights, metadata = {"a": torch.zeros(1)}, {"format": zoo.FORMAT, "config": text}
    save_file(weights, folder / "model.safetensors", {**metadata, "sha256": checksum(weights, metadata)})


@pytest.mark.slow
@pytest.mark.parametrize("write", [config, safetensors], ids=lambda write: write.__name__)
@pytest.mark.parametrize("where", ["_BASE_", "weights", "output", "data", "device"])
def test_of_names_in_configs(tmp_path, outside, monkeypatch, write, where):
    names = [name for name in outside.names if isinstance(name, str) and "\ud800" not in name and "\0" not in name]
    if where == "_BASE_":  # a file anywhere on this machine, and is said to be no config where it is none
        names = [name for name in names if "secret" not in name or "127.0.0.1" in name or "s3:" in name]
    else:
        names = names[::5]
    for place, name in enumerate(names):
        folder = tmp_path / "mine" / str(place)
        folder.mkdir(parents=True)
        (folder / "model_final.pth").write_bytes(b"no weights")
        write(folder, name, where)
        monkeypatch.chdir(folder)
        before = sorted(folder.rglob("*"))
        with watched() as touched, pytest.raises(InputError) as caught:
            load_model(folder)
        assert len(str(caught.value).splitlines()) == 1
        outside.check_touched(touched, tmp_path / "mine", folder)
        assert sorted(folder.rglob("*")) == before


def pickled(path):
    path.write_bytes(pickle.dumps({"model": {"a": Runs()}}))


def torch_file(path):
    torch.save({"model": {"a": Runs()}}, path)


def torch_file_before_zip(path):
    torch.save({"model": {"a": Runs()}}, path, _use_new_zipfile_serialization=False)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs()))
        archive.writestr("../../outside/secret.png", b"changed")


@pytest.mark.slow
@pytest.mark.parametrize("write", [pickled, torch_file, torch_file_before_zip, zipped], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["model_final.pth", "model.safetensors", "model_final.pkl", "last_checkpoint"])
def test_of_weights_that_are_programs(tmp_path, outside, monkeypatch, write, name):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 1\n")
    write(folder / name)
    monkeypatch.chdir(folder)
    with watched() as touched, pytest.raises(InputError) as caught:
        load_model(folder)
    assert len(str(caught.value).splitlines()) == 1
    outside.check_touched(touched, folder, folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("text", ["../outside/secret.pth", "/etc/passwd", "http://127.0.0.1:9/a.pth", "..", "a\0b", ""])
def test_of_a_last_checkpoint_that_lies_elsewhere(tmp_path, outside, text):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 1\n")
    (folder / "last_checkpoint").write_text(text)
    with watched() as touched, pytest.raises(InputError):
        load_model(folder)
    outside.check_touched(touched, folder, folder)
    assert not any(path.endswith("passwd") for path in touched.read)


def test_of_a_folder_of_links(tmp_path, outside):
    """Their files are read as what they are not, and not shown."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.yaml", "model_final.pth", "postprocess.yaml"):
        (folder / name).symlink_to("/etc/passwd")
    with watched() as touched, pytest.raises(InputError) as caught:
        load_model(folder)
    assert "root:" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not touched.changed and not touched.beyond
    outside.check()
