"""What a ``.pth`` asks of PyTorch, looked at before PyTorch reads it.

PyTorch's reader of weights calls no program, but does whatever else the pickle says: it hashes any key, copies what it
is told to as often as it is told to, and allocates what is claimed. Here the same opcodes are followed first. Only what
`torch.save` writes for tensors, numbers, text and containers passes.
"""

from __future__ import annotations

import math
import re
import tarfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import IO, Any

from maskseg.core.pickle_stack import Name, PickleStack

# Bytes of one value, by the name of its storage.
_SIZES = {
    **dict.fromkeys(("DoubleStorage", "LongStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage"), 1),
}
_TYPE = re.compile(r"float(16|32|64)|bfloat16|float8_\w{1,20}|u?int(8|16|32|64)|bool")
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_KNOWN = {
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("_codecs", "encode"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.storage", "UntypedStorage"),
    ("torch._utils", "_rebuild_parameter"),
    *(("torch._utils", name) for name in _TENSORS),
    *(("torch", name) for name in _SIZES if name != "UntypedStorage"),
}
# What a call is counted as, besides what is in it: in bytes, no more than it takes to write a tensor and its storage.
_CALL = 48
# Axes of a tensor, and values in one with all its repetitions.
_AXES, _LARGEST = 16, 1 << 48
# Containers in containers.
_DEEPEST = 32
# At the head of a file of PyTorch before 1.6, and the version of that form.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class _Storage:
    """The bytes of a tensor, elsewhere in the file."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor over a storage."""


@dataclass
class _Stack(PickleStack):
    """The stack of a pickle of PyTorch; tensors, devices and types are only known to be such."""

    # As PyTorch wrote before version 1.6: identities of storages have one item more.
    former: bool = False
    # Bytes that each storage has, by its key.
    storages: dict[str, int] = field(default_factory=dict)

    def known(self, name: Name) -> Name:
        """One of what weights are made of; see `PickleStack.known`."""
        if (name.module, name.name) in _KNOWN or (name.module == "torch" and _TYPE.fullmatch(name.name)):
            return name
        raise UnpicklingError(f"it asks for {str(name)[:100]}")

    def stored(self, identity: Any) -> _Storage:
        """A storage, if its identity is as `torch.save` writes it; see `PickleStack.stored`."""
        match identity:
            case ("storage", Name() as kind, str() as key, str() as location, int() as count, *rest) if (
                rest == [None] if self.former else not rest
            ):
                # Of digits, for PyTorch finds parts of an archive whatever the case of their names.
                plain = key.isascii() and key.isdigit() and len(key) <= 20 and len(location) <= 100
                if plain and count >= 0 and kind.name in _SIZES and type(count) is int:
                    size = count * _SIZES[kind.name]
                    if self.storages.setdefault(key, size) == size:
                        return _Storage()
        raise UnpicklingError("it asks for a storage that is none")

    def made(self, name: Any, arguments: Any) -> Any:
        """What stands for the result of a call; see `PickleStack.made`."""
        match name, arguments:
            case Name(module="torch._utils", name=called), (
                _Storage(),
                int(),
                tuple() as shape,
                tuple() as steps,
                *rest,
            ):
                if called in _TENSORS and _is_shape(shape) and _is_shape(steps) and _is_tail(rest):
                    self.spend(_CALL)
                    return _Tensor()
            case Name(name="_rebuild_parameter"), (_Tensor(), bool(), OrderedDict()):
                self.spend(_CALL)
                return _Tensor()
            case Name(name="OrderedDict"), ():
                return OrderedDict()
            case Name(name="OrderedDict"), (list() as pairs,):
                return self.ordered(pairs)
            case Name(name="Counter"), (dict() as counts,):
                self.spend(len(counts))
                return dict(counts)
            case Name(name="Size"), (tuple() as shape,) if _is_shape(shape):
                self.spend(len(shape))
                return shape
            case Name(name="device"), (str() as kind, *index) if len(kind) <= 100 and _is_index(index):
                self.spend(1)
                return name
            case Name(name="encode"), (str() as text, "latin1" | "latin-1"):
                self.spend(len(text))
                return text.encode("latin1")
        return super().made(name, arguments)

    def fill(self, made: Any, state: Any) -> None:
        """What a module says of its weights; see `PickleStack.fill`."""
        if type(made) is not OrderedDict or type(state) is not dict or not state.keys() <= {"_metadata"}:
            super().fill(made, state)


def _is_shape(sides: tuple[Any, ...]) -> bool:
    if len(sides) > _AXES or not all(type(side) is int and 0 <= side <= _LARGEST for side in sides):
        return False
    return math.prod(sides) <= _LARGEST


def _is_index(index: list[Any]) -> bool:
    return not index or (len(index) == 1 and type(index[0]) is int)


def _is_tail(rest: list[Any]) -> bool:
    """Whether a tensor needs a gradient, its hooks, of which none can be written, and its type."""
    match rest:
        case []:
            return True
        case [bool(), OrderedDict() as hooks] | [bool(), OrderedDict() as hooks, Name()]:
            return not hooks
    return False


def _check_depth(value: Any) -> None:
    """No container lies deeper in others than configs and optimizers do, and none in itself."""
    heights: dict[int, int] = {}

    def height(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list, tuple)):
            return 0
        if depth > _DEEPEST:
            raise UnpicklingError("it holds containers in containers without end")
        if id(value) not in heights:
            heights[id(value)] = _DEEPEST  # until it is known: what is in itself has no end
            items = value.values() if isinstance(value, dict) else value
            heights[id(value)] = 1 + max((height(item, depth + 1) for item in items), default=0)
        if depth + heights[id(value)] > _DEEPEST:
            raise UnpicklingError("it holds containers in containers without end")
        return heights[id(value)]

    height(value, 0)


def check_pickle(file: IO[bytes], size: int, records: dict[str, int]) -> None:
    """Refuse a pickle, as in an archive of `torch.save`, of which PyTorch would make more than is in it.

    Parameters
    ----------
    file : binary file
    size : int
        Bytes of the whole archive.
    records : dict
        Bytes of each of its members, by its name in lower case below the first folder.

    Raises
    ------
    pickle.UnpicklingError
        If it holds anything but tensors, numbers, text and containers, or claims more than it has.
    """
    stack = _Stack(size)
    _check_weights(stack, file)
    # Not all versions of PyTorch look: they would go on reading where a member has ended.
    if any(claimed > records.get(f"data/{key}", -1) for key, claimed in stack.storages.items()):
        raise UnpicklingError("its tensors are larger than their parts of the file")


def _check_weights(stack: _Stack, file: IO[bytes]) -> None:
    _check_depth(stack.follow(file))
    if sum(stack.storages.values()) > stack.size:
        raise UnpicklingError("its tensors are larger than the file")


def check_former(file: IO[bytes], size: int) -> None:
    """The same of a file of PyTorch before version 1.6: five pickles, and the bytes of the tensors.

    Parameters
    ----------
    file : binary file
        At its beginning.
    size : int
        Bytes in it.

    Raises
    ------
    pickle.UnpicklingError
        As `check_pickle`; also if the file could be taken for a tar archive, in which PyTorch would look for weights.
    """
    try:
        tarfile.TarInfo.frombuf(file.read(512), "utf-8", "surrogateescape")
    except tarfile.TarError:
        file.seek(0)
    else:
        raise UnpicklingError("it is a tar archive")
    stack = _Stack(size, former=True)
    if stack.follow(file) != _MAGIC or stack.follow(file) != _VERSION:
        raise UnpicklingError("it is no file of PyTorch")
    _check_depth(stack.follow(file))
    _check_weights(stack, file)
    keys = stack.follow(file)
    # Each is there once, so that no tensor is left with whatever was in the memory before.
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(stack.storages):
        raise UnpicklingError("it lists other storages than it has")
