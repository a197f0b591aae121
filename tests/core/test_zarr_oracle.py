"""Arrays beside zarr itself: what zarr wrote is read as zarr reads it, whole and in parts."""

import functools
import itertools
import random

import numpy as np
import pytest
from packaging.version import Version

from maskseg.core import zarr_arrays
from maskseg.core.zarr_arrays import ZarrArray

zarr = pytest.importorskip("zarr", reason="zarr, the extra `slides`, is not installed")
codecs, numcodecs = pytest.importorskip("zarr.codecs"), pytest.importorskip("numcodecs")


def same(path, made):
    """What zarr and we read of an array, whole and in parts."""
    mine, rng = ZarrArray(path), random.Random(0)
    whole = np.asarray(made[...])
    assert mine.shape == whole.shape and mine.dtype == whole.dtype.newbyteorder("=")
    np.testing.assert_array_equal(mine[(slice(None),) * whole.ndim], whole)
    for _ in range(8):
        box = [slice(*sorted(rng.choices(range(size + 1), k=2))) for size in whole.shape]
        where = tuple(rng.choice([one, rng.randrange(size)]) for one, size in zip(box, whole.shape, strict=True))
        np.testing.assert_array_equal(mine[where], whole[where])


def filled(path, create, kind):
    """An array with values, of which some chunks are not there."""
    values = (np.random.default_rng(0).random((5, 21, 34)) * 100).astype(kind)
    values[:, :9] = 0
    made = create(path, shape=values.shape, dtype=kind)
    made[...] = values
    chunks = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr."))]
    for file in sorted(chunks)[1::3]:
        file.unlink()
    return made


COMPRESSORS = [
    None, numcodecs.Zlib(1), numcodecs.GZip(1), numcodecs.BZ2(1), numcodecs.LZMA(), numcodecs.LZ4(), numcodecs.Zstd(1),
    numcodecs.Blosc("lz4"), numcodecs.Blosc("zlib", shuffle=2),
]  # fmt: skip


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
@pytest.mark.parametrize("kind", ["|u1", "<u2", ">u2", "<f4", "?"])
def test_zarr_2_is_read_as_zarr_reads_it(tmp_path, compressor, kind):
    for order, separator in itertools.product("CF", "./"):
        path = tmp_path / f"{order}{ord(separator)}"
        about = {"compressors": compressor, "order": order, "fill_value": 1, "zarr_format": 2, "chunks": (2, 8, 7)}
        keys = {"name": "v2", "separator": separator}
        same(path, filled(path, functools.partial(zarr.create_array, chunk_key_encoding=keys, **about), kind))


FILTERS = [
    [numcodecs.Delta("<u2", "<i8")],
    [numcodecs.Shuffle(2), numcodecs.CRC32()],
    [numcodecs.FixedScaleOffset(0, 1, "<u2", "<f8"), numcodecs.Fletcher32()],
    [numcodecs.AsType("<f8", "<u2"), numcodecs.Adler32(), numcodecs.CRC32C()],
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("compressor", COMPRESSORS[:2], ids=str)
def test_filters_are_undone(tmp_path, filters, compressor):
    about = {"compressors": compressor, "filters": filters, "fill_value": 0, "zarr_format": 2, "chunks": (2, 8, 7)}
    same(tmp_path / "a", filled(tmp_path / "a", functools.partial(zarr.create_array, **about), "<u2"))


def codecs_3():
    return {
        "none": {"compressors": []},
        "gzip": {"compressors": [codecs.GzipCodec()]},
        "zstd": {"compressors": [codecs.ZstdCodec(checksum=True), codecs.Crc32cCodec()]},
        "blosc": {"compressors": [codecs.BloscCodec(cname="lz4")]},
        "turned": {"filters": [codecs.TransposeCodec(order=(2, 0, 1)), codecs.TransposeCodec(order=(1, 0, 2))]},
    }


def serializers_3():
    big, inner = codecs.BytesCodec(endian="big"), (1, 4, 7)
    turned = [codecs.TransposeCodec(order=(2, 0, 1)), codecs.BytesCodec()]
    nested = codecs.ShardingCodec(
        chunk_shape=(2, 8, 7), codecs=[codecs.ShardingCodec(chunk_shape=inner, codecs=[codecs.BytesCodec()])]
    )
    return {
        "plain": big,
        "shard": codecs.ShardingCodec(chunk_shape=inner, codecs=[big, codecs.GzipCodec()], index_location="start"),
        "index": codecs.ShardingCodec(chunk_shape=inner, codecs=turned, index_codecs=[big, codecs.Crc32cCodec()]),
        "nested": nested,
    }


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc", "turned"])
@pytest.mark.parametrize("serializer", ["plain", "shard", "index", "nested"])
@pytest.mark.filterwarnings("ignore")
def test_zarr_3_is_read_as_zarr_reads_it(tmp_path, codec, serializer):
    if codec == "turned" and serializer != "plain":
        pytest.skip("zarr itself does not write that")
    if serializer != "plain" and Version(zarr.__version__) < Version("3.1.6"):
        pytest.skip("this zarr cannot yet write or read all that is in shards")
    for kind, fill in (("u1", 1), ("i2", -3), ("f4", float("nan")), ("f8", float("-inf")), ("bool", True)):
        about = {"serializer": serializers_3()[serializer], "fill_value": fill, "chunks": (2, 16, 14)}
        create = functools.partial(zarr.create_array, **about, **{"compressors": [], **codecs_3()[codec]})
        same(tmp_path / kind, filled(tmp_path / kind, create, kind))


@pytest.mark.parametrize("keys", list(itertools.product(["default", "v2"], "./")), ids=str)
def test_the_names_of_chunks(tmp_path, keys):
    about = {"chunk_key_encoding": dict(zip(("name", "separator"), keys, strict=True)), "chunks": (2, 8, 7)}
    same(tmp_path / "a", filled(tmp_path / "a", functools.partial(zarr.create_array, fill_value=0, **about), "u1"))


def test_chunks_are_kept_while_there_is_room(tmp_path, monkeypatch):
    made = zarr.create_array(tmp_path / "a", shape=(40, 40), chunks=(10, 10), dtype="u1")
    made[:] = np.arange(1600).reshape(40, 40) % 251
    mine, decoded = ZarrArray(tmp_path / "a"), []
    monkeypatch.setattr(zarr_arrays, "_CACHE", 200)
    plain = ZarrArray._decoded
    monkeypatch.setattr(ZarrArray, "_decoded", lambda *given: decoded.append(given) or plain(*given))
    for count in (2, 2):
        mine[0:10, 0:20]
        assert len(decoded) == count
    mine[0:40, 0:40]
    assert len(decoded) == 16 and mine._bytes <= 200
