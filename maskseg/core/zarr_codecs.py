"""What Zarr packs a chunk with, undone: a chunk becomes no more bytes than a chunk has, whatever it claims to be.

A kilobyte of zstd, zlib or bzip2 may become a gigabyte, and what unpacks it for Zarr gives all of that before anybody
can count it. Here each is told where to end.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs
import numpy as np

from maskseg.core.optional import need

# What lzma may take beside what it unpacks: as much as its largest presets ask for.
_LZMA_MEMORY, _LZMA_WINDOW = 128 << 20, 64 << 20


class TooMuch(ValueError):
    """A chunk becomes more bytes than a chunk has."""


def unpack(about: Mapping[str, Any], data: Any, most: int) -> Any:
    """A step of a chunk's packing undone.

    Parameters
    ----------
    about : mapping
        The codec as the metadata of Zarr 2 name it: ``id`` and its settings.
    data : bytes or array
    most : int
        Bytes that may come out.

    Returns
    -------
    bytes or array

    Raises
    ------
    TooMuch
        More would come out; no more than `most` and a byte is ever taken for it.
    Exception
        It is damaged: each codec has errors of its own.
    """
    name = about["id"]
    if name in _BOUNDED:
        data = data.tobytes() if isinstance(data, np.ndarray) else data
        unpacked = _BOUNDED[name](data, most, about)
    else:
        # Filters: numbers into numbers of at most eight times the bytes.
        unpacked = need("numcodecs", "slides", "Zarr").get_codec(dict(about)).decode(data)
    if memoryview(unpacked).nbytes > most:
        raise TooMuch
    return unpacked


def _zlib(data: Any, most: int, about: Mapping[str, Any]) -> bytes:
    return _to_the_end(zlib.decompressobj(), data, most)


def _bz2(data: Any, most: int, about: Mapping[str, Any]) -> bytes:
    return _to_the_end(bz2.BZ2Decompressor(), data, most)


def _lzma(data: Any, most: int, about: Mapping[str, Any]) -> bytes:
    kind = about.get("format", lzma.FORMAT_XZ)
    if kind != lzma.FORMAT_RAW:
        return _to_the_end(lzma.LZMADecompressor(kind, memlimit=_LZMA_MEMORY), data, most)
    filters = about.get("filters") or []
    if any(one.get("dict_size", 0) > _LZMA_WINDOW for one in filters):
        raise TooMuch
    return _to_the_end(lzma.LZMADecompressor(kind, filters=filters), data, most)


def _to_the_end(unpacker: Any, data: Any, most: int) -> bytes:
    unpacked: bytes = unpacker.decompress(data, most + 1)
    if len(unpacked) > most:
        raise TooMuch
    if not unpacker.eof:
        raise EOFError("cut short")
    return unpacked


def _gzip(data: Any, most: int, about: Mapping[str, Any]) -> bytes:
    # Of several members, one after the other, as some programs write them.
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        return packed.read(most + 1)


def _zstd(data: Any, most: int, about: Mapping[str, Any]) -> Any:
    # Into so many bytes and no more, whatever its frames say that they become.
    return imagecodecs.zstd_decode(bytes(data), out=most)


def _lz4(data: Any, most: int, about: Mapping[str, Any]) -> Any:
    if int.from_bytes(data[:4], "little") > most:
        raise TooMuch
    return need("numcodecs.lz4", "slides", "Zarr").decompress(data)


def _blosc(data: Any, most: int, about: Mapping[str, Any]) -> Any:
    header = np.frombuffer(data, "<u4", 3, 4)
    unpacked, block, packed = (int(value) for value in header)
    if unpacked > most or block > max(most, 1):
        raise TooMuch
    # What its own header says of its length is what the library goes by.
    if packed > len(data):
        raise EOFError("cut short")
    return need("numcodecs.blosc", "slides", "Zarr").decompress(data)


_BOUNDED: Mapping[str, Callable[[Any, int, Mapping[str, Any]], Any]] = {
    "zlib": _zlib, "gzip": _gzip, "bz2": _bz2, "lzma": _lzma, "zstd": _zstd, "lz4": _lz4, "blosc": _blosc,
}  # fmt: skip
