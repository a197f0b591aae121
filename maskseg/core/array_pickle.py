"""Pickles of NumPy arrays, read as data: the opcodes are followed, and nothing that a file names is ever called.

Python's own unpickler calls what a file tells it to, and even NumPy's constructors, called with the wrong arguments,
take bytes for pointers. The published weights need few of them, so each is known here by its name and by the one form
of arguments that NumPy writes, and stands for an array of plain numbers over bytes that are in the file.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import IO, Any, cast

import numpy as np

# Booleans, whole numbers and floating point; no text, no dates, no structures, and above all no Python objects.
_PLAIN = re.compile(r"[?]|b1|[iu][1248]|f[248]|bool|u?int(8|16|32|64)|float(16|32|64)")
# An array of these is written as a list of its values, and read as that list: a dict that `numpy.save` took for one.
_OBJECTS = re.compile(r"O8?")
_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "="}
# Of the opcodes of a file: far more than any network has weights.
_MOST_OPCODES = 4_000_000
_CORES = ("numpy.core", "numpy._core")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Opcodes whose argument, as `pickletools` reads it, is the value; the containers that begin empty; tuples by length.
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """What a file asks for by module and name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class _Type:
    """A NumPy type of plain numbers; its byte order comes after its name."""

    code: str
    order: str = "="

    @property
    def objects(self) -> bool:
        """Whether its values are Python's: other things of this module."""
        return _OBJECTS.fullmatch(self.code) is not None

    @property
    def dtype(self) -> np.dtype:
        dtype = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        # Named once more, whatever the rules above let through.
        if dtype.hasobject or dtype.kind not in "biuf" or dtype.shape or dtype.names:
            raise UnpicklingError(f"it holds values of type {dtype}")
        return dtype


@dataclass
class _Array:
    """An array whose shape, type and bytes come after it."""

    value: np.ndarray | list[Any] | None = None


@dataclass
class _Reader:
    """The stack of a pickle and what is remembered of it."""

    size: int
    # Arrays of Python's values may be in it.
    objects: bool = False
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    # Bytes of all arrays so far: no more than the file has.
    claimed: int = 0

    def items(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        at = self.marks.pop()
        taken = self.stack[at:]
        del self.stack[at:]
        return taken

    def step(self, opcode: str, argument: Any) -> None:
        """Follow one opcode."""
        stack = self.stack
        if opcode in _VALUES:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self._least(count)
            stack[-count:] = [tuple(stack[-count:])]
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "MARK":
            self.marks.append(len(stack))
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            named = argument.split(" ", 1) if opcode == "GLOBAL" else [stack.pop(-2), stack.pop()]
            stack.append(_known(_Name(*map(str, named))))
        elif opcode == "REDUCE":
            self._least(2)
            arguments = stack.pop()
            stack[-1] = self._made(stack[-1], arguments)
        elif opcode == "BUILD":
            self._least(2)
            state = stack.pop()
            self._fill(stack[-1], state)
        elif opcode == "POP":
            # A mark counts as an item.
            _ = self.marks.pop() if self.marks and self.marks[-1] == len(stack) else stack.pop()
        elif opcode == "POP_MARK":
            self.items()
        elif opcode == "DUP":
            stack.append(stack[-1])
        else:
            self._collect(opcode)

    def _collect(self, opcode: str) -> None:
        """Follow an opcode that puts items into a container."""
        stack = self.stack
        if opcode == "TUPLE":
            items = self.items()
            stack.append(tuple(items))
        elif opcode == "LIST":
            items = self.items()
            stack.append(items)
        elif opcode == "DICT":
            items = self.items()
            stack.append({})
            _set(stack[-1], items)
        elif opcode in ("APPEND", "APPENDS"):
            items = [stack.pop()] if opcode == "APPEND" else self.items()
            if type(stack[-1]) is not list:
                raise UnpicklingError("it adds to what is no list")
            stack[-1].extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self.items()
            _set(stack[-1], items)
        else:
            raise UnpicklingError(f"it asks for {opcode.lower()}, which no array needs")

    def _least(self, count: int) -> None:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise UnpicklingError("its opcodes do not fit together")

    def _made(self, name: Any, arguments: Any) -> Any:
        """What NumPy's function of that name gives for arguments as NumPy writes them."""
        match name, arguments:
            case _Name(name="_reconstruct"), (_Name(name="ndarray"), (0,), bytes() | str()):
                return _Array()
            case _Name(name="dtype"), (str() | bytes() as code, *_) if len(arguments) <= 3:
                text = code.decode("latin1") if isinstance(code, bytes) else code
                order = text[0] if text[:1] in _ORDERS and text[:1] else "="
                plain = text.removeprefix(order)
                if not _PLAIN.fullmatch(plain) and not (self.objects and _OBJECTS.fullmatch(plain)):
                    raise UnpicklingError(f"it holds values of type {text[:20]!r}")
                return _Type(plain, order)
            case _Name(name="scalar"), (_Type() as kind, data):
                return self._array(kind, (), data, "C")[()]
            case _Name(name="_frombuffer"), (data, _Type() as kind, tuple() as shape, "C" | "F" as order):
                return self._array(kind, shape, data, order)
            case _Name(name="encode"), (str() as text, "latin1" | "latin-1"):
                return text.encode("latin1")
            case _Name(name="bytes"), ():
                return b""
            case _Name(name="PosixPath" | "WindowsPath"), tuple() if self.objects and all(
                type(part) is str for part in arguments
            ):
                return "/".join(arguments)
            case _Name(name="OrderedDict"), ():
                return OrderedDict()
            case _Name(name="OrderedDict"), (list() as pairs,) if all(
                isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
            ):
                made: OrderedDict[Any, Any] = OrderedDict()
                _set(made, [item for pair in pairs for item in pair])
                return made
        raise UnpicklingError(f"it asks for {name if isinstance(name, _Name) else 'a call'} with other arguments")

    def _fill(self, made: Any, state: Any) -> None:
        """Give an array or a type the rest of what it is."""
        match made, state:
            case _Array(value=None), (1, tuple(), _Type(objects=True), bool() | 0 | 1, list() as values):
                made.value = values
            case _Array(value=None), (1, tuple() as shape, _Type() as kind, bool() | 0 | 1 as columns, data):
                made.value = self._array(kind, shape, data, "F" if columns else "C")
            case _Type(objects=True), (3 | 4, "|" | b"|", None, None, None, -1, -1, 63):
                pass
            case _Type(), (3 | 4, str() | bytes() as order, None, None, None, -1, -1, 0):
                order = order.decode("latin1") if isinstance(order, bytes) else order
                if order not in _ORDERS:
                    raise UnpicklingError("it holds values of an unknown byte order")
                made.order = order
            case _:
                raise UnpicklingError("it sets what no array of numbers has")

    def _array(self, kind: _Type, shape: tuple[Any, ...], data: Any, order: str) -> np.ndarray:
        """An array over bytes of the file, each of which counts once for all arrays together."""
        if isinstance(data, str):  # bytes as Python 2 wrote them
            data = data.encode("latin1")
        if not isinstance(data, (bytes, bytearray)):
            raise UnpicklingError("it holds an array that is not made of bytes")
        if len(shape) > 8 or not all(type(side) is int and 0 <= side <= self.size for side in shape):
            raise UnpicklingError(f"it holds an array of shape {str(shape)[:60]}, which its bytes cannot have")
        dtype = kind.dtype
        if math.prod(shape) * dtype.itemsize != len(data):
            raise UnpicklingError(f"it holds an array of shape {shape} in {len(data)} bytes")
        self.claimed += len(data)
        if self.claimed > self.size:
            raise UnpicklingError("its arrays are larger than the file")
        values = np.frombuffer(data, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
        # A copy, for the bytes cannot be written to; in the order of this machine.
        return np.array(values, dtype.newbyteorder("="), order="K", copy=True)


def _known(name: _Name) -> _Name:
    if name.module.endswith((".multiarray", ".numeric")):
        core, _, module = name.module.rpartition(".")
        known = core in _CORES and name.name in {"multiarray": ("_reconstruct", "scalar")}.get(module, ("_frombuffer",))
    else:
        known = (name.module, name.name) in {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("collections", "OrderedDict"),
            ("_codecs", "encode"),
            ("__builtin__", "bytes"),
            # Read as text; the last is of Python 3.13.
            *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
        }
    if not known:
        raise UnpicklingError(f"it asks for {str(name)[:100]}")
    return name


def _set(target: Any, items: list[Any]) -> None:
    """Put keys and values, in turn, into a dict. Nested keys could take for ever to be compared."""
    keys = items[::2]
    if type(target) not in (dict, OrderedDict) or len(items) % 2 or not all(type(key) in (str, int) for key in keys):
        raise UnpicklingError("it holds keys that are no names")
    target.update(zip(keys, items[1::2], strict=True))


def _finished(value: Any) -> Any:
    """The value with each array in its place; arrays are looked for two containers deep, where weights lie."""
    seen: dict[int, Any] = {}

    def finish(value: Any, depth: int) -> Any:
        if isinstance(value, _Array):
            if value.value is None:
                raise UnpicklingError("it holds an array without values")
            return finish(value.value, depth) if isinstance(value.value, list) else value.value
        if isinstance(value, (_Name, _Type)):
            raise UnpicklingError(f"it holds {type(value).__name__[1:].lower()}s in place of values")
        if isinstance(value, (dict, list, tuple)):
            if depth > 8:
                raise UnpicklingError("it holds containers in containers in containers")
            if id(value) not in seen:
                made: Any
                if isinstance(value, dict):
                    made = type(value)((key, finish(item, depth + 1)) for key, item in value.items())
                else:
                    made = type(value)(finish(item, depth + 1) for item in value)
                seen[id(value)] = made
            return seen[id(value)]
        return value

    return finish(value, 0)


def load_array_pickle(file: IO[bytes], objects: bool = False) -> Any:
    """Read a pickle that holds only NumPy arrays of plain numbers, numbers, text and containers.

    Parameters
    ----------
    file : binary file
        Read to its end.
    objects : bool
        There may be arrays of such things, too: each is read as the list of its values.

    Returns
    -------
    object
        Arrays have the byte order of this machine.

    Raises
    ------
    pickle.UnpicklingError
        If it holds or names anything else, or claims more than it has.
    """
    data = file.read()
    reader = _Reader(len(data), objects)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if count > _MOST_OPCODES:
                raise UnpicklingError("it has too many opcodes")
            if opcode.name == "STOP":
                break
            if opcode.name not in ("PROTO", "FRAME"):
                reader.step(opcode.name, argument)
        if len(reader.stack) != 1 or reader.marks:
            raise UnpicklingError("its opcodes do not fit together")
        return _finished(reader.stack[0])
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
        raise UnpicklingError(f"damaged or no pickle of arrays: {' '.join(str(error).split())[:80]}") from error


def check_tuples(data: bytes) -> None:
    """Refuse a pickle whose tuples hold others again and again: as the key of a dict, one takes for ever to be hashed.

    For pickles that PyTorch reads, whose own unpickler does not look at keys. Nothing is made of the opcodes.

    Raises
    ------
    pickle.UnpicklingError
        If a tuple, with all in it, has too many items, or it is no pickle.
    """
    # In place of each value, the number of items that its hash would go through.
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            name, argument = opcode.name, cast(int, argument)
            if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
                continue
            if name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
                stack.append(stack[-1] if name == "DUP" else memo[argument])
                continue
            if name == "MARK":
                marks.append(len(stack))
                continue
            if pickletools.markobject in opcode.stack_before:
                at = marks.pop() - opcode.stack_before.index(pickletools.markobject)
            else:
                at = len(stack) - len(opcode.stack_before)
            taken = stack[max(at, 0) :]
            del stack[max(at, 0) :]
            size = 1 + sum(taken) if name.startswith("TUPLE") else 1
            if size > _MOST_OPCODES:
                raise UnpicklingError("its tuples hold one another without end")
            stack.extend([size] * len(opcode.stack_after))
    except (ValueError, IndexError, KeyError, UnicodeError) as error:
        raise UnpicklingError(f"damaged or no pickle: {' '.join(str(error).split())[:80]}") from error
