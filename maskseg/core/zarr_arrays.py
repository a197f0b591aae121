"""An array in Zarr, read in parts: of the chunks that are there, and no more bytes of each than a chunk has.

What zarr itself does is right, and of a stranger's file too trusting: it unpacks a chunk to whatever size it becomes,
opens pipes, and asks for each chunk that the shape has room for, of which there may be a million millions.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.limits import FLOOR, IMAGE, PARTS, check_claim
from maskseg.core.zarr_checks import zarr_node
from maskseg.core.zarr_chunks import Packing, packing_2, packing_3

# Decoded chunks that are kept, in bytes.
_CACHE = 128 << 20
# So many chunks are looked for by their names; of more, those that the folder lists are gone through.
_LOOKED_FOR = 1024
# Chunks may reach beyond the image so many times its size before it is held against what images claim.
_BEYOND = 4
# What a chunk takes while it is unpacked, times its bytes; filters compute in numbers of 64 bits.
_UNPACKED, _FILTERED = 2, 18
_NUMBER = "(0|[1-9][0-9]{0,15})"

Where = tuple[int, ...]


class ZarrArray:
    """Numbers in a Zarr folder.

    Parameters
    ----------
    path : Path
        Of the array, not of its group.

    Attributes
    ----------
    shape : tuple of int
    dtype : NumPy dtype
        In the byte order of this machine.

    Raises
    ------
    ValueError
        See `zarr_node`; or its metadata are not those of an array that can be read.
    """

    def __init__(self, path: Path) -> None:
        node = zarr_node(path)
        if not node.is_array:
            raise ValueError(f"{path.name} is no array")
        about = node.metadata
        self.shape = tuple(about["shape"])
        self._chunk: Packing = packing_2(about) if node.zarr_format == 2 else packing_3(about)
        self.dtype = self._chunk.dtype
        self._fill = self._chunk.fill
        sides = self._chunk.shape
        self._grid = tuple(-(-size // side) for size, side in zip(self.shape, sides, strict=True))
        self._path, self._prefix, self._separator = path, "", "."
        if node.zarr_format == 2:
            self._separator = about.get("dimension_separator", ".")
        else:
            keys = about.get("chunk_key_encoding") or {}
            default = keys.get("name", "default") == "default"
            self._separator = (keys.get("configuration") or {}).get("separator", "/" if default else ".")
            self._prefix = f"c{self._separator}" if default else ""
        if self._separator not in ("/", "."):
            raise ValueError(f"its chunks are divided by {str(self._separator)[:10]!r}")
        self._kept: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes, self._lock = 0, Lock()
        self._listed: NDArray[np.int64] | None = None

    def check_claims(self, plane: Iterable[int]) -> None:
        """Refuse an array that claims more than the files in its folder bear out.

        Parameters
        ----------
        plane : iterable of int
            The axes that are read together.

        Raises
        ------
        InputError
            Without the name of the file.
        """
        each, read = self.dtype.itemsize, set(plane)
        sides = self._chunk.read_together.shape
        padded = each * math.prod(
            -(-size // side) * side if axis in read else side
            for axis, (size, side) in enumerate(zip(self.shape, sides, strict=True))
        )
        held = each * math.prod(
            size if axis in read else min(size, side)
            for axis, (size, side) in enumerate(zip(self.shape, sides, strict=True))
        )
        together = self._chunk.read_together
        chunk = max(together.nbytes, together.most_unpacked) * (_FILTERED if together.filtered else _UNPACKED)
        claims = [
            (each * math.prod(self.shape), PARTS, f"values {self.shape}"),
            (padded, PARTS if padded <= _BEYOND * held else IMAGE, f"values {self.shape} in chunks of {sides}"),
            (chunk, IMAGE, f"a chunk of {sides}"),
        ]
        enough = max((-(-claim // times) for claim, times, _ in claims if claim > FLOOR), default=0)
        stored = folder_bytes(self._path, enough)
        for claim, times, what in claims:
            check_claim(claim, stored, times, what)

    def check_any(self) -> None:
        """Refuse an array of which no chunk is there.

        Raises
        ------
        InputError
            Without the name of the file.
        """
        if next(self._keys(), None) is None:
            raise InputError("none of its chunks is there, so that it holds no pixels; get it again")

    def __getitem__(self, index: Sequence[int | slice]) -> NDArray[Any]:
        """The numbers at a number or slice (of step 1) of each axis, as NumPy has them."""
        spans = [
            one.indices(size)[:2] if isinstance(one, slice) else (int(one), int(one) + 1)
            for one, size in zip(index, self.shape, strict=True)
        ]
        low, high = [a for a, _ in spans], [max(a, b) for a, b in spans]
        if any(a < 0 or b > size for a, b, size in zip(low, high, self.shape, strict=True)):
            raise IndexError("outside of the array")
        out = np.full([b - a for a, b in zip(low, high, strict=True)], self._fill, self.dtype)
        if out.size:
            sides = self._chunk.shape
            first = [a // side for a, side in zip(low, sides, strict=True)]
            end = [-(-b // side) for b, side in zip(high, sides, strict=True)]
            for where in self._near(first, end):
                self._read_into(out, low, where)
        return out[tuple(slice(None) if isinstance(one, slice) else 0 for one in index)]

    def _read_into(self, out: NDArray[Any], low: Sequence[int], where: Where) -> None:
        origin = [place * side for place, side in zip(where, self._chunk.shape, strict=True)]
        shard = self._chunk.shard
        if shard is None or not self._chunk.is_plain:
            _copy(self._whole(where), origin, out, low)
            return
        file = self._open(where)
        if file is None:
            return
        with closing(file):
            size = os.fstat(file.fileno()).st_size
            index = self._keep((where, "index"), lambda: shard.index(_reading(file), size))
            for inner, place, count in shard.parts(index, origin, low, out.shape):
                part = self._keep((where, inner), partial(self._inner, file, where, inner, place, count))
                corner = [at + k * side for at, k, side in zip(origin, inner, shard.inner.shape, strict=True)]
                _copy(part, corner, out, low)

    def _inner(self, file: IO[bytes], where: Where, inner: Where, place: int, count: int) -> NDArray[Any]:
        file.seek(place)
        return self._decoded(where, file.read(count), inner)

    def _whole(self, where: Where) -> NDArray[Any] | None:
        """A chunk, None where it is not there."""
        kept = self._found(where)
        file = self._open(where) if kept is None else None
        if file is None:
            return kept
        with closing(file):
            size = os.fstat(file.fileno()).st_size
            if size > self._chunk.most_stored:
                raise InputError(f"its chunk {self._key(where)} is larger than a chunk can be; get it again")
            return self._keep(where, lambda: self._decoded(where, file.read(size)))

    def _decoded(self, where: Where, data: bytes, inner: Where | None = None) -> NDArray[Any]:
        packing = self._chunk
        if inner is not None:
            assert packing.shard is not None, "there are inner chunks in shards only"
            packing = packing.shard.inner
        try:
            return packing.decode(data)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each codec has errors of its own; all mean the same here
            raise InputError(
                f"its chunk {self._key(where)} is damaged, or becomes other than {packing.nbytes} bytes; get it again"
            ) from error

    def _found(self, name: Hashable) -> NDArray[Any] | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def _keep(self, name: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What was made before, or is made now and kept as long as there is room."""
        kept = self._found(name)
        if kept is not None:
            return kept
        made = make()
        with self._lock:
            if name not in self._kept:
                self._kept[name] = made
                self._bytes += made.nbytes
            while self._bytes > _CACHE and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made

    def _key(self, where: Where) -> str:
        return self._prefix + self._separator.join(map(str, where))

    def _open(self, where: Where) -> IO[bytes] | None:
        """The file of a chunk; None where it is not there, and so holds nothing but what fills an array."""
        path = os.path.join(self._path, self._key(where))  # noqa: PTH118  there may be a million of them
        try:
            # A pipe that is opened waits for somebody to write.
            regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116  as above
            number = (
                os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
                if regular
                else -1
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not regular:
            raise InputError(
                f"its chunk {self._key(where)} is a folder, pipe, socket or device and no file; check the path"
            )
        return os.fdopen(number, "rb")

    def _near(self, first: Sequence[int], end: Sequence[int]) -> Iterator[Where]:
        """The places of chunks from `first` to before `end`, of very many those that are there."""
        if math.prod(b - a for a, b in zip(first, end, strict=True)) <= _LOOKED_FOR:
            yield from itertools.product(*(range(a, b) for a, b in zip(first, end, strict=True)))
            return
        if self._listed is None:
            found = np.array(list(self._keys()), np.int64)
            self._listed = found.reshape(-1, len(self.shape))
        inside = ((self._listed >= first) & (self._listed < end)).all(axis=1)
        yield from (tuple(where) for where in self._listed[inside].tolist())

    def _keys(self) -> Iterator[Where]:
        """The places of the chunks whose names are in the folder."""
        if self._separator == ".":
            names = re.compile(re.escape(self._prefix) + r"\.".join([_NUMBER] * len(self.shape)))
            found = _matching(self._path, names)
        else:
            found = self._below(self._path / self._prefix.rstrip("/"), len(self.shape))
        for where in found:
            if all(place < count for place, count in zip(where, self._grid, strict=True)):
                yield where

    def _below(self, folder: Path, depth: int) -> Iterator[Where]:
        names = re.compile(_NUMBER)
        for (place,) in _matching(folder, names, folders=depth > 1):
            if depth == 1:
                yield (place,)
                continue
            for rest in self._below(folder / str(place), depth - 1):
                yield (place, *rest)


def folder_bytes(folder: Path, enough: int) -> int:
    """Bytes of the files in a folder and below, each counted once; `enough` or a little more where there are more."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for where, _, names in os.walk(folder) if enough > 0 else ():
        for name in names:
            try:
                status = os.stat(os.path.join(where, name))  # noqa: PTH116, PTH118  there may be a million of them
            except OSError:
                continue
            # One file may have many names.
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
                if total >= enough:
                    return total
    return total


def _matching(folder: Path, names: re.Pattern[str], folders: bool = False) -> Iterator[Where]:
    """The numbers in the names of a folder's files, or of its folders; a link to a folder may lead round in circles."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if (found := names.fullmatch(entry.name)) and (not folders or entry.is_dir(follow_symlinks=False)):
                yield tuple(int(number) for number in found.groups())


def _reading(file: IO[bytes]) -> Any:
    def read(place: int, count: int) -> bytes:
        file.seek(place)
        return file.read(count)

    return read


def _copy(part: NDArray[Any] | None, corner: Sequence[int], out: NDArray[Any], low: Sequence[int]) -> None:
    """The numbers of a part that begins at `corner`, as far as they lie in `out`, which begins at `low`."""
    if part is None:
        return
    begin = [max(a, b) for a, b in zip(corner, low, strict=True)]
    end = [min(a + n, b + m) for a, n, b, m in zip(corner, part.shape, low, out.shape, strict=True)]
    if all(a < b for a, b in zip(begin, end, strict=True)):
        target = tuple(slice(a - b, c - b) for a, b, c in zip(begin, low, end, strict=True))
        source = tuple(slice(a - b, c - b) for a, b, c in zip(begin, corner, end, strict=True))
        out[target] = part[source]
