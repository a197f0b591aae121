"""A .pth is data: whatever its pickle asks for, PyTorch is given nothing that takes long or much memory."""

import io
import pickle
import resource
import struct
import tarfile
import time
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from maskseg.core.errors import InputError
from maskseg.models.checkpoint import read_weights
from maskseg.models.torch_pickle import check_pickle
from tests.fixtures.pickles import KEYS, nested, text


def again(begin, step, times, end=b"."):
    return b"\x80\x02" + begin + step * times + end


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n%s" + text("cpu") + b"%stQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
# What PyTorch would do for minutes, or in gigabytes, with a pickle of less than a megabyte.
BOMBS = {
    "a tuple as a key": nested(28) + b"}h\x1cK\x01s.",
    "a smaller tuple as many keys": nested(19) + b"}q\x50" + b"h\x13K\x01s" * 400 + b".",
    "tuples of pairs": nested(28) + b"ccollections\nOrderedDict\n](h\x1cK\x01\x86e\x85R.",
    "a list of pairs": nested(28).replace(b"NN", b"](NN") + b"e.",
    "a tuple in a set": nested(28) + b"cbuiltins\nset\n](h\x1ce\x85R.",
    "a tuple that is counted": nested(28) + b"ccollections\nCounter\n](h\x1ce\x85R.",
    "a tuple as a storage": nested(28)
    + b"("
    + text("storage")
    + b"ctorch\nFloatStorage\nh\x1c"
    + text("cpu")
    + b"K\x01tQ.",
    "a tuple that is called": nested(28) + b"h\x1c)R.",
    "a tuple that is filled": nested(28) + b"ccollections\nOrderedDict\n)R](h\x1cK\x01\x86eb.",
    **KEYS,
    "zeroes": again(b"cbuiltins\nbytearray\nq\0]", b"h\0J\0\0\0\x7f\x85Ra", 3),
    "a shape again and again": again(
        b"ctorch\nSize\nq\0(" + b"K\x01" * 200_000 + b"tq\x01]", b"h\0h\x01\x85Ra", 20_000
    ),
    "a text again and again": again(
        b"c_codecs\nencode\nq\0" + text("a" * 400_000) + text("latin1") + b"\x86q\x01]", b"h\0h\x01Ra", 20_000
    ),
    "pairs again and again": again(
        b"ccollections\nOrderedDict\nq\0](" + b"".join(text(f"{n}") + b"N\x86" for n in range(20_000)) + b"e\x85q\x01]",
        b"h\0h\x01Ra",
        2_000,
    ),
    "a count again and again": again(
        b"ccollections\nCounter\nq\0}(" + b"".join(text(f"{n}") + b"N" for n in range(20_000)) + b"u\x85q\x01]",
        b"h\0h\x01Ra",
        2_000,
    ),
    "tensors again and again": again(
        b"ctorch._utils\n_rebuild_tensor_v2\nq\0("
        + STORAGE % (text("0"), b"K\x01")
        + b"K\0))\x89ccollections\nOrderedDict\n)Rtq\x01]",
        b"h\0h\x01Ra",
        150_000,
    ),
    "objects": again(b"ctorch\nFloatTensor\n", b"J\0\0\0\x7f\x85\x81", 1),
    "memory that is claimed": b"\x80\x02" + TENSOR % (text("0"), b"\x8a\x05\0\0\0\0\x10") + b".",
    "memory beyond a part": b"\x80\x02" + TENSOR % (text("0"), b"K\x05") + b".",
    "two names of one storage": b"\x80\x02}"
    + b"".join(text(key) + TENSOR % (text(key), b"K\x01") + b"s" for key in ("a", "A"))
    + b".",
    "containers": b"\x80\x02}" + text("a") + b"(" + b"}" * 900_000 + b"ts.",
    "lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}


def zipped(path, data, name="a/data.pkl"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", bytes(4))
        archive.writestr("a/data/a", bytes(4))


def zipped_under_another_case(path, data):
    zipped(path, data, "a/data.PKL")


def zipped_twice(path, data):
    """`zipfile` reads the list of members before the end, PyTorch that where the end says that it is."""
    zipped(path, pickle.dumps({"a": "x" * (len(data) - len(pickle.dumps({"a": ""}, 2)))}, 2))
    good = path.read_bytes()
    zipped(path, data)
    bad = path.read_bytes()
    # What is harmless lies as far beyond its place as its list lies beyond that of the other.
    path.write_bytes(bad[:-22] + good)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("a/data.pkl") != data
    assert len(good) == len(bad)


def bare(path, data):
    path.write_bytes(data)


def former(place):
    def write(path, data):
        parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
        parts[place] = data
        path.write_bytes(b"".join(parts))

    return write


def former_that_ends_as_zip(path, data):
    zipped(path, b"\x80\x02}.")
    archive = path.read_bytes()
    former(3)(path, data)
    path.write_bytes(path.read_bytes() + archive)


WRITERS = {
    "zip": zipped,
    "case": zipped_under_another_case,
    "two lists": zipped_twice,
    "bare": bare,
    "former, head": former(2),
    "former": former(3),
    "former, keys": former(4),
    "former and zip": former_that_ends_as_zip,
}


def refused_at_once(path):
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=f"{path.name}: not a readable weight file") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_does_not_go_off(tmp_path, bomb):
    zipped(tmp_path / "w.pth", BOMBS[bomb])
    refused_at_once(tmp_path / "w.pth")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("bomb", ["a tuple as a key", "numbers of one hash", "a text again and again"])
def test_a_bomb_does_not_go_off_in_any_wrapping(tmp_path, writer, bomb):
    WRITERS[writer](tmp_path / "w.pth", BOMBS[bomb])
    refused_at_once(tmp_path / "w.pth")


def test_a_file_that_is_also_a_tar_archive_is_not_opened_as_one(tmp_path):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    head = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    # What stands in the way of the pickles is a text in them.
    head[: len(magic) + 7] = magic + b"\x80\x02X" + struct.pack("<I", 512 - len(magic) - 7)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "w.pth").write_bytes(bytes(head) + b"." + pickle.dumps({}, 2) + pickle.dumps([], 2))
    with pytest.raises(InputError, match="tar archive"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("keys", [[], ["1", "1"], ["1", "2"], [1]])
def test_storages_that_are_not_in_the_file_are_missed(tmp_path, keys):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "w.pth").read_bytes()
    at = data.rindex(b"\x80\x02]")
    (tmp_path / "w.pth").write_bytes(data[:at] + pickle.dumps(keys, 2) + data[at + data[at:].index(b".") + 1 :])
    with pytest.raises(InputError, match="other storages"):
        read_weights(tmp_path / "w.pth")


# ---- what passes ----


def training():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    made = {
        "SGD": torch.optim.SGD(network.parameters(), 0.1, momentum=0.9),
        "Adam": torch.optim.AdamW(network.parameters()),
    }
    network(torch.ones(1, 3, 6, 6)).sum().backward()
    for optimizer in made.values():
        optimizer.step()
    steps = torch.optim.lr_scheduler.MultiStepLR(made["SGD"], [3, 5])
    return {
        "model": network.state_dict(),
        **{name: optimizer.state_dict() for name, optimizer in made.items()},
        "scheduler": steps.state_dict(),
        "parameter": nn.Parameter(torch.ones(2)),
        "half": [torch.ones(3, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.uint8, torch.bool)],
        "others": (torch.Size([1, 2]), torch.device("cpu"), torch.float32, b"bytes", None, True, 1.5, -(2**40), "text"),
        "counted": Counter(a=1),
        "ordered": OrderedDict([("a", {0: (1, 2), 140_000_000_000_000: ((), (3, (4,)))})]),
        "generator": torch.get_rng_state(),
        "expanded": torch.ones(1).expand(1000),
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("form", [True, False], ids=["zip", "former"])
def test_a_training_passes_with_all_that_it_keeps(tmp_path, form):
    saved = training()
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=form)
    assert same(saved, read_weights(tmp_path / "w.pth"))


def test_an_archive_of_many_gigabytes_has_its_list_of_members_elsewhere(tmp_path):
    """As the end of one above 4 GB is written: by 64 bits, in a record of its own."""
    zipped(tmp_path / "w.pth", b"\x80\x02}X\x01\0\0\0a" + TENSOR % (text("0"), b"K\x01") + b"s.")
    data = (tmp_path / "w.pth").read_bytes()
    count, size, offset = struct.unpack("<HII", data[-12:-2])
    long = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    where = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(data) - 22, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "w.pth").write_bytes(data[:-22] + long + where + end)
    assert read_weights(tmp_path / "w.pth")["model"]["a"].tolist() == [0]
    (tmp_path / "w.pth").write_bytes(
        data[:-22] + long + where.replace(struct.pack("<Q", len(data) - 22), bytes(8)) + end
    )
    with pytest.raises(InputError, match="no archive"):
        read_weights(tmp_path / "w.pth")


def test_a_pickle_of_python_2_passes():
    """As models of former days have it: an ordered dict as a call with a list of pairs, texts of bytes."""
    pairs = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01ee\x85R."
    check_pickle(io.BytesIO(pairs), 1000, {})


@pytest.mark.parametrize(
    "value", [np.float64(1), {1, 2}, bytearray(3), torch.eye(2).to_sparse(), {(1, 2): 3}, {1.5: 2}]
)
def test_what_no_weights_need_is_refused(tmp_path, value):
    torch.save({"model": {"a": torch.ones(1)}, "more": value}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a readable weight file"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("metadata", [5, {"": 5}, {"": {"version": "a"}}, [("", {})]])
def test_versions_of_modules_that_are_none_are_refused(tmp_path, metadata):
    state = nn.BatchNorm2d(2).state_dict()
    state._metadata = metadata
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="versions of modules"):
        read_weights(tmp_path / "w.pth")
