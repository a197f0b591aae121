"""Configs are data: no network, no file elsewhere, no code, and no more memory than their size."""

import hashlib
import http.server
import os
import resource
import threading
import time

import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from safetensors.torch import save_file

from maskseg.core.errors import InputError
from maskseg.inference.api import load_model
from maskseg.models import downloads, zoo
from maskseg.models.checkpoint import Checkpointer, checksum
from maskseg.models.config import default_config, load_config
from maskseg.models.config_files import load_yaml, parse_yaml
from maskseg.models.zoo import find_model

TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model folder with nothing wrong in it."""
    folder = tmp_path_factory.mktemp("model")
    cfg = load_config("nuclei_R_18_FPN", [text for pair in TINY.items() for text in pair])
    Checkpointer(build_model(cfg), str(folder)).save("model_final")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture
def model(plain, tmp_path):
    """A copy of it, to be spoiled."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.yaml", "model_final.pth"):
        (folder / name).write_bytes((plain / name).read_bytes())
    return folder


@pytest.fixture
def server():
    """A web server on this machine, and the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        content = b"SEED: 1\n"

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    running.asked, running.handler = asked, Handler
    running.address = f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Everything that a home or a cache could be is in one folder, which is watched."""
    for name in ("HOME", "XDG_CACHE_HOME", "FVCORE_CACHE", "IOPATH_CACHE", "TORCH_HOME", "MASKSEG_CACHE", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "watched"))
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def everything(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def embedded(path, text):
    weights = {"a": torch.zeros(1)}
    metadata = {"format": zoo.FORMAT, "config": text}
    save_file(weights, path, {**metadata, "sha256": checksum(weights, metadata)})
    return path


BASES = ["{}/../../../evil.yaml", "{}/base.yaml", "{}/%2e%2e/%2e%2e/x.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.yaml", "postprocess.yaml", "base", "list"])
@pytest.mark.parametrize(
    "base", [*BASES, "http:{}", "s3://bucket/a.yaml", "detectron2://a.yaml", "ftp://h/a.yaml", "//h/a.yaml"]
)
def test_the_base_of_a_model_folder_is_never_an_address(model, server, tmp_path, name, base):
    base = base.format(server.address)
    if name == "base":
        (model / "other.yaml").write_text(f"_BASE_: {base}\n")
        (model / "config.yaml").write_text("_BASE_: other.yaml\n")
    elif name == "list":
        (model / "config.yaml").write_text(f"_BASE_: [{base}]\n")
    else:
        (model / name).write_text(f"_BASE_: {base}\nSEED: 2\n")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="_BASE_ is ") as caught:
        find_model(model)
    assert "\n" not in str(caught.value)
    assert server.asked == []
    assert everything(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("where", ["config.yaml", "postprocess.yaml", "embedded"])
@pytest.mark.parametrize("weights", ["{}/../../w.pkl", "{}/w.pkl", "detectron2://ImageNetPretrained/MSRA/R-50.pkl"])
def test_a_model_does_not_say_where_weights_or_folders_are(model, server, tmp_path, where, weights):
    tree = {
        "MODEL": {"WEIGHTS": weights.format(server.address)},
        "OUTPUT_DIR": str(tmp_path / "out"),
        "DATALOADER": {"CACHE_DIR": str(tmp_path / "cache")},
    }
    if where == "embedded":
        cfg = find_model(embedded(model / "a.safetensors", yaml.safe_dump(tree))).cfg
    else:
        for section, value in yaml.safe_load((model / where).read_text() if where == "config.yaml" else "{}").items():
            tree[section] = (
                {**value, **tree[section]}
                if isinstance(value, dict) and section in tree
                else (tree.get(section, value))
            )
        (model / where).write_text(yaml.safe_dump(tree))
        cfg = find_model(model).cfg
        load_model(model, ["MODEL.DEVICE", "cpu"])
    usual = default_config()
    assert (cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, cfg.DATALOADER.CACHE_DIR) == ("", usual.OUTPUT_DIR, "")
    assert server.asked == []
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_an_address_in_a_config_file_is_refused_and_on_the_command_line_followed(server, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"MODEL: {{WEIGHTS: '{server.address}/w.npz'}}\n")
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS is the address .* in a file") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert server.asked == []
    address = f"{server.address}/a/../../w.npz"
    assert address == load_config(path, ["MODEL.WEIGHTS", address]).MODEL.WEIGHTS
    # The training that follows keeps it in its config.yaml, from which a prediction takes nothing.
    assert address == load_config("nuclei_R_18_FPN", ["MODEL.WEIGHTS", address]).MODEL.WEIGHTS


def test_weights_are_taken_from_an_address_that_was_typed(server, tmp_path, caches):
    np.savez(tmp_path / "w.npz", weight=np.full((1, 1), 3.0), bias=np.full(1, 4.0))
    server.handler.content = (tmp_path / "w.npz").read_bytes()
    network = torch.nn.Linear(1, 1)
    Checkpointer(network, str(tmp_path / "run")).load(f"{server.address}/../../w.npz")
    assert (network.weight.item(), network.bias.item()) == (3, 4)
    assert len(everything(caches)) == 2
    server.handler.content = b"no weights"
    with pytest.raises(InputError, match="not a readable weight file"):
        Checkpointer(network, str(tmp_path / "run")).load(f"{server.address}/other.npz")
    with pytest.raises(InputError, match="no such weight file"):
        Checkpointer(network, str(tmp_path / "run")).load("missing.npz")


@pytest.mark.slow
def test_the_addresses_of_maskseg_itself_are_known(repository):
    for path in (repository / "configs").glob("*.yaml"):
        weights = load_config(path).MODEL.WEIGHTS
        assert not downloads.is_address(weights) or weights in downloads.PUBLISHED
    assert load_config("nuclei_R_101_FPN").MODEL.WEIGHTS in downloads.PUBLISHED


# ---- downloads ----


@pytest.mark.slow
def test_a_download_is_kept_under_a_name_of_our_own(server, caches, tmp_path):
    address = f"{server.address}/../../../../etc/evil.npz"
    # By name: other tests leave files there that are larger than the memory.
    outside = {*tmp_path.parent.rglob("*")}
    path = downloads.downloaded(address)
    assert path == caches / "weights" / f"{hashlib.sha256(address.encode()).hexdigest()}.npz"
    assert path.read_bytes() == b"SEED: 1\n"
    assert everything(caches) == {path.parent: None, path: b"SEED: 1\n"}
    assert {*tmp_path.parent.rglob("*")} - outside == {path.parent, path}
    asked = len(server.asked)
    assert downloads.downloaded(address) == path and len(server.asked) == asked == 1


def test_a_file_without_the_published_checksum_is_not_trusted_wherever_it_is(server, monkeypatch):
    address = f"{server.address}/w.npz"
    monkeypatch.setitem(downloads.PUBLISHED, address, hashlib.md5(b"the real one").hexdigest())
    path = downloads.cached_file(address)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"planted")
    with pytest.raises(InputError, match="not the file that was published"):
        downloads.downloaded(address)
    assert path.read_bytes() == b"planted" and not list(path.parent.glob(".*"))
    server.handler.content = b"the real one"
    assert downloads.downloaded(address).read_bytes() == b"the real one"


def test_a_checksum_in_the_name_is_compared(server):
    digest = hashlib.sha256(b"SEED: 1\n").hexdigest()
    assert downloads.downloaded(f"{server.address}/net-{digest[:12]}.pth").is_file()
    with pytest.raises(InputError, match="not the file that was published"):
        downloads.downloaded(f"{server.address}/net-{digest[:12][::-1]}.pth")
    # A date is none.
    assert downloads.downloaded(f"{server.address}/net-20200130.pth").is_file()


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd.npz",
        "ftp://h/w.npz",
        "s3://b/w.npz",
        "https://h/w.exe",
        "catalog://a.pkl",
        "//h/w.npz",
        "http:w.pth",
    ],
)
def test_no_other_kind_of_address_is_followed(address, caches):
    with pytest.raises(InputError, match="no address of weights"):
        downloads.downloaded(address)
    assert not everything(caches)


def test_what_cannot_be_had_is_one_line(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"cannot be had .* set MODEL\.WEIGHTS to a file") as caught:
        downloads.downloaded(f"{server.address}/w.npz")
    assert "\n" not in str(caught.value)


# ---- YAML ----


def bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


MERGES = "a: &a {x: 1}\n" + "\n".join(
    f"b{n}: &b{n} {{<<: [{', '.join(['*a' if not n else f'*b{n - 1}'] * 9)}]}}" for n in range(9)
)
BOMBS = {
    "aliases": bomb(9),
    "aliases in a known key": bomb(9).replace("a0:", "INPUT:", 1),
    "merged keys": MERGES,
    "itself": "a: &a [*a]",
    "a section in itself": "MODEL: &a {RPN: *a}",
    "depth": "SEED: " + "[" * 5000,
    "depth of sections": "{a: " * 5000,
    "length": f"INPUT: {{SIZE: [{'1, ' * 30_000}1]}}",
    "size": "SEED: 1 #" + "x" * (1 << 20),
    "text of brackets": f"SEED: '{'[' * 4000}'",
    "text of signs": f"SEED: '{'-' * 4000}1'",
    "text of sums": f"SEED: '{'1+' * 2000}1'",
    "number without end": "SEED: 0x" + "f" * 100_000,
    "number in a list": "DATASETS: {TRAIN_SHARES: [0x" + "f" * 100_000 + "]}",
    "objects": "SEED: !!python/object/apply:os.mkdir ['ran']",
    "names": "SEED: !!python/name:os.mkdir",
    "key of a list": "? [a]\n: 1",
    "base 60": f"SEED: 1{':1' * 60_000}",
    "base 60 with a point": f"SEED: 1{':1' * 60_000}.0",
    "base 60 by its tag": f"SEED: !!int '1{':1' * 60_000}'",
    "base 60 as a key": f"? 1{':1' * 60_000}\n: 1",
    "base 60, short": "SEED: 12:30",
    "long number": f"SEED: {'1' * 200}",
    "keys of one hash": "\n".join(f"{n * ((1 << 61) - 1)}: 1" for n in range(1, 9900)),
    "keys of one hash in a section": "INPUT:\n" + "\n".join(f"  {n * ((1 << 61) - 1)}: 1" for n in range(1, 9900)),
    "keys of one hash, merged": f"<<: {{{', '.join(f'{n * ((1 << 61) - 1)}: 1' for n in range(1, 9900))}}}",
    "set of one hash": f"SEED: !!set {{{', '.join(f'{n * ((1 << 61) - 1)}' for n in range(1, 9900))}}}",
    "text of keys of one hash": f"SEED: '{{{', '.join(f'{n * ((1 << 61) - 1)}: 1' for n in range(1, 18_000))}}}'",
    "key that is a number": "1: 2",
    "key that is true": "on: 2",
    "values of nothing": f"SEED: [{'[],' * 160_000}]",
    "block of values": "SEED:\n" + "- 1\n" * 120_000,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_at_once(tmp_path, kind):
    (tmp_path / "a.yaml").write_text(BOMBS[kind])
    default_config()  # what it imports is not counted
    began = time.process_time()
    with pytest.raises(InputError, match=r"a\.yaml: "):
        load_config(tmp_path / "a.yaml")
    assert time.process_time() - began < 10


def test_the_values_of_all_files_of_a_config_are_bounded(tmp_path):
    for number in range(15):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: []\nSEED: [{'[],' * 10_000}]")
    (tmp_path / "a.yaml").write_text(f"_BASE_: [{', '.join(f'{number}.yaml' for number in range(15))}]")
    began = time.process_time()
    with pytest.raises(InputError, match="over 20000 values"):
        load_config(tmp_path / "a.yaml")
    assert time.process_time() - began < 10


def test_numbers_and_texts_of_every_day_are_read():
    text = "a: [1, -2, 0x1F, 0b11, 017, 1_000, 1.5, 1e3, 1.0e+3, -.inf, '12:30', 2018-01-01]\n'1': {'on': !!int '3'}"
    found = parse_yaml(text)
    assert found["a"][:9] == [1, -2, 31, 3, 15, 1000, 1.5, "1e3", 1000]
    assert (found["a"][9:11], found["1"]) == ([-float("inf"), "12:30"], {"on": 3})


@pytest.mark.slow
@pytest.mark.parametrize("where", ["config.yaml", "postprocess.yaml", "base.yaml", "embedded"])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_one_line_and_does_not_go_off(model, where, kind):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if where == "embedded":
        model = embedded(model / "a.safetensors", BOMBS[kind])
    else:
        (model / where).write_text(BOMBS[kind])
        if where == "base.yaml":
            (model / "config.yaml").write_text("_BASE_: base.yaml\n")
    with pytest.raises(InputError) as caught:
        find_model(model)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600 + len(str(model))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    assert not os.path.exists("ran")  # noqa: PTH110


def test_a_config_may_name_a_few_aliases():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: 2}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1, "e": 2}}


def test_bases_of_this_machine_are_followed_and_the_nearest_has_the_last_word(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text("SEED: 1\nSOLVER: {BASE_LR: 0.5, GAMMA: 0.5}\n")
    (tmp_path / "deep" / "b.yaml").write_text("_BASE_: ../a.yaml\nSOLVER: {BASE_LR: 0.25}\n")
    (tmp_path / "c.yaml").write_text(f"_BASE_: [a.yaml, {tmp_path}/deep/b.yaml]\nSEED: 3\n")
    assert load_yaml(tmp_path / "c.yaml") == {"SEED": 3, "SOLVER": {"BASE_LR": 0.25, "GAMMA": 0.5}}
    cfg = load_config(tmp_path / "c.yaml")
    assert (cfg.SEED, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (3, 0.25, 0.5)


def test_bases_have_an_end(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n")
    (tmp_path / "b.yaml").write_text("_BASE_: ./a.yaml\n")
    (tmp_path / "self.yaml").write_text("_BASE_: self.yaml\n")
    for name, message in (("a", "is its own _BASE_"), ("self", "is its own _BASE_")):
        with pytest.raises(InputError, match=message):
            load_config(tmp_path / f"{name}.yaml")
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: {number + 1}.yaml\n")
    (tmp_path / "30.yaml").write_text("SEED: 1\n")
    (tmp_path / "wide.yaml").write_text(f"_BASE_: [{', '.join(['30.yaml'] * 100)}]\n")
    for name in ("0", "wide"):
        with pytest.raises(InputError, match="over 8 files"):
            load_config(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("base", ["/etc/passwd", "secret.txt", "3", "{a: 1}", "", "pipe.yaml", "missing.yaml", "."])
def test_a_base_is_a_yaml_file(tmp_path, base):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "secret.txt").write_text("SEED: 1\n")
    (tmp_path / "a.yaml").write_text(f"_BASE_: {base}\n")
    with pytest.raises(InputError, match=r"a\.yaml: ") as caught:
        load_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../elsewhere.pth", "/etc/passwd", "", "a/b.pth", "..", "x\0y"])
def test_the_last_checkpoint_is_one_of_its_folder(model, tmp_path, name):
    (model / "model_final.pth").rename(tmp_path / "elsewhere.pth")
    (model / "last_checkpoint").write_text(name)
    with pytest.raises(InputError, match="last_checkpoint: names no file of its folder"):
        find_model(model)
    with pytest.raises(InputError, match="last_checkpoint: names no file of its folder"):
        Checkpointer(torch.nn.Linear(1, 1), str(model)).resume_or_load("", resume=True)
