"""How a chunk of Zarr is packed, by the metadata of its array: what undoes it, and what it becomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.zarr_codecs import unpack

# Bytes beyond those of a chunk: checksums and what codecs write before them; the same of a chunk in a shard.
_SLACK, _INNER_SLACK = 1 << 10, 1 << 8
# In the index of a shard: no such chunk.
_NONE = (1 << 64) - 1
_COMPRESSORS = frozenset(
    {"blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "crc32", "crc32c", "adler32", "fletcher32"}
)

Where = tuple[int, ...]
Order = Literal["<", ">"]
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Packing:
    """A chunk of some shape.

    Attributes
    ----------
    shape : tuple of int
        Height and width and the like of a chunk.
    stored : NumPy dtype
        Of its numbers as they lie in the file.
    fill : NumPy number
        What a chunk that is not there is full of.
    steps : tuple of mapping
        Codecs as Zarr 2 names them, in the order in which they are undone.
    turns : tuple of tuple of int
        The order of the axes, of each time that they were turned when it was packed.
    shard : Shard or None
        Where it holds chunks of its own.
    """

    shape: tuple[int, ...]
    stored: np.dtype[Any]
    fill: Any
    steps: tuple[Mapping[str, Any], ...] = ()
    turns: tuple[tuple[int, ...], ...] = ()
    shard: Shard | None = None

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers in memory."""
        return self.stored.newbyteorder("=")

    @cached_property
    def nbytes(self) -> int:
        """How many it takes in memory."""
        return math.prod(self.shape) * self.stored.itemsize

    @cached_property
    def filtered(self) -> bool:
        """Whether it is computed, and not only unpacked."""
        return any(step["id"] not in _COMPRESSORS for step in self.steps)

    @cached_property
    def is_plain(self) -> bool:
        """Whether parts of a shard can be read from the file."""
        return not self.steps and not self.turns

    @cached_property
    def read_together(self) -> Packing:
        """What is decoded to read one of its numbers: of a shard the chunk inside."""
        return self.shard.inner if self.shard and self.is_plain else self

    @cached_property
    def most_unpacked(self) -> int:
        """Bytes that may come out of any of its steps."""
        if self.shard:
            return self.shard.most_stored
        # Filters may have made other numbers of them, which are what is packed.
        widest = max((_item(step[key]) for step in self.steps for key in _KINDS if step.get(key)), default=1)
        return self.nbytes * max(1, -(-widest // self.stored.itemsize)) + _SLACK

    @cached_property
    def most_stored(self) -> int:
        """Bytes of a file that may hold it: what cannot be packed becomes a little larger."""
        return self.most_unpacked + self.most_unpacked // 8 + _SLACK

    def decode(self, data: bytes) -> NDArray[Any]:
        """The numbers of a chunk, of its shape.

        Raises
        ------
        Exception
            It is damaged, or becomes other than the bytes of a chunk: the codecs have errors of their own.
        """
        unpacked: Any = data
        for step in self.steps:
            unpacked = unpack(step, unpacked, self.most_unpacked)
        shape = self.shape
        for turn in self.turns:
            shape = tuple(shape[axis] for axis in turn)
        if self.shard:
            values = self.shard.decode(bytes(unpacked), shape, self.fill)
        else:
            raw = unpacked.reshape(-1).view(np.uint8) if isinstance(unpacked, np.ndarray) else unpacked
            kind = np.dtype(np.uint8) if self.stored.kind == "b" else self.stored
            values = np.frombuffer(raw, kind).reshape(shape)
            values = values.astype(self.dtype, copy=False)
        for turn in reversed(self.turns):
            values = values.transpose(np.argsort(turn))
        return values


@dataclass(frozen=True)
class Shard:
    """Chunks in one file, with an index of where they lie.

    Attributes
    ----------
    inner : Packing
        A chunk in it.
    counts : tuple of int
        How many there are along each axis.
    order : str
        Byte order of the index.
    checked : bool
        Whether the index has a checksum.
    first : bool
        Whether the index lies before the chunks.
    """

    inner: Packing
    counts: tuple[int, ...]
    order: Order
    checked: bool
    first: bool

    @cached_property
    def most_stored(self) -> int:
        """Bytes of a file that may hold it."""
        return math.prod(self.counts) * (self.inner.nbytes + self.inner.nbytes // 8 + _INNER_SLACK) + _SLACK

    def index(self, read: Read, size: int) -> NDArray[np.uint64]:
        """The offset and length of each chunk, (..., 2), read from a file of `size` bytes.

        Raises
        ------
        InputError
            Without the name of the file.
        """
        count = 16 * math.prod(self.counts)
        stored = count + 4 * self.checked
        data = read(0 if self.first else max(0, size - stored), stored) if stored <= size else b""
        if len(data) == stored and self.checked:
            try:
                data = bytes(unpack({"id": "crc32c", "location": "end"}, data, count))
            except (RuntimeError, ValueError):
                data = b""
        if len(data) != count:
            raise InputError("a shard of it is damaged or cut short; get it again")
        index = np.frombuffer(data, f"{self.order}u8").reshape(*self.counts, 2).astype(np.uint64)
        there = ~(index == _NONE).any(axis=-1)
        places, lengths = index[..., 0][there], index[..., 1][there]
        # Chunks that are the same bytes would be unpacked over and over again.
        inside = not there.any() or (int(places.max()) <= size and int(lengths.max()) <= size)
        if not inside or (places + lengths > size).any() or float(lengths.sum(dtype=np.float64)) > size:
            raise InputError("the chunks in a shard of it lie over one another; get it again")
        return index

    def parts(
        self, index: NDArray[np.uint64], origin: Sequence[int], low: Sequence[int], shape: Sequence[int]
    ) -> Iterator[tuple[Where, int, int]]:
        """The chunks that are there and meet the box at `low` of some shape: number, offset and length of each."""
        spans = [
            (max(0, (a - at) // side), min(count, max(0, -(-(a + size - at) // side))))
            for at, a, size, side, count in zip(origin, low, shape, self.inner.shape, self.counts, strict=True)
        ]
        some = index[tuple(slice(a, b) for a, b in spans)]
        there = np.argwhere(~(some == _NONE).any(axis=-1))
        for number, (place, length) in zip(there.tolist(), some[tuple(there.T)].tolist(), strict=True):
            if length > self.inner.most_stored:
                raise InputError("a chunk in a shard of it is larger than a chunk can be; get it again")
            yield tuple(k + a for k, (a, _) in zip(number, spans, strict=True)), place, length

    def decode(self, data: bytes, shape: tuple[int, ...], fill: Any) -> NDArray[Any]:
        """All that is in it."""
        out = np.full(shape, fill, self.inner.dtype)
        index = self.index(lambda place, count: data[place : place + count], len(data))
        nothing = [0] * len(shape)
        for where, place, length in self.parts(index, nothing, nothing, shape):
            box = tuple(slice(k * side, (k + 1) * side) for k, side in zip(where, self.inner.shape, strict=True))
            out[box] = self.inner.decode(data[place : place + length])
        return out


_KINDS = ("dtype", "astype", "encode_dtype", "decode_dtype")


def _item(kind: Any) -> int:
    return int(np.dtype(kind).itemsize)


def packing_2(about: Mapping[str, Any]) -> Packing:
    """Of the metadata of an array of Zarr 2, which were looked at before.

    Raises
    ------
    ValueError
        They are not all there, or are of no kind that is known.
    """
    stored, shape = np.dtype(about["dtype"]), tuple(about["chunks"])
    order = about.get("order", "C")
    if order not in ("C", "F"):
        raise ValueError(f"its order is {str(order)[:10]!r}")
    compressor = about.get("compressor")
    steps = [*([compressor] if compressor is not None else []), *reversed(about.get("filters") or [])]
    turns = (tuple(reversed(range(len(shape)))),) if order == "F" else ()
    return Packing(shape, stored, _fill(about.get("fill_value"), stored), tuple(steps), turns)


def packing_3(about: Mapping[str, Any]) -> Packing:
    """Of the metadata of an array of Zarr 3; see `packing_2`."""
    kind = np.dtype(about["data_type"])
    shape = tuple(about["chunk_grid"]["configuration"]["chunk_shape"])
    return _packing_3(about["codecs"], shape, kind, _fill(about.get("fill_value"), kind))


def _packing_3(codecs: Sequence[Any], shape: tuple[int, ...], kind: np.dtype[Any], fill: Any) -> Packing:
    turns: list[tuple[int, ...]] = []
    steps: list[Mapping[str, Any]] = []
    shard, stored, turned, done = None, kind, shape, False
    for codec in codecs:
        name, settings = codec["name"], codec.get("configuration") or {}
        if (name in ("transpose", "bytes", "sharding_indexed")) is done:
            raise ValueError("its codecs are in no order that can be undone")
        if name == "transpose":
            turn = tuple(settings["order"])
            if sorted(turn) != list(range(len(shape))):
                raise ValueError("its axes are turned in no order")
            turns.append(turn)
            turned = tuple(turned[axis] for axis in turn)
        elif name == "bytes":
            stored, done = kind.newbyteorder(_order(settings)), True
        elif name == "sharding_indexed":
            shard, done = _shard(settings, turned, kind, fill), True
        else:
            steps.insert(0, {"id": name, **({"location": "end"} if name == "crc32c" else {})})
    if not done:
        raise ValueError("its codecs make no bytes of numbers")
    return Packing(shape, stored, fill, tuple(steps), tuple(turns), shard)


def _shard(settings: Mapping[str, Any], shape: tuple[int, ...], kind: np.dtype[Any], fill: Any) -> Shard:
    inner = tuple(settings["chunk_shape"])
    if any(outer % side for outer, side in zip(shape, inner, strict=True)):
        raise ValueError(f"its shards of {shape} are not divided by chunks of {inner}")
    index = [(codec["name"], codec.get("configuration") or {}) for codec in settings["index_codecs"]]
    names = [name for name, _ in index]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise ValueError("the index of its shards is packed")
    counts = tuple(outer // side for outer, side in zip(shape, inner, strict=True))
    place = settings.get("index_location", "end")
    if place not in ("start", "end"):
        raise ValueError(f"the index of its shards lies at {str(place)[:10]!r}")
    chunk = _packing_3(settings["codecs"], inner, kind, fill)
    return Shard(chunk, counts, _order(index[0][1]), len(names) == 2, place == "start")


def _order(settings: Mapping[str, Any]) -> Order:
    orders: dict[str, Order] = {"little": "<", "big": ">"}
    return orders[settings.get("endian") or "little"]


def _fill(value: Any, kind: np.dtype[Any]) -> Any:
    """The number that chunks which are not there are full of."""
    native = kind.newbyteorder("=")
    if isinstance(value, str) and value.startswith("0x"):
        return np.array(int(value, 16), f"u{kind.itemsize}").view(native)[()]
    given = 0 if value is None else float(value) if isinstance(value, str) else value
    if native.kind in "iu" and not (given == int(given) and np.iinfo(native).min <= given <= np.iinfo(native).max):
        raise ValueError(f"it is filled with {str(value)[:40]!r}, no number of type {native}")
    return np.array(given).astype(native)[()]
