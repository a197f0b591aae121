"""What is in a Zarr folder, by its metadata, before it is read: numbers in compressors of numbers, nothing else.

Zarr looks its codecs up in a registry that anybody's package may extend, and one of NumCodecs' own unpickles what it
reads. Here only codecs that turn bytes into numbers pass.

Formats: https://zarr-specs.readthedocs.io, versions 2 and 3.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_NUMBER = re.compile(r"[<>|](b1|[iu][1248]|f[248])")
_NUMBERS_3 = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_CODECS_2 = frozenset(
    {"blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "delta", "shuffle", "fixedscaleoffset", "quantize"}
    | {"bitround", "packbits", "astype", "crc32", "crc32c", "adler32", "fletcher32"}
)
_CODECS_3 = frozenset({"bytes", "gzip", "zstd", "blosc", "crc32c", "transpose"})
_SHARDS = "sharding_indexed"
# Bytes of one metadata file; of one chunk, unpacked; pixels along a side; chunks of a shard; sizes of an image.
_LARGEST_TEXT, _LARGEST_CHUNK, _LONGEST, _SHARDED, _LEVELS = 16 << 20, 1 << 30, 1 << 40, 1 << 22, 64


@dataclass(frozen=True)
class ZarrNode:
    """A folder of a Zarr store: its format, whether it is an array, what is said of it, and how it is stored."""

    zarr_format: int
    is_array: bool
    attributes: dict[str, Any]
    metadata: dict[str, Any]


def zarr_node(path: Path) -> ZarrNode:
    """What a Zarr folder is, by its own metadata, never by the copy that a consolidated store keeps.

    Raises
    ------
    ValueError
        If it is no Zarr folder, or an array of other than numbers or with other codecs than those of numbers.
    """
    if (path / "zarr.json").exists():
        about = _json(path / "zarr.json")
        is_array = about.get("node_type") == "array"
        if about.get("zarr_format") != 3 or (not is_array and about.get("node_type") != "group"):
            raise ValueError("its zarr.json is not of Zarr 3")
        if is_array:
            _check_3(about)
        return ZarrNode(3, is_array, _object(about.get("attributes", {})), about)
    attributes = _json(path / ".zattrs") if (path / ".zattrs").exists() else {}
    is_array = (path / ".zarray").exists()
    if not is_array and not (path / ".zgroup").exists():
        raise ValueError("there is no zarr.json, .zarray or .zgroup in it")
    about = _json(path / (".zarray" if is_array else ".zgroup"))
    if about.get("zarr_format") != 2:
        raise ValueError("its metadata is not of Zarr 2")
    if is_array:
        _check_2(about)
    return ZarrNode(2, is_array, attributes, about)


def zarr_parts(path: Path, names: Any, zarr_format: int) -> list[Path]:
    """The arrays of a group, by their paths in it, each of the group's format and checked as `zarr_node` does.

    Raises
    ------
    ValueError
        If a name leads out of the group, or to no array of numbers.
    """
    if not isinstance(names, list) or not 1 <= len(names) <= _LEVELS:
        raise ValueError(f"it has to name 1 to {_LEVELS} arrays")
    parts = []
    for name in names:
        pure = PurePosixPath(name) if isinstance(name, str) and "\0" not in name and "\\" not in name else None
        if pure is None or pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise ValueError(f"the array {str(name)[:60]!r} is not in it")
        node = zarr_node(path / pure)
        if not node.is_array or node.zarr_format != zarr_format:
            raise ValueError(f"{name[:60]} is no array of Zarr {zarr_format}")
        parts.append(path / pure)
    return parts


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.name} is no file")
    if path.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{path.name} has over {_LARGEST_TEXT >> 20} MB")
    try:
        return _object(json.loads(path.read_bytes()))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("its metadata are no keys with values")
    return value


def _sides(value: Any, what: str, count: int | None = None) -> list[int]:
    if not isinstance(value, list) or not 1 <= len(value) <= 8 or (count and len(value) != count):
        raise ValueError(f"its {what} is {str(value)[:40]}")
    if not all(type(side) is int and 1 <= side <= _LONGEST for side in value):
        raise ValueError(f"its {what} is {str(value)[:40]}")
    return value


def _check_chunk(sides: list[int], itemsize: int) -> None:
    if math.prod(sides) * itemsize > _LARGEST_CHUNK:
        raise ValueError(f"its chunks of {sides} are larger than {_LARGEST_CHUNK >> 20} MB; save it in smaller ones")


def _check_fill(value: Any) -> None:
    named = isinstance(value, str) and (value.strip("-") in ("NaN", "Infinity") or re.fullmatch("0x[0-9a-f]+", value))
    if not (value is None or isinstance(value, (int, float)) or named):
        raise ValueError(f"it is filled with {str(value)[:40]!r}, no number")


def _check_2(about: dict[str, Any]) -> None:
    dtype = about.get("dtype")
    if not isinstance(dtype, str) or not _NUMBER.fullmatch(dtype):
        raise ValueError(f"it holds values of type {str(dtype)[:40]!r}, no numbers; save it as numbers")
    shape = _sides(about.get("shape"), "shape")
    _check_chunk(_sides(about.get("chunks"), "chunk shape", len(shape)), int(dtype[2:]))
    _check_fill(about.get("fill_value"))
    filters = about.get("filters") or []
    if not isinstance(filters, list) or len(filters) > 8:
        raise ValueError("its filters are no list")
    for codec in (*filters, *([about["compressor"]] if about.get("compressor") is not None else [])):
        name = codec.get("id") if isinstance(codec, dict) else codec
        if not isinstance(name, str) or name not in _CODECS_2:
            raise ValueError(_refused(name, _CODECS_2))
        for key in ("dtype", "astype", "encode_dtype", "decode_dtype"):
            kind = codec.get(key)
            if kind is not None and not (isinstance(kind, str) and _NUMBER.fullmatch(kind)):
                raise ValueError(f"its codec {name} makes values of type {str(kind)[:40]!r}, no numbers")


def _check_3(about: dict[str, Any]) -> None:
    kind = about.get("data_type")
    if not isinstance(kind, str) or not _NUMBERS_3.fullmatch(kind):
        raise ValueError(f"it holds values of type {str(kind)[:40]!r}, no numbers; save it as numbers")
    itemsize = max(int(kind.lstrip("uintfloabe") or 8) // 8, 1)
    shape = _sides(about.get("shape"), "shape")
    grid = _object(about.get("chunk_grid"))
    if grid.get("name") != "regular":
        raise ValueError(f"its chunk grid is {str(grid.get('name'))[:40]!r}; save it with a regular one")
    chunk = _sides(_object(grid.get("configuration")).get("chunk_shape"), "chunk shape", len(shape))
    _check_fill(about.get("fill_value"))
    if about.get("storage_transformers"):
        raise ValueError("it names storage transformers")
    _check_codecs_3(about.get("codecs"), chunk, itemsize)


def _check_codecs_3(codecs: Any, chunk: list[int], itemsize: int, depth: int = 0) -> None:
    """Codecs of a chunk; those of a shard hold the codecs of the chunks in it."""
    if not isinstance(codecs, list) or not 1 <= len(codecs) <= 8 or depth > 2:
        raise ValueError("its codecs are no list")
    sharded = False
    for codec in codecs:
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name == _SHARDS:
            about, sharded = _object(codec.get("configuration")), True
            inner = _sides(about.get("chunk_shape"), "chunk shape", len(chunk))
            if math.prod(-(-outer // side) for outer, side in zip(chunk, inner, strict=True)) > _SHARDED:
                raise ValueError(f"its shards of {chunk} hold over {_SHARDED} chunks")
            _check_codecs_3(about.get("codecs"), inner, itemsize, depth + 1)
            _check_codecs_3(about.get("index_codecs"), [1], 16, 2)
        elif not isinstance(name, str) or name not in _CODECS_3:
            raise ValueError(_refused(name, _CODECS_3))
    if not sharded:
        _check_chunk(chunk, itemsize)


def _refused(name: Any, known: frozenset[str]) -> str:
    return f"its codec {str(name)[:40]!r} is not one for numbers; save it with one of {', '.join(sorted(known))}"
