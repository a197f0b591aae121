"""Weight files: read without running code, written whole, matched by name and shape."""

import collections
import io
import itertools
import os
import pickle
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskseg.core.errors import InputError
from maskseg.models.checkpoint import Checkpointer, for_classes, load_array_pickle, read_weights

ENDINGS = (".pth", ".npz", ".safetensors", ".pkl")


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"one.weight": rng.normal(size=(200, 30)).astype(np.float32), "one.bias": np.arange(3, dtype=np.float32)}


def write(path: Path, values: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".pth":
        torch.save({"model": {key: torch.from_numpy(value) for key, value in values.items()}, "iteration": 7}, path)
    elif path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".safetensors":
        save_file({key: torch.from_numpy(value) for key, value in values.items()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": values, "__author__": "somebody"}))
    return path


class Malicious:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_read(tmp_path, ending):
    read = read_weights(write(tmp_path / f"weights{ending}", weights()))["model"]
    assert read.keys() == weights().keys()
    for key, value in weights().items():
        assert np.array_equal(np.asarray(read[key]), value)


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_half_precision_comes_back_as_single(tmp_path, ending):
    halves = {key: value.astype(np.float16) for key, value in weights().items()}
    for key, value in read_weights(write(tmp_path / f"weights{ending}", halves))["model"].items():
        assert np.asarray(value).dtype == np.float32
        assert np.array_equal(np.asarray(value), halves[key].astype(np.float32))


def test_a_bare_state_dict_is_the_model(tmp_path):
    torch.save(collections.OrderedDict(a=torch.ones(2)), tmp_path / "bare.pth")
    assert torch.equal(read_weights(tmp_path / "bare.pth")["model"]["a"], torch.ones(2))


def test_further_entries_of_a_checkpoint_are_kept(tmp_path):
    assert read_weights(write(tmp_path / "a.pth", weights()))["iteration"] == 7


@pytest.mark.parametrize("wrap", [lambda blobs: {"blobs": blobs}, lambda blobs: blobs])
def test_caffe2_blobs_are_known_by_their_form(tmp_path, wrap):
    blobs = {"conv1_w": np.ones((2, 3)), "conv1_w_momentum": np.zeros((2, 3))}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(wrap(blobs), protocol=2))
    read = read_weights(tmp_path / "R-50.pkl")
    assert list(read["model"]) == ["conv1_w"]
    assert read["matching_heuristics"]
    assert read["__author__"] == "Caffe2"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_array_pickles_of_every_protocol_are_read(protocol):
    data = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.eye(3)),
        "none": np.zeros(0, np.int64),
        "number": np.float32(3),
        "ordered": collections.OrderedDict(a=1),
    }
    read = load_array_pickle(io.BytesIO(pickle.dumps(data, protocol)))
    assert read.keys() == data.keys()
    for key in ("array", "columns", "none", "number"):
        assert np.array_equal(read[key], data[key])
        assert read[key].dtype == data[key].dtype


def test_a_pickle_of_python_2_is_read():
    # As Detectron wrote its models: protocol 2, str for text and for the bytes of an array.
    pickled = (
        b"\x80\x02}q\x00U\x07conv1_wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b"
        b"\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00\xc0tbs."
    )
    read = load_array_pickle(io.BytesIO(pickled))
    assert read["conv1_w"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("ending", [".pkl", ".pth", ".npz"])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, ending):
    proof = tmp_path / "ran"
    bomb = Malicious(f"touch {proof}")
    path = tmp_path / f"bomb{ending}"
    if ending == ".pkl":
        path.write_bytes(pickle.dumps({"model": {"a": np.ones(2), "b": bomb}, "__author__": "x"}))
    elif ending == ".pth":
        torch.save({"model": {"a": torch.ones(2), "b": bomb}}, path)
    else:
        np.savez(path, a=np.array([bomb], dtype=object))
    with pytest.raises(InputError, match=f"bomb{ending}: not a readable weight file") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not proof.exists()
    # The bomb is live: a plain unpickler would have run it.
    pickle.loads(pickle.dumps(bomb))
    assert proof.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(U\x031+1tR.",
        b"cnumpy\nsave\n.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
    ],
)
def test_nothing_but_arrays_is_looked_up(code):
    with pytest.raises(pickle.UnpicklingError, match="it asks for"):
        load_array_pickle(io.BytesIO(code))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_a_cut_file_is_named_in_one_line(tmp_path, ending, share):
    path = write(tmp_path / f"cut{ending}", weights())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"cut\{ending}: .*get it again") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("weights.h5", "unknown kind of weight file"), ("missing.pth", "no such weight file")]
)
def test_an_unknown_ending_and_a_missing_file_are_named(tmp_path, name, message):
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=f"{name}: {message}"):
        read_weights(tmp_path / name)


def test_a_pickle_or_checkpoint_of_something_else_is_named(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    for name in ("list.pkl", "tensor.pth"):
        with pytest.raises(InputError, match=name):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, ending, value):
    values = weights()
    values["one.bias"][1] = value
    with pytest.raises(InputError, match=rf"w\{ending}: .*one.bias is not finite") as caught:
        read_weights(write(tmp_path / f"w{ending}", values))
    assert "\n" not in str(caught.value)


def expanded(path):
    torch.save({"model": {"a": torch.zeros(1).expand(1 << 40)}}, path)


def sparse(path):
    torch.save({"model": {"a": torch.eye(3).to_sparse()}}, path)


def of_text(path):
    torch.save({"model": {"a": "text", "b": torch.ones(1)}}, path)


def in_a_list(path):
    torch.save({"model": [torch.ones(1)]}, path)


def meta(path):
    torch.save({"model": {"a": torch.zeros(1 << 40, device="meta")}}, path)


def tuples_of_tuples(path):
    write(path, weights())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # A dict whose key is a tuple that holds the one before twice, and so on, 2 ** 60 in all.
    bomb = b"\x80\x02})q\x00" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60)) + b"K\x01s."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, bomb if name.endswith("data.pkl") else content)


def compressed(path):
    torch.save({"model": {"a": torch.zeros(30 << 20)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def unpacked(path):
    np.savez_compressed(path, a=np.zeros(30 << 20, np.float32))


def header_only(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})


def structured(path):
    np.savez(path, a=np.zeros(2, [("a", "f4")]))


def of_characters(path):
    np.savez(path, a=np.array(["text"]))


def not_an_array(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")


def of_objects(path):
    path.write_bytes(pickle.dumps({"model": {"a": np.array([None])}, "__author__": "x"}))


def of_numbers(path):
    path.write_bytes(pickle.dumps({"model": {"a": 3.0}, "__author__": "x"}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "ending"),
    [
        *((make, ".pth") for make in (expanded, sparse, of_text, in_a_list, meta, compressed, tuples_of_tuples)),
        *((make, ".npz") for make in (unpacked, header_only, structured, of_characters, not_an_array)),
        *((make, ".pkl") for make in (of_objects, of_numbers)),
    ],
)
def test_what_claims_more_than_it_has_or_is_no_number_is_refused(tmp_path, make, ending):
    path = tmp_path / f"w{ending}"
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"w\{ending}: not a readable weight file") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


# ---- writing ----


@pytest.mark.parametrize("failure", [RuntimeError("disk full"), OSError(28, "No space left on device")])
def test_a_save_that_fails_midway_loses_nothing(tmp_path, monkeypatch, failure):
    model = nn.Linear(3, 2)
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model", iteration=1)
    checkpointer.save("older", iteration=0)
    checkpointer.save("model", iteration=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["last_checkpoint"] == b"model.pth"

    def fail(data, file):
        file.write(b"half of it")
        raise failure

    monkeypatch.setattr(torch, "save", fail)
    for name in ("model", "newer"):
        with pytest.raises((RuntimeError, InputError)):
            checkpointer.save(name, iteration=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    assert Checkpointer(nn.Linear(3, 2), str(tmp_path)).resume_or_load("", resume=True)["iteration"] == 1


@pytest.fixture
def full_disk():
    """No file can grow beyond 100 kB; what a full disk says, a system call later."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# Both the small records of an archive and its large ones meet the end of the disk.
@pytest.mark.slow
@pytest.mark.parametrize("layers", [[300_000], [20] * 900])
def test_on_a_full_disk_the_file_is_named_and_the_last_checkpoint_is_left(tmp_path, request, layers):
    checkpointer = Checkpointer(nn.ModuleList(nn.Linear(1, size) for size in layers), str(tmp_path))
    checkpointer.save("model_0000009", iteration=9)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["model_0000009.pth"]) > 100_000
    request.getfixturevalue("full_disk")
    with pytest.raises(InputError, match=r"model_0000019\.pth: cannot be written \(File too large\); free space"):
        checkpointer.save("model_0000019", iteration=19)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_of_the_checkpoints_on_the_way_the_last_is_left(tmp_path):
    checkpointer = Checkpointer(nn.Linear(3, 2), str(tmp_path))
    for name in ("model_best", "model_0000009", "model_0000019", "model_0000029"):
        checkpointer.save(name)
    assert {path.name for path in tmp_path.glob("*.pth")} == {"model_best.pth", "model_0000029.pth"}
    # A training that was killed leaves what it had begun to write, until one goes on here.
    for begun in (".model_0000039.pth.maskseg-a1b2c3d4", ".last_checkpoint.maskseg-e5f6a7b8", ".gitignore"):
        (tmp_path / begun).write_text("half")
    Checkpointer(nn.Linear(3, 2), str(tmp_path)).resume_or_load("", resume=True)
    assert {path.name for path in tmp_path.glob(".*")} == {".gitignore"}


@pytest.mark.slow
def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    Checkpointer(model, str(tmp_path), optimizer=optimizer).save("model_0")
    other = nn.Linear(3, 2)
    momentum = torch.optim.Adam(other.parameters(), 0.5)
    Checkpointer(other, str(tmp_path), optimizer=momentum).resume_or_load("", resume=True)
    assert torch.equal(other.weight, model.weight)
    assert momentum.param_groups[0]["lr"] == 0.1
    assert torch.equal(momentum.state[other.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])


@pytest.mark.slow
@pytest.mark.parametrize(("known", "count"), [(1, 3), (3, 1), (1, 2)])
def test_a_layer_for_other_classes_is_as_sure_of_a_nucleus(known, count):
    """Nearly: the noise that parts the classes adds up to nothing in the logits, to little in the sum of chances."""
    torch.manual_seed(5)  # another one than the noise has
    features, weight, bias = torch.randn(50, 512).relu(), torch.randn(known + 1, 512) * 0.015, torch.randn(known + 1)
    if known > 1:
        weight[:-1], bias[:-1] = weight[0], bias[0]
    other, other_bias = for_classes(weight, bias, count)
    assert other.shape == (count + 1, 512) and other_bias.shape == (count + 1,)
    torch.testing.assert_close(other[:-1].mean(dim=0), weight[0])
    before = torch.softmax(features @ weight.T + bias, 1)[:, -1]
    after = torch.softmax(features @ other.T + other_bias, 1)[:, -1]
    torch.testing.assert_close(before, after, atol=1e-6 if count == 1 else 0.05, rtol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_the_classes_of_a_new_layer_pull_the_features_apart_from_the_first_step(count):
    """With equal weights the gradients were the same for all classes, and nothing below learned to tell them apart."""
    weight, bias = for_classes(torch.randn(2, 512) * 0.015, torch.zeros(2), count)
    features = torch.ones(count, 512, requires_grad=True)
    logits = features @ weight.T + bias
    nn.functional.cross_entropy(logits, torch.arange(count), reduction="sum").backward()
    for one, two in itertools.combinations(features.grad, 2):
        apart = one - two
        assert apart.norm() > 0.5 * features.grad.norm(dim=1).mean()
    known = weight[[0, -1]], bias[[0, -1]]
    assert torch.equal(for_classes(*known, count)[0], for_classes(*known, count)[0]), "the same in every process"


def test_known_classes_keep_their_rows_and_what_cannot_be_said_is_left():
    weight, bias = torch.randn(3, 8), torch.randn(3)
    other, _ = for_classes(weight, bias, 4)
    assert torch.equal(other[[0, 1, 4]], weight)
    assert for_classes(weight, bias, 2) is None
    assert for_classes(torch.randn(4, 8), torch.randn(4), 2) is None
