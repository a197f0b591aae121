"""What a weight file may hold and claim: plain, finite numbers, no more of them than it has bytes for."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from maskseg.core.errors import InputError
from maskseg.models.torch_pickle import check_former, check_pickle

# The largest weight file that is read; a ResNet-101 with the state of its optimizer has under 1 GB.
LARGEST = 8 << 30
# Tensors in one file, and characters in the name of one.
_MOST, _LONGEST = 100_000, 1000
# What an .npz may grow by when it is unpacked, beyond a first 64 MB: weights hardly do.
_GROWTH, _FREE = 8, 64 << 20


def check_size(path: Path) -> None:
    """A weight file has a size that can be read.

    Raises
    ------
    InputError
        If it is larger than `LARGEST`.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(f"{path}: {size / 1e9:.1f} GB is no weight file of a network here; check MODEL.WEIGHTS")


def check_archive(path: Path) -> None:
    """The members of an ``.npz`` are, unpacked, no larger than the file can mean; one that is no archive passes.

    Raises
    ------
    ValueError
        If they claim more.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    held, claimed = path.stat().st_size, sum(member.file_size for member in members)
    if len(members) > _MOST:
        raise ValueError(f"it has {len(members)} members")
    if claimed > _FREE + _GROWTH * held:
        raise ValueError(f"its {held} bytes claim to be {claimed}")


def check_torch(path: Path) -> None:
    """A ``.pth`` is what `torch.save` writes of weights, by the bytes that PyTorch will take for it.

    Raises
    ------
    ValueError, pickle.UnpicklingError
        If it claims more than it holds, or holds anything else.
    """
    held = path.stat().st_size
    with path.open("rb") as file:
        # As PyTorch tells its two forms apart; what stands at the end of a file could say otherwise.
        if file.read(4) != b"PK\x03\x04":
            # Not read as a file: of one, as much memory is taken as a text in it claims to be long.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                check_former(cast(IO[bytes], content), held)
            return
    _check_end(path, held)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    # PyTorch finds members whatever the case of their names, here with all that `zipfile` would leave out of one.
    records = {member.orig_filename.partition("/")[2].lower(): member.file_size for member in members}
    if len(members) > _MOST or len(records) < len(members):
        raise ValueError(f"it has {len(members)} members" if len(members) > _MOST else "it has two members of one name")
    # torch.save compresses nothing.
    if sum(member.file_size for member in members) > held or any(
        member.compress_type != zipfile.ZIP_STORED for member in members
    ):
        raise ValueError("its members are compressed or larger than the file")
    check_pickle(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")), held, records)


def _check_end(path: Path, held: int) -> None:
    """The list of members is where each reader looks for it: right before the end, which is without a comment.

    With two of them, one where the end says that it is and one before the end, `zipfile` would read the latter and
    PyTorch the former.
    """
    with path.open("rb") as file:
        file.seek(max(held - 98, 0))
        tail = file.read(98).rjust(98, b"\0")
    long, where, end = tail[:56], tail[56:76], tail[76:]
    size, offset, comment = struct.unpack("<IIH", end[12:])
    last = held - 22
    if where.startswith(b"PK\x06\x07"):
        last = held - 98
        size, offset = struct.unpack("<QQ", long[40:])
        if not long.startswith(b"PK\x06\x06") or struct.unpack("<Q", where[8:16])[0] != last:
            raise ValueError("it is no archive that torch.save made")
    if not end.startswith(b"PK\x05\x06") or comment or offset + size != last:
        raise ValueError("it is no archive that torch.save made")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of plain numbers of an ``.npz``, float32; nothing is allocated that the archive does not hold.

    Raises
    ------
    ValueError
        If it holds anything else.
    """
    check_archive(path)
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                _check_kind(member.filename, dtype)
                if min(shape, default=0) < 0 or np.prod(shape, dtype=object) * dtype.itemsize > member.file_size:
                    raise ValueError(f"{member.filename[:60]} claims the shape {shape}")
            with archive.open(member) as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
            arrays[member.filename.removesuffix(".npy")] = values.astype(np.float32)
    return arrays


def _check_kind(name: str, dtype: np.dtype) -> None:
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.names or dtype.subdtype:
        raise ValueError(f"{name[:60]} holds values of type {str(dtype)[:40]}")


def check_weights(path: Path, model: Any) -> None:
    """Weights are named tensors or arrays of plain, finite numbers, and no larger than the file they came from.

    Raises
    ------
    ValueError
        If they are not.
    """
    if not isinstance(model, dict) or not all(isinstance(name, str) and len(name) < _LONGEST for name in model):
        raise ValueError("no weights by name")
    if len(model) > _MOST:
        raise ValueError(f"it has {len(model)} tensors")
    # What an .npz unpacks to is checked where it is read; half precision has become float32.
    _check_versions(getattr(model, "_metadata", {}))
    # One value may stand under many names.
    seen: set[int] = set()
    left = _FREE + _GROWTH * path.stat().st_size
    for name, value in model.items():
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_complex():
                raise ValueError(f"{name[:60]} is no plain tensor")
            # An expanded tensor repeats few bytes without end.
            left -= value.numel() * value.element_size()
        elif isinstance(value, (np.ndarray, np.generic)):
            _check_kind(name, value.dtype)
            left -= value.nbytes
        else:
            raise ValueError(f"{name[:60]} is {type(value).__name__}, no tensor")
        if left < 0:
            raise ValueError("its tensors are larger than the file")
        if id(value) in seen:
            continue
        seen.add(id(value))
        tensor = torch.as_tensor(value)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name[:60]} is not finite: the training that made it went wrong, or it was damaged")


def _check_versions(metadata: Any) -> None:
    """What PyTorch writes beside weights is the version of each module, which it compares when it loads them."""
    versions = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(entry, dict) and type(entry.get("version")) in (int, type(None)) for entry in versions):
        raise ValueError("it holds no versions of modules where they should be")
