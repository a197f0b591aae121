"""The stack of a pickle, followed opcode by opcode: nothing that a file names is looked up, called or compared.

What a program may do with little text, and Python then does without end, is refused before it is done: keys that take
long to be hashed, or whose hashes are equal; numbers without end; calls that each copy what was written once.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import IO, Any

# Opcodes of a file: far more than any network has weights; of a small file as many as are followed in a second.
_MOST_OPCODES, _FEWEST_OPCODES = 4_000_000, 300_000
# Of a number: what NumPy and PyTorch write has eight bytes, an identity or a magic number up to twelve.
_LONGEST_NUMBER = 127
# Characters of a key; whole numbers that are keys, in one file, and their bits. The hash of one below 2 ** 61 - 1 is
# its own; keys that are equal but for their upper bits still meet in a dict, so they are few.
_LONGEST_KEY, _MOST_NUMBERS, _KEY_BITS = 1000, 20_000, 60
# Of the names of a module and what is in it.
_LONGEST_NAME = 200
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
class Name:
    """What a file asks for by module and name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class PickleStack:
    """The stack of a pickle and what is remembered of it; what its names mean is said by those who inherit it.

    Parameters
    ----------
    size : int
        Bytes of the file.
    """

    size: int
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    # Bytes and items that calls have made so far: no more than the file has bytes.
    spent: int = 0
    # Whole numbers that are keys.
    numbers: int = 0

    def follow(self, file: IO[bytes]) -> Any:
        """Follow one pickle to its end, where the file then stands.

        Returns
        -------
        object
            What it makes: numbers, text, containers, and what `made` gave.

        Raises
        ------
        pickle.UnpicklingError
            If it is damaged or holds what is not known here.
        """
        self.stack, self.marks, self.memo = [], [], {}
        most = min(_MOST_OPCODES, _FEWEST_OPCODES + self.size // 8)
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count > most:
                    raise UnpicklingError("it has too many opcodes")
                if opcode.name == "STOP":
                    break
                if opcode.name not in ("PROTO", "FRAME"):
                    self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
            raise UnpicklingError(f"damaged or no pickle of arrays: {' '.join(str(error).split())[:80]}") from error
        if len(self.stack) != 1 or self.marks:
            raise UnpicklingError("its opcodes do not fit together")
        return self.stack[0]

    def known(self, name: Name) -> Name:
        """A name that may be asked for.

        Raises
        ------
        pickle.UnpicklingError
            If it is another.
        """
        raise UnpicklingError(f"it asks for {name}")

    def made(self, name: Any, arguments: Any) -> Any:
        """What stands for the result of a call.

        Raises
        ------
        pickle.UnpicklingError
            If the name is none that is called, or is called with other arguments.
        """
        raise UnpicklingError(f"it asks for {name if isinstance(name, Name) else 'a call'} with other arguments")

    def fill(self, made: Any, state: Any) -> None:
        """Give what was made the rest of what it is.

        Raises
        ------
        pickle.UnpicklingError
            If it has no such thing.
        """
        raise UnpicklingError("it sets what no array of numbers has")

    def stored(self, identity: Any) -> Any:
        """What stands for what lies outside the pickle.

        Raises
        ------
        pickle.UnpicklingError
            If there is nothing outside.
        """
        raise UnpicklingError("it asks for binpersid, which no array needs")

    def spend(self, count: int) -> None:
        """Count what a call makes: with arguments that are written once, it could be called again and again.

        Raises
        ------
        pickle.UnpicklingError
            If it is more than the file has bytes.
        """
        self.spent += count
        if self.spent > self.size:
            raise UnpicklingError("it makes more than it holds")

    def items(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        at = self.marks.pop()
        taken = self.stack[at:]
        del self.stack[at:]
        return taken

    def step(self, opcode: str, argument: Any) -> None:
        """Follow one opcode.

        Raises
        ------
        pickle.UnpicklingError
            If it is one that is not needed, or does not fit what is on the stack.
        """
        stack = self.stack
        if opcode in _VALUES:
            if type(argument) is int and argument.bit_length() > _LONGEST_NUMBER:
                raise UnpicklingError("it holds a number of more than 16 bytes")
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
        elif opcode in ("APPEND", "APPENDS"):
            items = [stack.pop()] if opcode == "APPEND" else self.items()
            if type(stack[-1]) is not list:
                raise UnpicklingError("it adds to what is no list")
            stack[-1].extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self.items()
            self.put(stack[-1], items)
        elif opcode in ("REDUCE", "BUILD", "BINPERSID", "GLOBAL", "STACK_GLOBAL"):
            self._name_or_call(opcode, argument)
        else:
            self._rarer(opcode)

    def _name_or_call(self, opcode: str, argument: Any) -> None:
        """Follow an opcode by which something else than a container is made."""
        stack = self.stack
        if opcode in ("GLOBAL", "STACK_GLOBAL"):
            named = argument.split(" ", 1) if opcode == "GLOBAL" else [stack.pop(-2), stack.pop()]
            # Not turned into text: of tuples in tuples there is text without end.
            if not all(type(part) is str and len(part) <= _LONGEST_NAME for part in named):
                raise UnpicklingError("it asks for what is no name")
            stack.append(self.known(Name(*named)))
        elif opcode == "BINPERSID":
            stack.append(self.stored(stack.pop()))
        else:
            self._least(2)
            taken = stack.pop()
            if opcode == "REDUCE":
                stack[-1] = self.made(stack[-1], taken)
            else:
                self.fill(stack[-1], taken)

    def _rarer(self, opcode: str) -> None:
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
            self.put(stack[-1], items)
        elif opcode == "POP":
            # A mark counts as an item.
            _ = self.marks.pop() if self.marks and self.marks[-1] == len(stack) else stack.pop()
        elif opcode == "POP_MARK":
            self.items()
        elif opcode == "DUP":
            stack.append(stack[-1])
        else:
            raise UnpicklingError(f"it asks for {opcode.lower()}, which no array needs")

    def _least(self, count: int) -> None:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise UnpicklingError("its opcodes do not fit together")

    def put(self, target: Any, items: list[Any]) -> None:
        """Put keys and values, in turn, into a dict; each key is looked at before it is hashed.

        Raises
        ------
        pickle.UnpicklingError
            If it is no dict, or a key is neither a short text nor a number of up to 60 bits, or there are too many
            of the latter.
        """
        keys = items[::2]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise UnpicklingError("it sets items of what is no dict")
        for key in keys:
            if type(key) is int and key.bit_length() <= _KEY_BITS:
                self.numbers += 1
            elif type(key) is not str or len(key) > _LONGEST_KEY:
                raise UnpicklingError("it holds keys that are no names")
        if self.numbers > _MOST_NUMBERS:
            raise UnpicklingError(f"it holds over {_MOST_NUMBERS} keys that are numbers")
        target.update(zip(keys, items[1::2], strict=True))

    def ordered(self, pairs: list[Any]) -> OrderedDict[Any, Any]:
        """An ordered dict of a list of pairs.

        Raises
        ------
        pickle.UnpicklingError
            As `put`; also if they are no pairs.
        """
        if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            raise UnpicklingError("it makes a dict of what are no pairs")
        self.spend(len(pairs))
        made: OrderedDict[Any, Any] = OrderedDict()
        self.put(made, [item for pair in pairs for item in pair])
        return made
