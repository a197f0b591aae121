"""Models that a user adds: by file and address, with checksums, and nothing that could run code."""

import http.server
import subprocess
import threading

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from maskseg.cli.models import app
from maskseg.core.errors import InputError
from maskseg.models import library
from maskseg.models.checkpoint import checksum
from maskseg.models.config import load_config
from maskseg.models.zoo import FORMAT, add, bundled, card_text, find_model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MASKSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def model(tmp_path):
    """A file of the form of `export`, with one tensor."""
    tensors = {"a": torch.arange(6.0).half()}
    metadata = {"format": FORMAT, "config": load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"]).dump()}
    metadata["sha256"] = checksum(tensors, metadata)
    save_file(tensors, tmp_path / "mine.safetensors", metadata)
    return tmp_path / "mine.safetensors"


def test_an_added_model_is_found_by_its_name_without_the_file_it_came_from(model, folder):
    assert add(str(model)) == "mine"
    model.unlink()
    assert find_model("mine").weights == folder / "mine.safetensors"
    # What sha256sum itself says.
    done = subprocess.run(["sha256sum", "-c", library.SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "mine.safetensors: OK" in done.stdout
    library.remove("mine")
    assert library.added() == {} and not (folder / "mine.safetensors").exists()


def test_a_file_that_was_changed_or_lost_is_named(model, folder):
    add(str(model), "other.name-2")
    path = folder / "other.name-2.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="is not the file that was added"):
        find_model("other.name-2")
    shown = CliRunner().invoke(app, ["list"])
    assert "is not the file that was added" in shown.output and "nuclei" in shown.output
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        find_model("other.name-2")


@pytest.mark.slow
def test_a_name_is_given_once_and_bundled_ones_are_taken(model, tmp_path):
    add(str(model))
    add(str(model))  # the same again
    other = tmp_path / "b" / "mine.safetensors"
    other.parent.mkdir()
    tensors = {"a": torch.zeros(2)}
    metadata = {"format": FORMAT, "config": load_config("nuclei_R_18_FPN").dump()}
    metadata["sha256"] = checksum(tensors, metadata)
    save_file(tensors, other, metadata)
    with pytest.raises(InputError, match="choose another name"):
        add(str(other))
    assert CliRunner().invoke(app, ["add", str(model), "--name", "nuclei"]).exit_code
    assert find_model("nuclei").weights == bundled()["nuclei"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "x" * 65, "-rf"])
def test_names_that_are_no_names_are_refused(model, name, folder):
    if name:
        with pytest.raises(InputError, match="no name for a model"):
            add(str(model), name)
    assert not folder.exists()


def test_only_whole_models_of_maskseg_are_added(model, tmp_path, folder):
    (tmp_path / "code.pth").write_bytes(b"")
    plain, cut = tmp_path / "plain.safetensors", tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(2)}, plain)
    cut.write_bytes(model.read_bytes()[:-3])
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(model.read_bytes()[:-1] + b"\x07")
    for path in (tmp_path / "code.pth", plain, cut, changed, tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(InputError) as caught:
            add(str(path))
        assert "\n" not in str(caught.value) and path.name in str(caught.value)
    with pytest.raises(InputError, match="its SHA-256 is"):
        add(str(model), sha256="00")
    assert library.added() == {}


def test_an_address_is_fetched_once_and_used_without_a_network(model, tmp_path, folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/mine.safetensors"
        assert add(address, "fetched") == "fetched"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert find_model("fetched").weights == folder / "fetched.safetensors"


def test_cards_say_what_is_known(model):
    assert "What it is bad at" in card_text("nuclei")
    add(str(model))
    assert "GeneralizedRCNN" in card_text("mine") and "mine.safetensors" in card_text("mine")


def test_the_card_of_a_file_lies_beside_it(model):
    model.with_suffix(".md").write_bytes(b"# Mine\n\nDim \x1b[2J\xff nuclei are missed.\n")
    text = card_text(str(model))
    assert text.startswith("# Mine\n\nDim [2J\ufffd nuclei are missed.\n\n")
    assert "GeneralizedRCNN" in text
