"""tools/reproduce.py: which data it takes, and what it carries away."""

import hashlib
import importlib.util

import pytest


@pytest.fixture(scope="module")
def reproduce(repository):
    spec = importlib.util.spec_from_file_location("reproduce", repository / "tools" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_data_set_is_divided_and_the_others_are_whole(reproduce):
    from maskseg.models.config import load_config

    cfg = load_config("nuclei_R_101_FPN")
    assert reproduce.data_sets(["a", "b", "c:train"], cfg) == (("a:train", "b", "c:train"), "a")
    assert reproduce.data_sets(["a:fold1"], cfg) == (("a:fold1",), "a")
    assert reproduce.data_sets([], cfg) == (tuple(cfg.DATASETS.TRAIN), "data/dsb2018")


@pytest.mark.parametrize("size", [99, 100, 101, 250])
def test_the_pieces_of_a_model_are_small_and_make_it_whole_again(reproduce, size, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "PIECE", 100)
    content = bytes(range(250))[:size]
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "results.json").write_text("{}")
    reproduce.carry(tmp_path, tmp_path / "model.safetensors", tmp_path / "carried")
    pieces = sorted((tmp_path / "carried").glob("model.safetensors.*"))
    assert max(piece.stat().st_size for piece in pieces) <= 100
    assert b"".join(piece.read_bytes() for piece in pieces) == content
    assert (tmp_path / "carried" / "model.sha256").read_text().split()[0] == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "carried" / "results.json").read_text() == "{}"
