"""Pickles of NumPy arrays, read as data: the opcodes are followed, and nothing that a file names is ever called.

Python's own unpickler calls what a file tells it to, and even NumPy's constructors, called with the wrong arguments,
take bytes for pointers. The published weights need few of them, so each is known here by its name and by the one form
of arguments that NumPy writes, and stands for an array of plain numbers over bytes that are in the file.
"""

from __future__ import annotations

import io
import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np

from maskseg.core.pickle_stack import Name, PickleStack

# Booleans, whole numbers and floating point; no text, no dates, no structures, and above all no Python objects.
_PLAIN = re.compile(r"[?]|b1|[iu][1248]|f[248]|bool|u?int(8|16|32|64)|float(16|32|64)")
# An array of these is written as a list of its values, and read as that list: a dict that `numpy.save` took for one.
_OBJECTS = re.compile(r"O8?")
_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "="}
# Characters of the name of a type, with its byte order.
_LONGEST_CODE = 20
_CORES = ("numpy.core", "numpy._core")


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
class _Reader(PickleStack):
    """The stack of a pickle of arrays."""

    # Arrays of Python's values may be in it.
    objects: bool = False
    # Bytes of all arrays so far: no more than the file has.
    claimed: int = 0

    def known(self, name: Name) -> Name:
        return _known(name)

    def made(self, name: Any, arguments: Any) -> Any:
        """What NumPy's function of that name gives for arguments as NumPy writes them."""
        match name, arguments:
            case Name(name="_reconstruct"), (Name(name="ndarray"), (0,), bytes() | str()):
                return _Array()
            case Name(name="dtype"), (str() | bytes() as code, *_) if (
                len(arguments) <= 3 and len(code) <= _LONGEST_CODE
            ):
                text = code.decode("latin1") if isinstance(code, bytes) else code
                order = text[0] if text[:1] in _ORDERS and text[:1] else "="
                plain = text.removeprefix(order)
                if not _PLAIN.fullmatch(plain) and not (self.objects and _OBJECTS.fullmatch(plain)):
                    raise UnpicklingError(f"it holds values of type {text[:20]!r}")
                return _Type(plain, order)
            case Name(name="scalar"), (_Type() as kind, data):
                return self._array(kind, (), data, "C")[()]
            case Name(name="_frombuffer"), (data, _Type() as kind, tuple() as shape, "C" | "F" as order):
                return self._array(kind, shape, data, order)
            case Name(name="encode"), (str() as text, "latin1" | "latin-1"):
                self.spend(len(text))
                return text.encode("latin1")
            case Name(name="bytes"), ():
                return b""
            case Name(name="PosixPath" | "WindowsPath"), tuple() if self.objects and all(
                type(part) is str for part in arguments
            ):
                self.spend(sum(map(len, arguments)) + len(arguments))
                return "/".join(arguments)
            case Name(name="OrderedDict"), ():
                return OrderedDict()
            case Name(name="OrderedDict"), (list() as pairs,):
                return self.ordered(pairs)
        return super().made(name, arguments)

    def fill(self, made: Any, state: Any) -> None:
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
                super().fill(made, state)

    def _array(self, kind: _Type, shape: tuple[Any, ...], data: Any, order: str) -> np.ndarray:
        """An array over bytes of the file, each of which counts once for all arrays together."""
        if isinstance(data, str):  # bytes as Python 2 wrote them
            data = data.encode("latin1")
        if not isinstance(data, (bytes, bytearray)):
            raise UnpicklingError("it holds an array that is not made of bytes")
        # Not told: what stands for a shape may be tuples in tuples, of which there is text without end.
        if len(shape) > 8 or not all(type(side) is int and 0 <= side <= self.size for side in shape):
            raise UnpicklingError("it holds an array of a shape that its bytes cannot have")
        dtype = kind.dtype
        if math.prod(shape) * dtype.itemsize != len(data):
            raise UnpicklingError(f"it holds an array of shape {shape} in {len(data)} bytes")
        self.claimed += len(data)
        if self.claimed > self.size:
            raise UnpicklingError("its arrays are larger than the file")
        values = np.frombuffer(data, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
        # A copy, for the bytes cannot be written to; in the order of this machine.
        return np.array(values, dtype.newbyteorder("="), order="K", copy=True)


def _known(name: Name) -> Name:
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


def _finished(value: Any) -> Any:
    """The value with each array in its place; arrays are looked for two containers deep, where weights lie."""
    seen: dict[int, Any] = {}

    def finish(value: Any, depth: int) -> Any:
        if isinstance(value, _Array):
            if value.value is None:
                raise UnpicklingError("it holds an array without values")
            return finish(value.value, depth) if isinstance(value.value, list) else value.value
        if isinstance(value, (Name, _Type)):
            raise UnpicklingError(f"it holds {'names' if isinstance(value, Name) else 'types'} in place of values")
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
    return _finished(_Reader(len(data), objects=objects).follow(io.BytesIO(data)))
